"""What Airflow loads of this package as a plugin: what a task's start needs, imported before that process is forked."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


class DagFactoryPlugin(AirflowPlugin):
    """Shortens the start of tasks: schedulers and workers load plugins, and the tasks that they fork inherit that."""

    name = "dagfactory_consul"

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Import it, and compile what can be. Airflow calls this once in each process that loads plugins."""
        from . import bundle, generated, worker  # noqa: F401  # for those that are forked from here
        from .models import DagConfig

        class AnyConfig(DagConfig):
            """Stands for each builder's own model: pydantic compiles now what they all share."""

        AnyConfig.model_validate({})
