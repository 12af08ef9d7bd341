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
_TIMETABLE = {
    "type_name": "timetable_type",
    "summary": "timetable_summary",
    "description": "timetable_description",
}
"""Attributes of a timetable as Airflow's processor decodes it, and columns of the table `dag`."""
_ASSET = {"name": "name", "uri": "uri", "group": "group"}


def unfit(dag: DAG, data: Mapping[str, Any] | None = None) -> str | None:
    """Say which value Airflow's database cannot hold, with its name, and what it may be; None if all fit.

    Values themselves are not repeated, but for numbers.

    Args:
        dag: built.
        data: the same, serialised; None: only what the DAG itself shows is looked at.
    """
    return next(_faults(dag, data), None)


def _faults(dag: DAG, data: Mapping[str, Any] | None) -> Iterator[str]:
    tables = _tables()
    yield from _of(dag, _DAG, tables["dag"], "")
    yield from _delays(dag, ("dagrun_timeout",), "")
    yield from _tags(dag, tables["dag_tag"]["name"])
    for owner, link in (dag.owner_links or {}).items():
        for value, column in ((owner, "owner"), (link, "link")):
            if reason := _why_not(value, tables["dag_owner_attributes"][column]):
                yield f"owner_links: {column} {reason}"
    for task in dag.tasks:
        where = f"task {_short(task.task_id)}: "
        yield from _of(task, _TASK, tables["task_instance"], where)
        if reason := _why_not(getattr(task, "owner", None), tables["dag"]["owners"]):
            yield f"{where}owner {reason}"
        yield from _delays(task, _DELAYS, where)
    yield from _weights(dag, tables["task_instance"]["priority_weight"])
    if data is not None:
        yield from _of_schedule_and_assets(data, tables)


def _tags(dag: DAG, column: Column) -> Iterator[str]:
    seen: dict[str, str] = {}
    for each in sorted(dag.tags):
        if reason := _why_not(each, column):
            yield f"a tag {reason}"
        elif (same := seen.setdefault(each.casefold(), each)) != each:
            yield f"the tags {_short(same)!a} and {_short(each)!a} differ in case alone, and are one tag to MySQL"


def _delays(thing: Any, names: tuple[str, ...], where: str) -> Iterator[str]:
    for name in names:
        value = getattr(thing, name, None)
        if isinstance(value, timedelta) and value > _LONGEST:
            yield f"{where}{name} is longer than {_LONGEST.days:,} days, beyond what dates reach"


def _weights(dag: DAG, column: Column) -> Iterator[str]:
    """Check what Airflow makes of `priority_weight`: most tasks count those that depend on them as well."""
    weights = {task.task_id: getattr(task, "priority_weight", 0) or 0 for task in dag.tasks}
    if _why_not(sum(map(abs, weights.values())), column) is None:
        return  # no sum of some of them can be too large
    for task in dag.tasks:
        rule = _rule(task)
        if rule not in ("downstream", "upstream"):
            continue
        others = task.get_flat_relative_ids(upstream=rule == "upstream")
        if reason := _why_not(weights[task.task_id] + sum(weights[each] for each in others), column):
            yield f"task {_short(task.task_id)}: priority_weight with that of its {rule} tasks {reason}"


def _rule(task: Any) -> str:
    """Return the name of a task's weight rule: Airflow keeps one of its own as a name, or as the strategy of that."""
    from airflow.task.priority_strategy import (
        get_weight_rule_from_priority_weight_strategy,
        validate_and_load_priority_weight_strategy,
    )

    try:
        strategy = validate_and_load_priority_weight_strategy(task.weight_rule)
        return str(get_weight_rule_from_priority_weight_strategy(type(strategy)))
    except (KeyError, ValueError):
        return ""  # a plugin's own, which only it can work out


def _of_schedule_and_assets(data: Mapping[str, Any], tables: Mapping[str, Mapping[str, Column]]) -> Iterator[str]:
    from airflow.dag_processing.collection import AssetModelOperation
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    lazy = LazyDeserializedDAG(data=data)  # as Airflow's processor receives it
    yield from _of(lazy.timetable, _TIMETABLE, tables["dag"], "schedule: its ")
    found = AssetModelOperation.collect({lazy.dag_id: lazy})
    for asset in found.assets.values():
        yield from _of(asset, _ASSET, tables["asset"], f"asset {_short(asset.name)}: ")
    for alias in found.asset_aliases.values():
        yield from _of(alias, {"name": "name", "group": "group"}, tables["asset_alias"], "an asset alias: ")


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
    from airflow.models.asset import AssetAliasModel, AssetModel
    from airflow.models.dag import DagModel, DagOwnerAttributes, DagTag
    from airflow.models.taskinstance import TaskInstance

    models = (AssetAliasModel, AssetModel, DagModel, DagOwnerAttributes, DagTag, TaskInstance)
    return {each.__tablename__: _columns(each.__table__) for each in models}


def _columns(table: Table) -> dict[str, Column]:
    from sqlalchemy import BigInteger, Integer

    return {
        each.name: Column(
            getattr(each.type, "length", None),
            isinstance(each.type, Integer) and not isinstance(each.type, BigInteger),
        )
        for each in table.columns
    }
