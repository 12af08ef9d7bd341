"""What Airflow shows of this package as a provider: its name, the connection type, and its settings."""

from __future__ import annotations

from typing import Any

from . import __version__
from .settings import SECTION, Settings


def get_provider_info() -> dict[str, Any]:
    """Return the provider's info, by Airflow's schema (`airflow/provider_info.schema.json`)."""
    options = {
        name: {
            "description": about,
            "version_added": "0.1.0",
            "type": kind,
            "example": example,
            "default": default,
        }
        for name, kind, default, example, about in Settings.describe()
    }
    return {
        "package-name": "dagfactory-consul",
        "name": "DAG Factory for Consul",
        "description": "DAGs for many tenants from client configurations and feature flags in Consul.",
        "versions": [__version__],
        "connection-types": [
            {
                "connection-type": "consul",
                "hook-class-name": "dagfactory_consul.hook.ConsulHook",
                "hook-name": "Consul",
            }
        ],
        "config": {SECTION: {"description": "Tenants' DAGs from a configuration service.", "options": options}},
    }
