"""Which DAGs have unfinished runs, asked from within a parse: a draining DAG stays until it has none."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property

log = logging.getLogger(__name__)

_RUN_STATES = ("queued", "running")
_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


class UnfinishedRuns:
    """Asks the processor, through the channel that a parse has for Variables and Connections.

    Each question costs tens of milliseconds, so it asks no more once `budget` seconds are gone since the first answer,
    which takes some seconds once in a processor's life. What is not asked now may be at the next refresh: the order is
    random, so that no DAG waits behind others for ever.
    """

    def __init__(self, dag_ids: Iterable[str], *, budget: float = 2.0) -> None:
        self._dag_ids = list(dag_ids)
        self._budget = budget

    @cached_property
    def _answers(self) -> dict[str, bool | None]:
        from airflow.sdk.execution_time import task_runner

        channel = getattr(task_runner, "SUPERVISOR_COMMS", None)
        answers: dict[str, bool | None] = {}
        if channel is None:
            return answers
        deadline = float("inf")
        for dag_id in random.sample(self._dag_ids, len(self._dag_ids)):
            if time.monotonic() > deadline:
                break
            try:
                answers[dag_id] = self._ask(channel, dag_id)
            except Exception as error:  # noqa: BLE001  # whatever fails there, the DAG just drains on
                log.warning("Cannot find out whether %s has unfinished runs: %s", dag_id, error)
            deadline = min(deadline, time.monotonic() + self._budget)
        return answers

    def __call__(self, dag_id: str) -> bool | None:
        """Say whether a DAG has unfinished runs; None where it cannot be known: outside a processor, or out of time."""
        return self._answers.get(dag_id)

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
