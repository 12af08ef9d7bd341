"""What Airflow's database can hold of a DAG and its tasks, by Airflow's own tables.

A value that does not fit ends the DAG processor or the scheduler at the moment it is written, and again at each restart
(apache/airflow#59120, #65379, #68263): PostgreSQL and MySQL refuse what SQLite takes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from airflow.sdk import DAG
    from sqlalchemy import Table

_SHOWN = 60
_DELAYS = ("retry_delay", "max_retry_delay", "execution_timeout")
_LONGEST = timedelta(days=36_500)
"""Airflow's scheduler adds delays to the present time, and ends where no date is so late."""


class Column(NamedTuple):
    """What one column takes."""

    letters: int | None
    """The longest text; None: any length, or it holds numbers."""
    is_number: bool
    """Whether it holds an integer of 32 bits, signed."""


_DAG = {
    "dag_id": "dag_id",
    "dag_display_name": "dag_display_name",
    "description": "description",
    "owner": "owners",
    "max_active_tasks": "max_active_tasks",
    "max_active_runs": "max_active_runs",
    "max_consecutive_failed_dag_runs": "max_consecutive_failed_dag_runs",
    "fileloc": "fileloc",
}
"""Attributes of a DAG, and the columns of Airflow's table `dag` that they are written to."""
_TASK = {
    "task_id": "task_id",
    "task_display_name": "task_display_name",
    "pool": "pool",
    "pool_slots": "pool_slots",
    "queue": "queue",
    "priority_weight": "priority_weight",
    "retries": "max_tries",
    "task_type": "operator",
    "operator_name": "custom_operator_name",
    "executor": "executor",
}
"""Attributes of a task, and the columns of Airflow's table `task_instance`."""


def unfit(dag: DAG) -> str | None:
    """Say which value Airflow's database cannot hold, with its name, and what it may be; None if all fit.

    Values themselves are not repeated, but for numbers.
    """
    return next(_faults(dag), None)


def _faults(dag: DAG) -> Iterator[str]:
    tables = _tables()
    yield from _of(dag, _DAG, tables["dag"], "")
    tag = tables["dag_tag"]["name"]
    for each in sorted(dag.tags):
        if reason := _why_not(each, tag):
            yield f"a tag {reason}"
    for task in dag.tasks:
        yield from _of(task, _TASK, tables["task_instance"], f"task {_short(task.task_id)}: ")
        if reason := _why_not(getattr(task, "owner", None), tables["dag"]["owners"]):
            yield f"task {_short(task.task_id)}: owner {reason}"
        yield from _delays(task)


def _delays(task: Any) -> Iterator[str]:
    for name in _DELAYS:
        value = getattr(task, name, None)
        if isinstance(value, timedelta) and value > _LONGEST:
            yield f"task {_short(task.task_id)}: {name} is longer than {_LONGEST.days:,} days, beyond what dates reach"


def _of(thing: Any, names: Mapping[str, str], columns: Mapping[str, Column], where: str) -> Iterator[str]:
    for name, column in names.items():
        if reason := _why_not(getattr(thing, name, None), columns[column]):
            yield f"{where}{name} {reason}"


def _why_not(value: Any, column: Column) -> str | None:
    if isinstance(value, str):
        if "\0" in value:
            return "holds the character NUL, which no database takes"
        if column.letters is not None and len(value) > column.letters:
            return f"has {len(value):,} letters, and Airflow's database takes {column.letters:,}"
    elif column.is_number and isinstance(value, int | float) and not -(2**31) <= value < 2**31:
        return f"is {_short(str(value))}, and Airflow's database takes numbers of 32 bits, up to {2**31 - 1:,}"
    return None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


@functools.cache
def _tables() -> dict[str, dict[str, Column]]:
    """Return the columns of Airflow's own tables; a process asks once, since its tables take a while to import."""
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.taskinstance import TaskInstance

    return {each.__tablename__: _columns(each.__table__) for each in (DagModel, DagTag, TaskInstance)}


def _columns(table: Table) -> dict[str, Column]:
    from sqlalchemy import BigInteger, Integer

    return {
        each.name: Column(
            getattr(each.type, "length", None),
            isinstance(each.type, Integer) and not isinstance(each.type, BigInteger),
        )
        for each in table.columns
    }
