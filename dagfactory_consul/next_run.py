"""Whether a DAG with a schedule will ever run: Airflow says nothing of one that never does."""

from __future__ import annotations

import functools
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG

_SUMMARY = 1000
"""Letters of a timetable's description, at most: Airflow's column `dag.timetable_description`."""


def why_never(dag: DAG, data: dict[str, Any]) -> str | None:
    """Say why Airflow can work out no first run of a DAG; None if it can, or the DAG has no schedule.

    Args:
        dag: built.
        data: the same, serialised: its timetable is decoded as Airflow's processor does it.
    """
    timetable = json.dumps(data["dag"]["timetable"], sort_keys=True, default=str)
    return _why_never(timetable, dag.start_date, dag.end_date)


@functools.lru_cache(maxsize=4096)
def _why_never(encoded: str, start: datetime | None, end: datetime | None) -> str | None:
    # By schedule, since thousands of DAGs have the same few. What depends on the present time is not asked.
    from airflow.serialization.decoders import decode_timetable

    try:
        timetable = decode_timetable(json.loads(encoded))
        if len(timetable.description or "") > _SUMMARY or len(timetable.summary or "") > _SUMMARY:
            return f"its schedule takes more than {_SUMMARY:,} letters to describe"
        return _first(timetable, start, end)
    except Exception as error:  # noqa: BLE001  # Airflow's own timetables and other people's raise anything
        return f"its schedule gives no run: {type(error).__name__}: {error}"


def _first(timetable: Any, start: datetime | None, end: datetime | None) -> str | None:
    from airflow.timetables.base import TimeRestriction
    from pendulum import instance

    if not timetable.can_be_scheduled or not timetable.periodic:
        return None
    earliest = instance(start) if start is not None else None
    latest = instance(end) if end is not None else None
    # As if it caught up, since the present time must not decide.
    restriction = TimeRestriction(earliest=earliest, latest=latest, catchup=True)
    found = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    return "its schedule gives no run between its start_date and its end_date" if found is None else None
