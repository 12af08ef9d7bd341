"""The loader: a DAG file's way to the tenants' DAGs, on any Airflow 3.3."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any

from .runtime import PARSING_DAG_ID
from .settings import Settings


def load_dags(namespace: MutableMapping[str, Any], **settings: Any) -> None:
    """Put the tenants' DAGs into a DAG file's namespace: `load_dags(globals())`.

    At a parse these are all DAGs in force; where a task starts, only the one that it belongs to, even if it was
    switched off a moment ago. A tenant whose configuration is wrong keeps its last good DAGs, and harms nobody else;
    what is wrong is raised by `load_problems`, from a file of its own.

    Args:
        namespace: `globals()` of the DAG file.
        settings: any of the settings, over Airflow's configuration: `environment="staging"`.

    Raises:
        SettingsError: a setting is unknown, or its value cannot be understood.
        NothingKnownError: no store answers, and there is no local copy. Never an empty set of DAGs.
        BuildError: the one DAG that a task needs cannot be built.
    """
    known = Settings.read(**settings)
    # A task start imports next to nothing of a parse, and the other way round.
    if dag_id := os.environ.get(PARSING_DAG_ID):
        from .task_start import load_one

        found = load_one(known, dag_id)
        dags = [found] if found is not None else []
    else:
        from .parse import load_all

        dags = load_all(known)
    namespace.update({dag.dag_id: dag for dag in dags})


def load_problems(**settings: Any) -> None:
    """Raise the problems of the tenants, so that they stand in Airflow's list of import errors. For a file of its own.

    A file that raises loses its DAGs, and this one has none.

    Raises:
        ProblemsError: something is wrong with a tenant, a flag, a builder or the store; the message lists it all.
    """
    if os.environ.get(PARSING_DAG_ID):
        return
    from .errors import ProblemsError
    from .problems import told
    from .release import load_problems as in_release
    from .runtime import client_of, release_path

    known = Settings.read(**settings)
    lines = [*client_of(known).problems(), *told(in_release(release_path(known)))]
    if lines:
        raise ProblemsError("\n".join([f"{len(lines)} to mend; all else is in force", *lines]))
