from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from airflow.sdk.api.datamodels._generated import DagRun
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetPreviousDagRun,
    GetTaskStates,
    PreviousDagRunResult,
    TaskStatesResult,
)

from dagfactory_consul.runs import UnfinishedRuns

Install = Callable[["Processor"], None]


class Processor:
    """Answers as Airflow's processor does, for one DAG with these runs."""

    def __init__(self, *, runs: tuple[str, ...] = (), tasks: dict[str, dict[str, str | None]] | None = None) -> None:
        self.runs = runs
        self.tasks = tasks or {}
        self.asked: list[object] = []

    def send(self, message: object) -> object:
        self.asked.append(message)
        if isinstance(message, GetPreviousDagRun):
            return PreviousDagRunResult(dag_run=run_in(message.state) if message.state in self.runs else None)
        assert isinstance(message, GetTaskStates)
        return TaskStatesResult(task_states=self.tasks)


class Refusing(Processor):
    """Answers that it could not find out."""

    def send(self, message: object) -> object:
        self.asked.append(message)
        return ErrorResponse()


class Broken(Processor):
    """Has closed the channel."""

    def send(self, message: object) -> object:
        raise BrokenPipeError(message)


class Locked(Processor):
    """Answers nobody while its database is locked."""

    def __init__(self) -> None:
        super().__init__(runs=("running",))
        self.unlocked = threading.Event()
        self.answered = threading.Event()

    def send(self, message: object) -> object:
        self.unlocked.wait()
        self.answered.set()
        return super().send(message)


def run_in(state: str | None) -> DagRun:
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    known = {"dag_id": "a__x", "run_id": "r", "run_type": "scheduled", "state": state, "run_after": moment}
    empty = ("logical_date", "data_interval_start", "data_interval_end", "end_date", "partition_key")
    return DagRun.model_validate({**dict.fromkeys(empty), **known, "start_date": moment, "consumed_asset_events": []})


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a processor at the other end of the channel that a parse has."""
    return lambda processor: monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", processor, raising=False)


@pytest.mark.parametrize(
    ("processor", "unfinished"),
    [
        (Processor(), False),
        (Processor(runs=("running",)), True),
        (Processor(runs=("queued",)), True),
        (Processor(runs=("success",)), False),
        (Processor(tasks={"manual": {"only": "running"}}), True),
        (Processor(tasks={"manual": {"first": "success", "last": None}}), True),
        (Processor(tasks={"manual": {"only": "success"}, "other": {"only": "failed"}}), False),
        (Refusing(), None),
        (Broken(), None),
    ],
)
def test_whether_a_dag_has_unfinished_runs(install: Install, processor: Processor, unfinished: bool | None) -> None:
    """A queued or running run, or a task that has not ended, is unfinished; what cannot be found out is not known."""
    install(processor)
    assert UnfinishedRuns(["a__x"])("a__x") is unfinished


def test_outside_a_processor_nobody_knows() -> None:
    """Where there is no processor to ask the answer is that it is not known."""
    assert UnfinishedRuns(["a__x"])("a__x") is None


def test_no_more_questions_than_there_is_time_for(install: Install) -> None:
    """When the time for questions is over the rest is not known, and is not asked; one always is, whichever."""
    install(processor := Processor(runs=("running", "queued")))
    runs = UnfinishedRuns(["a__x", "a__y", "a__z"], budget=-1.0)
    assert sorted([runs("a__x"), runs("a__y"), runs("a__z")], key=str) == [None, None, True]
    assert len(processor.asked) == 1


def test_a_processor_that_does_not_answer_is_not_waited_for(install: Install) -> None:
    """Airflow breaks off a parse that takes too long. The question is not broken off: its answer is read, later."""
    install(processor := Locked())
    assert UnfinishedRuns(["a__x"], patience=0.1)("a__x") is None
    processor.unlocked.set()
    assert processor.answered.wait(10)
