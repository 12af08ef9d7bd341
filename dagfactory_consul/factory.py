"""The factory: creates builders by name, from a configuration that stands in Consul or in code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from .builders import DagBuilder, Definition
from .decisions import Decision
from .errors import BuildError, near_miss
from .models import SEPARATOR, describe_bad_id, describe_bad_tenant_id, explain, is_id, is_tenant_id
from .spec import DagSpec

if TYPE_CHECKING:
    from .registry import Registry


class DAGFactory:
    """Creates builders for one environment.

    Args:
        environment: `production`, `staging`, …: builders see it as `self.environment`.
        registry: where to look names up; the builders of the settings unless given.
    """

    def __init__(self, environment: str, registry: Registry | None = None) -> None:
        self.environment = environment
        self._registry = registry

    def create(
        self,
        builder: str,
        config: Mapping[str, Any] | BaseModel | None = None,
        *,
        name: str | None = None,
        tenant: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        flags: Mapping[str, Any] | None = None,
    ) -> DagBuilder[Any]:
        """Return the builder of that name, with its configuration validated.

        Args:
            builder: as `@builder` has named it: `ProcessMessages`.
            config: by the builder's model; a part of a `ProjectConfig`, a mapping or a model.
            name: of the DAG, or of the group; the builder's in snake case unless given here or in the configuration.
            tenant: for whom; the DAG's id then begins with it.
            attributes: of the tenant.
            flags: values for the flags that the builder declares; a project's configuration knows its own, and its
                defaults count where neither says anything.

        Raises:
            BuilderError: there is no builder of that name.
            BuildError: the configuration does not fit the builder.
        """
        definition = self._known()[builder]
        content = _plain(config.model_dump(mode="json") if isinstance(config, BaseModel) else config or {})
        own_name = content.pop("name", None)
        chosen = name or own_name or definition.dag_name
        if not is_id(chosen):
            raise BuildError(f"{builder}: the DAG's name {describe_bad_id(str(chosen))}")
        if tenant is not None and not is_tenant_id(tenant):
            raise BuildError(f"{builder}: the tenant {describe_bad_tenant_id(tenant)}")
        if tenant is None and name is None and SEPARATOR in chosen:
            raise BuildError(
                f"{builder}: name: {chosen!a} has a `{SEPARATOR}`, as the ids of tenants' DAGs have: take another name"
            )
        for each in flags or {}:
            if each not in definition.flags:
                raise BuildError(f"{builder} declares no flag {each!r}{near_miss(each, definition.flags)}")
        try:
            model = definition.config.model_validate(content)
        except ValidationError as error:
            raise BuildError(f"{builder}: {explain(error, definition.config)}") from error
        decide = getattr(config, "decide", None)
        decisions = decide(definition) if decide is not None else {}
        for each, default in definition.flags.items():
            decisions.setdefault(each, Decision(default, None, "DEFAULT"))
        decisions.update({each: Decision(value, None, "STATIC") for each, value in (flags or {}).items()})
        spec = DagSpec(
            dag_id=f"{tenant}{SEPARATOR}{chosen}" if tenant else chosen,
            builder=builder,
            name=chosen,
            environment=self.environment,
            config=model.model_dump(mode="json"),
            tenant=tenant,
            attributes=dict(attributes or {}),
            decisions=decisions,
        )
        if not isinstance(config, BaseModel):
            _refuse_templates(spec, definition)
        return definition.cls(spec, model)

    def _known(self) -> Registry:
        if self._registry is None:
            from .registry import load_builders
            from .settings import Settings

            self._registry = load_builders(Settings.read())
        return self._registry


def _refuse_templates(spec: DagSpec, definition: Definition) -> None:
    """Refuse templates outside fields that are Templated. A text there is code, or the plan has checked it.

    Raises:
        BuildError: a template stands elsewhere. As a model a configuration is code, and is not looked at.
    """
    from . import references, templates

    if templates.may_hold(spec.weigh()):
        given = {"attributes": dict(spec.attributes), "flags": spec.flags}
        reason = templates.explain(given) or references.explain_in(spec.config, definition.config, "", None, None)
        if reason:
            raise BuildError(f"{spec.builder}: {reason}")


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return dictionaries all the way down: pydantic takes no other mapping where it expects a model."""
    return {name: _plain(each) if isinstance(each, Mapping) else each for name, each in config.items()}
