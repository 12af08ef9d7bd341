"""Tenants' DAGs from a configuration service: what a flag or a client's configuration says is what runs on Airflow.

The names below are imported when they are first used: importing this package imports neither Airflow nor an HTTP
client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .builders import DagBuilder
    from .client import CachedClient, ConfigClient
    from .factory import DAGFactory
    from .loader import load_dags, load_problems
    from .models import AirflowSettings, DagConfig, Model, OperatorOnly, Templated
    from .project import ProjectConfig
    from .registry import builder
    from .stores import open_store

__version__ = "0.1.0"

__all__ = [
    "AirflowSettings",
    "CachedClient",
    "ConfigClient",
    "DAGFactory",
    "DagBuilder",
    "DagConfig",
    "Model",
    "OperatorOnly",
    "ProjectConfig",
    "Templated",
    "builder",
    "load_dags",
    "load_problems",
    "open_store",
]

_HOMES = {
    "AirflowSettings": "models",
    "CachedClient": "client",
    "ConfigClient": "client",
    "DAGFactory": "factory",
    "DagBuilder": "builders",
    "DagConfig": "models",
    "Model": "models",
    "OperatorOnly": "models",
    "ProjectConfig": "project",
    "Templated": "models",
    "builder": "registry",
    "load_dags": "loader",
    "load_problems": "loader",
    "open_store": "stores",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
