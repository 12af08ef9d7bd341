"""What a tenant may choose, as the defaults say it: pools, queues, owners, tags, priorities, and which fields."""

from __future__ import annotations

import functools
from collections.abc import Container, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from . import fields
from .builders import DRAINING, FORMER
from .models import OPERATOR_ONLY
from .problems import printable
from .references import matches, named

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .tenants import Allow

_LISTS = {"pool": ("pools", "default_pool"), "queue": ("queues", "default"), "owner": ("owners", None)}
"""The list in `allow` for a field, and Airflow's own default, which null chooses; an owner's is the tenant."""
_PRIORITY = 1
_FIELDS = (*_LISTS, "priority")


def explain_choice(
    airflow: Mapping[str, Any], path: str, allow: Allow, tenant: str, reserved: Container[str]
) -> str | None:
    """Say what an `airflow` of a tenant's document chooses that it may not; None if it may choose all that.

    Args:
        airflow: as it stands in the document.
        path: where it stands there.
        allow: what the defaults allow.
        tenant: whose it is.
        reserved: the tags that are the factory's own, besides those of a DAG's state.
    """
    for field, (name, default) in _LISTS.items():
        patterns = getattr(allow, name)
        if field not in airflow or patterns is None:
            continue
        # null takes away what the defaults say (RFC 7386).
        value = (default or tenant) if airflow[field] is None else airflow[field]
        if not _any(value, patterns, tenant):
            return _refusal(f"{path}.{field}", name, patterns, tenant)
    priority = _PRIORITY if airflow.get("priority", ...) is None else airflow.get("priority")
    if isinstance(priority, int | float) and allow.priorities is not None:  # the model refuses all else
        lowest, highest = allow.priorities
        if not lowest <= priority <= highest:
            return (
                f"{path}.priority: {priority} is not within {lowest} to {highest}, which `allow` in the defaults says"
            )
    return explain_tags(airflow.get("tags") or (), f"{path}.tags", allow, tenant, reserved)


def explain_tags(tags: Any, path: str, allow: Allow, tenant: str, reserved: Container[str]) -> str | None:
    """Say which of a tenant's tags it may not choose; None if it may choose all of them."""
    for tag in filter(_is_text, tags if isinstance(tags, list | tuple) else ()):  # the model refuses all else
        if tag.strip().casefold() in {DRAINING, FORMER} or tag in reserved:
            return f"{path}: {tag!r} is a tag that the factory gives: take another one"
        if allow.tags is not None and not _any(tag, allow.tags, tenant):
            return _refusal(path, "tags", allow.tags, tenant)
    return None


def without_defaults() -> dict[str, None]:
    """Return what an `airflow` that is null chooses: Airflow's own defaults, for all that may be bounded."""
    return dict.fromkeys(_FIELDS)


def explain_operators_field(entry: Mapping[str, Any], model: type[BaseModel], path: str) -> str | None:
    """Say which field of a tenant's entry only the defaults may set; None if none is."""
    if not _has_operators_fields(model):
        return None
    place = next(_operators(entry, model, path), None)
    return None if place is None else f"{place}: only the defaults may set this field: remove it"


@functools.lru_cache(maxsize=256)
def _has_operators_fields(model: type[BaseModel]) -> bool:
    return _mentions_operator(model)


def _mentions_operator(annotation: Any) -> bool:
    found = [each for _, cls in fields.classes(annotation) for each in fields.fields_of(cls).values()]
    return any(OPERATOR_ONLY in notes for each in (annotation, *found) for notes in _notes(each))


def _notes(annotation: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what is noted beside an annotation, and beside those in it: `list[OperatorOnly[str]]`."""
    for bare, notes in fields.members(annotation):
        yield notes
        for inner in get_args(bare) if get_origin(bare) is not Literal else ():
            yield from _notes(inner)


def _operators(value: Any, annotation: Any, path: str) -> Iterator[str]:
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for part, each in parts:
        place = f"{path}[{part}]" if isinstance(part, int) else f"{path}.{printable(str(part), 100)}"
        for inner in fields.below(annotation, part):
            takes_away = each is None and _mentions_operator(inner)  # all that the defaults say below it
            if takes_away or any(OPERATOR_ONLY in notes for _, notes in fields.members(inner)):
                yield place
            yield from _operators(each, inner, place)


def _any(value: Any, patterns: tuple[str, ...], tenant: str) -> bool:
    return any(matches(str(value), pattern, tenant) for pattern in patterns)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _refusal(place: str, name: str, patterns: tuple[str, ...], tenant: str) -> str:
    return f"{place}: is none of the {name} that `allow` in the defaults names: {named(patterns, tenant)}"
