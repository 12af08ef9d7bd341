"""What Airflow cannot take of a built DAG, whichever builder made it; held against a real database of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from dagfactory_consul.errors import BuildError
from dagfactory_consul.verify import verify

POOLS = {"default_pool", "gold"}


def a_dag(task: dict[str, Any] | None = None, **arguments: Any) -> DAG:
    """Return a DAG of one task that is good but for these arguments."""
    good: dict[str, Any] = {"schedule": "@daily", "start_date": datetime(2024, 1, 1, tzinfo=UTC)}
    with DAG("evil", auto_register=False, **{**good, **arguments}) as dag:  # noqa: AIR002  # the schedule is among them
        EmptyOperator(**{"task_id": "only", **(task or {})})
    return dag


POISONS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "retries over 32 bits": ({"retries": 3_000_000_000}, {}, "task only: retries is 3000000000, and .* up to 2,147"),
    "a long queue": ({"queue": "q" * 300}, {}, "task only: queue has 300 letters, and Airflow's database takes 256"),
    "a long pool": ({"pool": "p" * 300}, {}, "pool has 300 letters"),
    "slots over 32 bits": ({"pool_slots": 2**40}, {}, "task only: pool_slots is 1099511627776"),
    "a long owner": ({"owner": "o" * 2_100}, {}, "owner has 2,100 letters, and Airflow's database takes 2,000"),
    "a long executor": ({"executor": "e" * 1_100}, {}, "executor"),
    "NUL in a queue": ({"queue": "a\0b"}, {}, "task only: queue holds the character NUL"),
    "NUL in a task's text": ({"doc_md": "a\0b"}, {}, "a text in it holds the character NUL"),
    "NUL in a description": ({}, {"description": "a\0b"}, "description holds the character NUL"),
    "NUL in a tag": ({}, {"tags": ["a\0b"]}, "a tag holds the character NUL"),
    "runs over 32 bits": ({}, {"max_active_runs": 3_000_000_000}, "max_active_runs is 3000000000"),
    "tasks over 32 bits": ({}, {"max_active_tasks": 2**31}, "max_active_tasks is 2147483648"),
    "runs over 64 bits": ({}, {"max_active_runs": 10**30}, "max_active_runs is 1000000"),
    "a number over 64 bits": ({"params": {"n": 10**30}}, {}, "a number in it takes more than 64 bits"),
    "a schedule of 800 letters": (
        {},
        {"schedule": ",".join(["1"] * 400) + " * * * *"},
        "more than 1,000 letters",
    ),
    "a day that never comes": ({}, {"schedule": "0 0 31 2 *"}, "its schedule gives no run: .*next date"),
    "a start at the end of time": ({}, {"start_date": datetime(9999, 12, 31, tzinfo=UTC)}, "its schedule gives no run"),
    "an end before the start": (
        {},
        {"end_date": datetime(2023, 1, 1, tzinfo=UTC)},
        "no run between its start",
    ),
    "a delay of ages": (
        {"retry_delay": timedelta(days=10**8)},
        {},
        "task only: retry_delay is longer than",
    ),
}


@pytest.mark.parametrize("case", POISONS)
def test_what_airflow_cannot_take(case: str) -> None:
    """A value that would end one of Airflow's processes, or lose a file, is an error that names it."""
    task, arguments, said = POISONS[case]
    with pytest.raises(BuildError, match=said):
        verify(a_dag(task, **arguments))


@pytest.mark.parametrize("schedule", [None, "@once", "@daily", "@continuous", "*/5 * * * *", timedelta(hours=1)])
def test_good_schedules(schedule: Any) -> None:
    """A schedule of any kind that Airflow knows passes."""
    verify(a_dag(schedule=schedule, max_active_runs=1), pools=POOLS)


def test_the_largest_values_that_fit() -> None:
    """What Airflow's columns just hold is taken."""
    task = {"queue": "q" * 256, "retries": 2**31 - 1, "owner": "o" * 500}
    verify(a_dag(task, tags=["t" * 100], max_active_runs=2**31 - 1))


def test_a_pool_that_does_not_exist() -> None:
    """Its tasks would never start, and Airflow says so in a log alone: the error names the pool and what is near it."""
    with pytest.raises(BuildError, match=r"no pool 'gald' \(task only\), did you mean 'gold'"):
        verify(a_dag({"pool": "gald"}), pools=POOLS)


def test_pools_that_are_not_known() -> None:
    """Where nobody can ask Airflow's database nothing is said of pools."""
    verify(a_dag({"pool": "gald"}), pools=None)
