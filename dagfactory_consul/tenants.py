"""The documents of tenants and of the defaults, and how one lies over another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from .models import AirflowSettings, Model

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Macro = Literal[
    "ds",
    "ds_nodash",
    "ts",
    "ts_nodash",
    "ts_nodash_with_tz",
    "run_id",
    "logical_date",
    "data_interval_start",
    "data_interval_end",
]
"""The names that a template of a document can be allowed to use: each is a text that Airflow knows of a run."""


class Allow(Model):
    """What tenants may choose. Patterns as in a shell; `{tenant}` is the tenant's id. null: anything."""

    pools: tuple[Pattern, ...] | None = Field(None, description="Of tasks")
    queues: tuple[Pattern, ...] | None = Field(None, description="Of tasks")
    owners: tuple[Pattern, ...] | None = Field(None, description="Shown in Airflow's UI")
    tags: tuple[Pattern, ...] | None = Field(None, description="Shown in Airflow's UI")
    priorities: tuple[int, int] | None = Field(None, description="The lowest and the highest priority_weight")
    connections: tuple[Pattern, ...] = Field((), description="That a template in a Templated field may refer to")
    macros: tuple[Macro, ...] = Field((), description="That a template in a Templated field may refer to")


class TenantLayer(Model):
    """What the defaults may say for every tenant, and a tenant for itself. Builders' entries are validated by them."""

    enabled: bool = Field(default=True, strict=True, description="Whether the tenant runs anything at all")
    attributes: dict[str, Any] = Field({}, description="What flags may target and builders may read: tier, region, …")
    airflow: AirflowSettings = Field(default_factory=AirflowSettings, description="For all DAGs of the tenant")
    dags: dict[str, dict[str, Any] | list[dict[str, Any]]] = Field(
        {}, description="By builder; a list is several variations"
    )


class Tenant(TenantLayer):
    """A tenant's document."""


class DefaultsLayer(TenantLayer):
    """What the defaults say for an environment. Here `dags` holds one entry a builder, under every variation."""

    dags: dict[str, dict[str, Any]] = Field({}, description="By builder, merged under each of its entries")  # type: ignore[assignment]
    allow: Allow = Field(default_factory=Allow, description="What a tenant may choose, and what its templates may name")


class Defaults(DefaultsLayer):
    """The defaults' document: merged under every tenant, and its environment's layer over it."""

    environments: dict[str, DefaultsLayer] = Field({}, description="By environment, over the rest")


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one document over another: objects are merged, anything else replaces, null takes away (RFC 7386)."""
    result = dict(under)
    for name, value in over.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            below = result.get(name)
            result[name] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            result[name] = value
    return result
