"""The checks of a plan: keys that nobody reads, and what a document may not hold, in part as the defaults say it.

They are made for each document or DAG, so each asks first whether there is anything to look at.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from . import allowed, references, templates
from .errors import near_miss
from .guard import DEFAULTS
from .models import describe_bad_id, describe_bad_tenant_id, explain, is_id, is_tenant_id
from .problems import Problem
from .sensitive import explain_secret, find_secret
from .stores.base import FOLDERS, READY
from .tenants import Allow, Tenant, merge

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .builders import Definition
    from .snapshot import Document
    from .spec import DagSpec

_JSON_NAMES = {type(None): "null", list: "a list", str: "a string", bool: "true or false"}


class Checks:
    """What a tenant may write, by the defaults that are in force.

    Args:
        allow: the `allow` of these defaults.
        reserved: the tags that are the factory's own, besides those of a DAG's state: the builders' names.
    """

    def __init__(self, allow: Allow, reserved: Container[str]) -> None:
        self.allow = allow
        self.reserved = reserved
        self._is_bounded = any(each is not None for each in (allow.pools, allow.queues, allow.owners, allow.priorities))

    def explain_airflow(self, airflow: Mapping[str, Any], path: str, tenant: str) -> str | None:
        """Say what an `airflow` of a tenant's document chooses that it may not; None if it may choose all that."""
        if not self._is_bounded and "tags" not in airflow:
            return None
        return allowed.explain_choice(airflow, path, self.allow, tenant, self.reserved)

    def explain_entry(self, entry: Mapping[str, Any], definition: Definition, path: str, tenant: str) -> str | None:
        """Say what a tenant's entry sets that only the defaults may, or chooses that it may not."""
        if reason := allowed.explain_operators_field(entry, definition.config, path):
            return reason
        airflow, tags = entry.get("airflow", {}), entry.get("tags")
        if airflow is None:
            airflow = allowed.without_defaults()
        if isinstance(airflow, dict) and (reason := self.explain_airflow(airflow, f"{path}.airflow", tenant)):
            return reason
        return allowed.explain_tags(tags, f"{path}.tags", self.allow, tenant, self.reserved) if tags else None

    def explain_built(self, spec: DagSpec, definition: Definition, path: str) -> str | None:
        """Say which template that is not allowed a builder would be given.

        A model may make a template of what is none in the document, so what the builder is given is looked at.
        """
        if not templates.may_hold(spec.weigh()):
            return None
        given = {"attributes": dict(spec.attributes), "flags": spec.flags}
        return templates.explain(given) or references.explain_in(
            spec.config, definition.config, path, _names(self.allow), spec.tenant
        )


def explain_invalid(document: Document, model: type[BaseModel], *, is_decoded: bool = False) -> str | None:
    """Say what a document has wrong by its model, or that it holds a secret; None if it is good.

    Args:
        document: of a tenant, or the defaults.
        model: of it.
        is_decoded: whether this version of the package has decoded it: then it was looked through for secrets.
    """
    # First, since what else is wrong may repeat values.
    if not is_decoded and (where := find_secret(document.value)):
        return explain_secret(where)
    if not isinstance(document.value, dict):
        what = "a tenant" if model is Tenant else "the defaults"
        given = _JSON_NAMES.get(type(document.value), "a number")
        return f"expected an object with the fields of {what}, not {given}"
    try:
        model.model_validate(document.value)
    except ValidationError as error:
        return explain(error, model)
    return None


def explain_count(content: Mapping[str, Any], most: int) -> str | None:
    """Say that a tenant's document describes too many DAGs, whether they are on or not; None if it does not."""
    count = sum(len(each) if isinstance(each, list) else 1 for each in (content.get("dags") or {}).values())
    if count <= most:
        return None
    return (
        f"dags: it describes {count:,} DAGs, and a tenant may have {most:,}: remove some, or raise the setting "
        "AIRFLOW__DAGFACTORY_CONSUL__MAX_DAGS"
    )


def explain_key(document: Document) -> Problem | None:
    """Return the problem of a document's key, or of a document that is read nowhere else; None if it has none."""
    key, malformed = document.key, document.malformed
    folder, slash, name = key.partition("/")
    if folder == "tenants" and slash and is_id(name) and not is_tenant_id(name):
        return Problem(key, describe_bad_tenant_id(name), name)
    if folder in FOLDERS and slash:
        if malformed and (folder == "projects" or not is_id(name)):
            return Problem(key, malformed)  # those of tenants and flags are noted where they are read
        return None if is_id(name) else Problem(key, describe_bad_id(name))
    if key == "tenants":  # still here: the list could not be read (see `snapshot`)
        return Problem(key, malformed or "")
    if key not in (DEFAULTS, READY):
        return Problem(key, malformed or f"nobody reads this key{near_miss(folder, [*FOLDERS, DEFAULTS])}")
    return None


def explain_templates_of_tenant(content: Mapping[str, Any], text: str) -> str | None:
    """Say which template a tenant's document holds for all of its DAGs; those of its entries are theirs.

    Args:
        content: of the document.
        text: the document as JSON: without a template in it nothing is looked at.
    """
    if not templates.may_hold(text):
        return None
    return templates.explain({name: each for name, each in content.items() if name != "dags"})


def explain_templates_of_defaults(content: Mapping[str, Any], builders: Mapping[str, Definition]) -> str | None:
    """Say which template of the defaults is not allowed."""
    if next(templates.find(content), None) is None:
        return None
    return next(filter(None, _in_defaults(content, builders)), None)


def _in_defaults(content: Mapping[str, Any], builders: Mapping[str, Definition]) -> Iterator[str | None]:
    layers = [("", content)]
    layers += [(f"environments.{name}.", each) for name, each in (content.get("environments") or {}).items()]
    for start, layer in layers:
        rest = {name: each for name, each in layer.items() if name not in ("dags", "environments")}
        yield templates.explain(rest, start.rstrip("."))
        allow = Allow.model_validate(merge(content.get("allow") or {}, layer.get("allow") or {}))
        for builder, entry in (layer.get("dags") or {}).items():
            path = f"{start}dags.{builder}"
            if builder in builders:
                yield references.explain_in(entry, builders[builder].config, path, _names(allow), None)
            else:
                yield templates.explain(entry, path)


def _names(allow: Allow) -> dict[str, tuple[str, ...]]:
    return {"connections": allow.connections, "macros": allow.macros}
