"""The checks of a plan: templates, choices and fields that a document may not hold, as the defaults say it.

They are made for each DAG of each tenant, so each asks first whether there is anything to look at.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import allowed, references, templates
from .tenants import Allow, merge

if TYPE_CHECKING:
    from .builders import Definition
    from .spec import DagSpec


class Checks:
    """What a tenant may write, by the defaults that are in force.

    Args:
        allow: the `allow` of these defaults.
        reserved: the tags that are the factory's own, besides `draining`: the builders' names.
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
        airflow, tags = entry.get("airflow"), entry.get("tags")
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
