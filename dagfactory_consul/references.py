"""Which templates a builder's configuration may hold: in fields that are Templated, references that a list names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel

from . import fields
from .models import TEMPLATED
from .problems import printable, some
from .templates import Path, find, place_of, refusal

_OF_CONNECTION = ("conn_id", "conn_type", "host", "login", "password", "port", "schema", "extra")
_LONGEST = 4_096
_FORMS = "{{ conn.<id>.<field> }} and {{ <macro> }}"


def explain_in(
    value: Any,
    model: type[BaseModel],
    start: str,
    allowed: Mapping[str, tuple[str, ...]] | None,
    tenant: str | None,
) -> str | None:
    """Say which template of a builder's configuration is refused, where, why, and what to do; None if none is.

    Args:
        value: the configuration, or a part of it.
        model: the builder's.
        start: where it stands in its document.
        allowed: `connections` and `macros` that a field that is Templated may refer to; None for all that Jinja can.
        tenant: whose it is, for patterns with `{tenant}`; None for the defaults, which any tenant's may pass.
    """
    of_code = None
    for path, text in find(value):
        of_code = of_defaults(model) if of_code is None else of_code
        place = place_of(start, path)
        if text is None or not _is_templated(model, path):
            if text is None or text not in of_code:
                return refusal(place, can_declare=text is not None)
        elif allowed is not None and text not in of_code and (reason := explain_references(text, allowed, tenant)):
            return f"{place}: {reason}"
    return None


def explain_references(text: str, allowed: Mapping[str, tuple[str, ...]], tenant: str | None) -> str | None:
    """Say which part of a template is not allowed; None if all of it is."""
    from jinja2 import Environment, TemplateSyntaxError, nodes

    if len(text) > _LONGEST or "{%" in text or "{#" in text:
        return f"a template may hold nothing but {_FORMS}, in at most {_LONGEST:,} letters"
    try:
        body = Environment(autoescape=True).parse(text).body  # is parsed, and never rendered
    except (TemplateSyntaxError, RecursionError):
        return f"is no template that Jinja can read: it may hold nothing but {_FORMS}"
    for output in body:
        for node in output.nodes if isinstance(output, nodes.Output) else [output]:
            if not isinstance(node, nodes.TemplateData) and (reason := _explain_node(node, allowed, tenant)):
                return reason
    return None


def _explain_node(node: Any, allowed: Mapping[str, tuple[str, ...]], tenant: str | None) -> str | None:
    from jinja2 import nodes

    if isinstance(node, nodes.Name):
        if node.name in allowed["macros"]:
            return None
        said = named(allowed["macros"], tenant)
        return f"{{{{ {printable(node.name, 60)} }}}} is none of the macros that `allow` in the defaults names: {said}"
    if not (
        isinstance(node, nodes.Getattr)
        and isinstance(node.node, nodes.Getattr)
        and isinstance(node.node.node, nodes.Name)
        and node.node.node.name == "conn"
    ):
        return f"a template may hold nothing but {_FORMS}: no filter, call, subscript, operator or constant"
    connection, field = node.node.attr, node.attr
    if field not in _OF_CONNECTION:
        return f"a connection has no {printable(field, 60)!r}; known: {', '.join(_OF_CONNECTION)}"
    if any(matches(connection, pattern, tenant) for pattern in allowed["connections"]):
        return None
    said = named(allowed["connections"], tenant)
    return f"the connection {printable(connection, 60)!r} is none of those that `allow` in the defaults names: {said}"


def named(patterns: Sequence[str], tenant: str | None) -> str:
    """Return what a list of `allow` names, for a tenant who chose something else."""
    return some([each.replace("{tenant}", tenant or "{tenant}") for each in patterns]) or "it names none"


def matches(text: str, pattern: str, tenant: str | None) -> bool:
    """Say whether a text is as a pattern says: `*` and `?` as in a shell, `{tenant}` is the tenant's id."""
    return fnmatchcase(text, pattern.replace("{tenant}", "*" if tenant is None else tenant))


def of_defaults(model: type[BaseModel]) -> set[str]:
    """Return the texts with templates that the models' own defaults hold: they are the builder's code."""
    return {text for value in defaults_of(model) for _, text in find(value) if text is not None}


def defaults_of(model: type[BaseModel]) -> Iterator[Any]:
    """Yield the defaults of a model's fields, at every depth, as JSON has them."""
    for _, cls in fields.classes(model):
        if not (isinstance(cls, type) and issubclass(cls, BaseModel)):
            continue
        for field in cls.model_fields.values():
            try:
                value = field.get_default(call_default_factory=True)
            except Exception:  # noqa: BLE001, S112  # a factory that wants other fields' values
                continue
            yield _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _is_templated(model: type[BaseModel], path: Path) -> bool:
    """Say whether the model declares each text at a place as Templated."""
    found = fields.of_texts(model, path)
    return bool(found) and all(TEMPLATED in notes for _, notes in found)
