"""Whether a DAG with a schedule will ever run: Airflow says nothing of one that never does."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG

SHORTEST = timedelta(seconds=10)
"""Runs that follow each other sooner are refused: Airflow's scheduler creates each of them, and others' runs wait."""
_LOOKS = 3
"""So many intervals are looked at."""


def why_never(dag: DAG, data: Mapping[str, Any]) -> str | None:
    """Say why Airflow can work out no run of a DAG, or far too many; None if it can, or the DAG has no schedule.

    Args:
        dag: built.
        data: the same, serialised: its timetable is decoded as Airflow's processor does it.
    """
    timetable = json.dumps(data["dag"]["timetable"], sort_keys=True, default=str)
    starts = [each for each in (dag.start_date, *(task.start_date for task in dag.tasks)) if each is not None]
    return _why_never(timetable, min(starts, default=None), dag.end_date)


@functools.lru_cache(maxsize=4096)
def _why_never(encoded: str, start: datetime | None, end: datetime | None) -> str | None:
    # By schedule, since thousands of DAGs have the same few. What depends on the present time is not asked.
    from airflow.serialization.decoders import decode_timetable

    try:
        return _first_runs(decode_timetable(json.loads(encoded)), start, end)
    except Exception as error:  # noqa: BLE001  # Airflow's own timetables and other people's raise anything
        return f"its schedule gives no run: {type(error).__name__}: {error}"


def _first_runs(timetable: Any, start: datetime | None, end: datetime | None) -> str | None:
    from airflow.timetables.base import TimeRestriction
    from pendulum import instance

    if not timetable.can_be_scheduled or not timetable.periodic:
        return None
    earliest = instance(start) if start is not None else None
    latest = instance(end) if end is not None else None
    # As if it caught up, since the present time must not decide; where there is no start only that can.
    restriction = TimeRestriction(earliest=earliest, latest=latest, catchup=earliest is not None)
    last = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction)
    if last is None:
        return "its schedule gives no run between its start_date and its end_date"
    for _ in range(_LOOKS):
        following = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=restriction)
        if following is None:
            return None
        if following.run_after - last.run_after < SHORTEST:
            return f"its schedule gives runs that follow each other in less than {SHORTEST.seconds} s"
        last = following
    return None
