"""What Airflow cannot take of a built DAG, whichever builder made it; held against a real database of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dagfactory_consul.errors import BuildError
from dagfactory_consul.verify import verify
from tests.bundle.postgres import Postgres
from tests.poisons import FIT, POISONS, a_dag

ROOT = Path(__file__).resolve().parent.parent
POOLS = {"default_pool", "gold"}
HARMLESS_ON_POSTGRES = {"a run a second", "tags that differ in case", "an end before the start"}
"""The first creates runs without end, the second is for MySQL, and the third shows nowhere why it never runs."""


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


@pytest.mark.parametrize("case", FIT)
def test_what_airflow_can_take(case: str) -> None:
    """What just fits passes."""
    task, arguments = FIT[case]
    verify(a_dag(task, **arguments))


def test_a_pool_that_does_not_exist() -> None:
    """Its tasks would never start, and Airflow says so in a log alone: the error names the pool and what is near it."""
    with pytest.raises(BuildError, match=r"no pool 'gald' \(task only\), did you mean 'gold'"):
        verify(a_dag({"pool": "gald"}), pools=POOLS)


def test_pools_that_are_not_known() -> None:
    """Where nobody can ask Airflow's database nothing is said of pools."""
    verify(a_dag({"pool": "gald"}), pools=None)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a real Airflow on Postgres has made of each, by its own functions: the error, or nothing."""
    home = tmp_path_factory.mktemp("airflow")
    with Postgres() as postgres:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{postgres.address}",
        }
        for words in (["airflow", "db", "migrate"], ["tests.poisoned"]):
            command = [sys.executable, "-m", *words]
            done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        yield json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", FIT)
def test_what_passes_a_database_takes(taken: dict[str, str], case: str) -> None:
    """Airflow's own functions write it, send it, and make a run of it with its tasks."""
    assert taken[case] == ""


@pytest.mark.parametrize("case", [each for each in POISONS if each not in HARMLESS_ON_POSTGRES])
def test_what_is_refused_fails_there(taken: dict[str, str], case: str) -> None:
    """Nothing is refused for its looks: Airflow's own functions fail at it, or it never runs."""
    assert taken[case] != ""
