"""What Airflow's database says is in use: unfinished runs, the versions they need, where DAGs stand, what is shown.

Only for the DAG processor's own process, which works on that database anyway. Parses and tasks have no access to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select, union

_CHUNK = 500
"""How many values a query compares with, at most: SQLite and others have limits."""


def unfinished(dag_ids: Collection[str]) -> dict[str, bool]:
    """Say of each DAG whether it has runs that are queued or running. Raises what SQLAlchemy does."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.state import State

    found: set[str] = set()
    for some in _chunks(dag_ids):
        query = select(DagRun.dag_id).where(DagRun.dag_id.in_(some), DagRun.state.in_(State.unfinished_dr_states))
        found.update(_first_column(query.distinct()))
    return {dag_id: dag_id in found for dag_id in dag_ids}


def versions_in_use(bundle: str) -> set[str]:
    """Return the versions of a bundle that a DAG points to or an unfinished run may need. Raises what SQLAlchemy does.

    A file that is not parsed again keeps its DAGs at the version of its last parse.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import State

    of_dags = select(DagModel.bundle_version).where(DagModel.bundle_name == bundle, ~DagModel.is_stale)
    # By id and not by bundle: DAGs that are stale by now may still have runs.
    runs = select(DagRun.id).where(DagRun.state.in_(State.unfinished_dr_states)).scalar_subquery()
    of_runs = select(DagRun.bundle_version).where(DagRun.state.in_(State.unfinished_dr_states))
    of_tasks = (
        select(DagVersion.bundle_version)
        .join(TaskInstance, TaskInstance.dag_version_id == DagVersion.id)
        .join(DagRun, (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id))
        .where(DagRun.id.in_(runs), DagVersion.bundle_name == bundle)
    )
    return {version for version in _first_column(union(of_dags, of_runs, of_tasks)) if version}


class Parsed(NamedTuple):
    """Where Airflow has last found a DAG, when, and in which version."""

    file: str
    """Below its bundle."""
    at: float
    """Seconds since the epoch."""
    version: str = ""
    """The bundle's version by then, as the processor knew it that has found it; empty where there is none."""


def parsed(dag_ids: Collection[str]) -> dict[str, Parsed]:
    """Return where, when and in which version Airflow has last found each DAG that it knows.

    Raises what SQLAlchemy does.
    """
    from airflow.models.dag import DagModel

    found = {}
    for some in _chunks(dag_ids):
        columns = (DagModel.dag_id, DagModel.relative_fileloc, DagModel.last_parsed_time, DagModel.bundle_version)
        for dag_id, file, at, version in _rows(select(*columns).where(DagModel.dag_id.in_(some))):
            found[dag_id] = Parsed(file or "", at.timestamp() if at is not None else 0.0, version or "")
    return found


def pointed_at(bundle: str, files: Collection[str]) -> set[str]:
    """Return those of the files that a current DAG of the bundle still points to. Raises what SQLAlchemy does."""
    from airflow.models.dag import DagModel

    found: set[str] = set()
    for some in _chunks(files):
        query = select(DagModel.relative_fileloc).where(
            DagModel.bundle_name == bundle, ~DagModel.is_stale, DagModel.relative_fileloc.in_(some)
        )
        found.update(_first_column(query.distinct()))
    return found


class Elsewhere(NamedTuple):
    """Where another bundle has a DAG."""

    bundle: str
    refreshed: float
    """When a DAG processor refreshed that bundle last, in seconds since the epoch; 0.0 if none did."""
    file: str = ""
    """The DAG's file on the machine that has parsed it last."""


