"""The models that builders see: what every DAG's configuration has in common; ids; and what to say of bad input."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from .errors import near_miss
from .problems import MAX_PROBLEMS, printable

ID_PATTERN = r"[a-z0-9][a-z0-9_-]{0,62}"
"""Tenants, flags, projects and DAG names: they become file names and DAG ids, so ASCII and short."""

MAX_NUMBER = 2**31 - 1
"""Airflow's columns hold numbers of 32 bits. One that is larger would end its scheduler, or its DAG processor."""

SEPARATOR = "__"
"""Parts the tenant's id from the DAG's name in a DAG id."""

T = TypeVar("T")
TEMPLATED = "may hold a template of Airflow's"
OPERATOR_ONLY = "only the defaults may set it"

Templated = Annotated[str, TEMPLATED]
"""A text that a builder hands to a templated field of an operator as it is. All other texts of documents hold no
template; this one holds those references that `allow` in the defaults names."""
OperatorOnly = Annotated[T, OPERATOR_ONLY]
"""`OperatorOnly[str]`: a field that the defaults may set, and no tenant's document."""

Tag = Annotated[str, StringConstraints(min_length=1, max_length=100)]  # Airflow's column holds 100 characters

_is_id = re.compile(ID_PATTERN).fullmatch


def _in_utc(moment: datetime) -> datetime:
    """Give a moment without an offset, or without any to speak of, the one time zone that Airflow calls UTC."""
    return moment.replace(tzinfo=UTC) if not moment.utcoffset() else moment


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class Model(BaseModel):
    """An object that refuses unknown fields, and is not changed once it is read: a base for nested models, too."""

    # Schemas are compiled when they are first needed: most processes need few of them.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class AirflowSettings(Model):
    """What applies to a whole DAG and all of its tasks. A field that is not set leaves Airflow's own default."""

    owner: str | None = Field(None, min_length=1, max_length=500, description="Shown in Airflow's UI")
    pool: str | None = Field(None, min_length=1, max_length=256, description="The pool whose slots the tasks take")
    queue: str | None = Field(None, min_length=1, max_length=256, description="The executor's queue for the tasks")
    tags: tuple[Tag, ...] = Field((), description="Shown in Airflow's UI, besides the tenant and the builder")
    priority: int | None = Field(
        None, ge=-MAX_NUMBER, le=MAX_NUMBER, strict=True, description="priority_weight of the tasks"
    )
    concurrency: int | None = Field(
        None, ge=1, le=MAX_NUMBER, strict=True, description="Tasks of the DAG that run at once, at most"
    )
    retries: int | None = Field(None, ge=0, le=MAX_NUMBER, strict=True, description="Retries of a task")
    retry_delay: float | None = Field(
        None, ge=0, le=31_536_000, allow_inf_nan=False, description="Seconds between retries, up to a year"
    )


class DagConfig(Model):
    """What every DAG's configuration has in common: the base of each builder's own model."""

    schedule: str | None = Field(
        None, max_length=250, description="A cron expression or preset (@hourly); null: only by hand"
    )
    start_date: Moment = Field(
        datetime(2024, 1, 1, tzinfo=UTC), description="No run is before it; UTC unless it says so"
    )
    end_date: Moment | None = Field(None, description="No run is after it")
    catchup: bool = Field(default=False, strict=True, description="Run for the time between start_date and now as well")
    max_active_runs: int | None = Field(
        None, ge=1, le=MAX_NUMBER, strict=True, description="Runs of the DAG at once, at most"
    )
    description: str | None = Field(None, max_length=5_000, description="Shown in Airflow's UI")
    tags: tuple[Tag, ...] = Field((), description="Shown in Airflow's UI, besides the tenant's")
    airflow: AirflowSettings = Field(default_factory=AirflowSettings, description="Over the tenant's own `airflow`")


_FOR_THE_WHOLE = ("missing", "value_error", "assertion_error")
"""The kinds of errors that a part of a document may have, and the whole of it not."""


def is_id(text: object) -> bool:
    """Say whether it may be the id of a tenant, a flag, a project or a DAG's name."""
    return isinstance(text, str) and _is_id(text) is not None


def is_tenant_id(text: object) -> bool:
    """Say whether it may be the id of a tenant.

    The first `__` of a DAG id parts the tenant's id from the DAG's name, so a tenant's id has none, and ends in no `_`.
    """
    return isinstance(text, str) and is_id(text) and SEPARATOR not in text and not text.endswith("_")


def describe_bad_tenant_id(text: str) -> str:
    """Say what is wrong with a tenant's id, and what to do."""
    if not is_id(text):
        return describe_bad_id(text)
    return (
        f"{text!a} is no id of a tenant: `__` parts it from the DAG's name, so it has no `__` and does not end in `_`. "
        "Its last good DAGs stay. Write the document under another id, and then remove this key"
    )


def describe_bad_id(text: str) -> str:
    """Say what is wrong with an id, without repeating 300 characters of it."""
    shown = text if len(text) <= 40 else f"{text[:40]}… ({len(text)} characters)"
    return f"{shown!a} is not an id: it takes 1 to 63 of a-z, 0-9, _ and -, and begins with a letter or a digit"


def explain(error: ValidationError, model: type[BaseModel], path: str = "", *, partial: bool = False) -> str:
    """Say on one line what a document has wrong: each field, what was found there, and the near miss.

    Of a `partial` document, which another one will complete, only what that cannot mend.
    """
    found = []
    told = [each for each in error.errors(include_url=False) if not (partial and each["type"] in _FOR_THE_WHOLE)]
    for each in told[:MAX_PROBLEMS]:
        place = [printable(str(part), 100) for part in each["loc"]]
        where = ".".join(filter(None, [path, *place])) or "the document"
        if each["type"] == "extra_forbidden":
            known = _fields_at(model, each["loc"][:-1])
            found.append(f"{where}: unknown field{near_miss(str(each['loc'][-1]), known)}")
        elif each["type"] == "missing":
            found.append(f"{where}: is required")
        else:
            found.append(f"{where}: {each['msg'][:1].lower()}{each['msg'][1:]}, not {shown(each['input'])}")
    more = f"; and {len(told) - MAX_PROBLEMS:,} more" if len(told) > MAX_PROBLEMS else ""
    return "; ".join(found) + more


def shown(value: object) -> str:
    """Return a value without any text that a tenant wrote: all tenants may read Airflow's import errors."""
    if isinstance(value, str):
        return f"a text of {len(value):,} letter{'s' * (len(value) > 1)}" if value else "an empty text"
    if isinstance(value, dict | list | tuple):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value):,}"
    return str(value)[:40]


def _fields_at(model: type[BaseModel], place: Iterable[int | str]) -> list[str]:
    """Name the fields of the model, or of the model nested in it at `place`."""
    for part in place:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
