"""Which DAGs have unfinished runs, asked from within a parse: a draining DAG stays until it has none."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

log = logging.getLogger(__name__)

_RUN_STATES = ("queued", "running")
_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


class UnfinishedRuns:
    """Asks the processor, through the channel that a parse has for Variables and Connections.

    Each question costs tens of milliseconds, and the first one of a processor's life some seconds, so it asks no more
    once `budget` seconds are gone: what is not asked now is asked at the next refresh.
    """

    def __init__(self, *, budget: float = 2.0) -> None:
        self._deadline = time.monotonic() + budget

    def __call__(self, dag_id: str) -> bool | None:
        """Say whether a DAG has unfinished runs; None where it cannot be known: outside a processor, or out of time."""
        from airflow.sdk.execution_time import task_runner

        channel = getattr(task_runner, "SUPERVISOR_COMMS", None)
        if channel is None or time.monotonic() > self._deadline:
            return None
        try:
            return self._ask(channel, dag_id)
        except Exception as error:  # noqa: BLE001  # whatever fails there, the DAG just drains on
            log.warning("Cannot find out whether %s has unfinished runs: %s", dag_id, error)
            return None

    def _ask(self, channel: object, dag_id: str) -> bool | None:
        from airflow.sdk.execution_time.comms import (
            GetPreviousDagRun,
            GetTaskStates,
            PreviousDagRunResult,
            TaskStatesResult,
        )

        for state in _RUN_STATES:
            answer = channel.send(GetPreviousDagRun(dag_id=dag_id, logical_date=_END_OF_TIME, state=state))  # type: ignore[attr-defined]
            if not isinstance(answer, PreviousDagRunResult):
                return None
            if answer.dag_run is not None:
                return True
        # A run that was started by hand or by an asset may have no logical date, and so not be among those.
        answer = channel.send(GetTaskStates(dag_id=dag_id))  # type: ignore[attr-defined]
        if not isinstance(answer, TaskStatesResult):
            return None
        return any(state not in _ENDED for run in answer.task_states.values() for state in run.values())