def elsewhere(bundle: str, dag_ids: Collection[str] | None) -> dict[str, Elsewhere]:
    """Return which current DAGs are another bundle's that Airflow has not disabled. Raises what SQLAlchemy does.

    Args:
        bundle: whose DAGs are left out.
        dag_ids: which to look for; None for all.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel

    query = (
        select(DagModel.dag_id, DagModel.bundle_name, DagBundleModel.last_refreshed, DagModel.fileloc)
        .join(DagBundleModel, DagBundleModel.name == DagModel.bundle_name)
        .where(DagModel.bundle_name != bundle, ~DagModel.is_stale, DagBundleModel.active.is_(True))
    )
    queries = [query] if dag_ids is None else [query.where(DagModel.dag_id.in_(some)) for some in _chunks(dag_ids)]
    return {
        dag_id: Elsewhere(name, at.timestamp() if at is not None else 0.0, file or "")
        for each in queries
        for dag_id, name, at, file in _rows(each)
    }


def unlisted(bundle: str, dag_ids: Collection[str]) -> set[str]:
    """Return those of the DAGs that Airflow's list lacks as current ones of the bundle. Raises what SQLAlchemy does.

    Usually there are none: as many as there should be are taken for the right ones, until one that is gone is stale.
    """
    from airflow.models.dag import DagModel

    is_current = (DagModel.bundle_name == bundle, ~DagModel.is_stale)
    if _first_column(select(func.count()).where(*is_current)) == [len(dag_ids)]:
        return set()
    return set(dag_ids).difference(_first_column(select(DagModel.dag_id).where(*is_current)))


def pools() -> set[str]:
    """Return the names of all pools. Raises what SQLAlchemy does."""
    from airflow.models.pool import Pool

    return set(_first_column(select(Pool.pool)))


def import_errors(bundle: str) -> dict[str, str]:
    """Return what Airflow shows as the import errors of a bundle's files, by file. Raises what SQLAlchemy does."""
    from airflow.models.errors import ParseImportError

    columns = (ParseImportError.filename, ParseImportError.stacktrace)
    return {
        file: text or "" for file, text in _rows(select(*columns).where(ParseImportError.bundle_name == bundle)) if file
    }


def has_dags(bundle: str) -> bool:
    """Say whether Airflow's list has DAGs of a bundle, stale ones aside. Raises what SQLAlchemy does."""
    from airflow.models.dag import DagModel

    return bool(_rows(select(DagModel.dag_id).where(DagModel.bundle_name == bundle, ~DagModel.is_stale).limit(1)))


def deployed_version(bundle: str) -> str | None:
    """Return the version of a bundle that Airflow has seen last; None if there is none. Raises what SQLAlchemy does."""
    from airflow.models.dagbundle import DagBundleModel

    return next(iter(_first_column(select(DagBundleModel.version).where(DagBundleModel.name == bundle))), None)


def show_import_error(bundle: str, file: str, text: str) -> None:
    """Have Airflow show a text as the import error of a file until it parses that. Raises what SQLAlchemy does."""
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session

    with create_session() as session:
        session.execute(
            delete(ParseImportError).where(ParseImportError.bundle_name == bundle, ParseImportError.filename == file)
        )
        now = datetime.now(UTC)
        session.add(ParseImportError(bundle_name=bundle, filename=file, timestamp=now, stacktrace=text))


def forget_import_errors(bundle: str, files: Collection[str]) -> None:
    """Have Airflow show no import errors of some files, as it does itself for files that it does not find any more.

    Raises what SQLAlchemy does.
    """
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session

    with create_session() as session:
        for some in _chunks(files):
            session.execute(
                delete(ParseImportError).where(
                    ParseImportError.bundle_name == bundle, ParseImportError.filename.in_(some)
                )
            )


def _first_column(query: Any) -> list[Any]:
    return [row[0] for row in _rows(query)]


def _rows(query: Any) -> list[Any]:
    from airflow.utils.session import create_session

    with create_session() as session:
        return list(session.execute(query))


def _chunks(values: Collection[str]) -> Iterable[list[str]]:
    ordered = list(values)
    return (ordered[start : start + _CHUNK] for start in range(0, len(ordered), _CHUNK))
