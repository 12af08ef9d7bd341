"""Which DAGs have unfinished runs, asked from within a parse: a draining DAG stays until it has none."""

from __future__ import annotations

import logging
import random
import threading
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

    The processor answers nobody while its database is locked, on SQLite for half a minute, and Airflow breaks off a
    parse that takes so long: the file would lose all its DAGs. So a thread asks, and is waited for `patience` seconds.
    It is not broken off, for the next answer on the channel is that of its question; the parse's result waits for it.

    Args:
        dag_ids: to ask for.
        budget: seconds for questions, from the first answer.
        patience: seconds for all of it.
    """

    def __init__(self, dag_ids: Iterable[str], *, budget: float = 2.0, patience: float = 10.0) -> None:
        self._dag_ids = list(dag_ids)
        self._budget = budget
        self._patience = patience

    @cached_property
    def _answers(self) -> dict[str, bool | None]:
        from airflow.sdk.execution_time import task_runner

        channel = getattr(task_runner, "SUPERVISOR_COMMS", None)
        answers: dict[str, bool | None] = {}
        if channel is None or not self._dag_ids:
            return answers
        import airflow.sdk.execution_time.comms  # noqa: F401  # not within the thread: an import has no time limit

        asking = threading.Thread(target=self._ask_all, args=(channel, answers), daemon=True)
        asking.start()
        asking.join(self._patience)
        if asking.is_alive():
            log.warning("Airflow's processor does not say which DAGs have unfinished runs: those that drain stay")
        return dict(answers)

    def _ask_all(self, channel: object, answers: dict[str, bool | None]) -> None:
        deadline = float("inf")
        for dag_id in random.sample(self._dag_ids, len(self._dag_ids)):
            if time.monotonic() > deadline:
                break
            try:
                answers[dag_id] = self._ask(channel, dag_id)
            except Exception as error:  # noqa: BLE001  # whatever fails there, the DAG just drains on
                log.warning("Cannot find out whether %s has unfinished runs: %s", dag_id, error)
            deadline = min(deadline, time.monotonic() + self._budget)

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
