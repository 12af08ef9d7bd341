"""Airflow's own commands on the machine of a running Airflow: they do what they do for any DAG, and disturb nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from demo import tour
from demo.look import active, settled, stay
from demo.stack import Stack

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]
DAG = f"acme__{tour.MESSAGES}"
PATIENCE = 120.0
"""Seconds for one command: each imports Airflow anew, beside a busy Airflow."""


@pytest.fixture(autouse=True)
def undisturbed(stack: Stack) -> Iterator[None]:
    """After each command Airflow shows each DAG in the file and the version in which it was, and no import error."""
    before = {dag_id: place(stack, dag_id) for dag_id in settled(stack)}
    yield
    assert stack.airflow.api.import_errors() == {}
    assert {dag_id: place(stack, dag_id) for dag_id in active(stack)} == before
    stay(stack, set(before))
    assert stack.airflow.api.import_errors() == {}


def place(stack: Stack, dag_id: str) -> tuple[Any, Any]:
    """Return where Airflow has found a DAG: the file, and the version of its bundle."""
    found = stack.airflow.api.dag(dag_id)
    return found["relative_fileloc"], found["bundle_version"]


def command(stack: Stack, *words: str) -> str:
    """Run one of Airflow's commands, with another bundle before the tenants'. It raises unless that succeeds."""
    return stack.airflow.run("airflow", *words, seconds=PATIENCE)


@pytest.mark.parametrize("words", [(), ("--bundle-name", "tenants")], ids=["all bundles", "one bundle"])
def test_a_dag_can_be_tested(stack: Stack, words: tuple[str, ...]) -> None:
    """`airflow dags test` runs a tenant's DAG to its end in the terminal."""
    command(stack, "dags", "test", *words, DAG)
    newest = max(stack.airflow.api.runs(DAG), key=lambda run: str(run["run_after"]))
    assert (newest["state"], newest["triggered_by"]) == ("success", "test")


def test_a_task_can_be_tested(stack: Stack) -> None:
    """`airflow tasks test` runs one task of a tenant's DAG."""
    task = next(iter(stack.airflow.api.tasks(DAG)))
    command(stack, "tasks", "test", DAG, task, "2026-01-01")


@pytest.mark.parametrize("words", [("--local", "--bundle-name", "tenants"), ()], ids=["local", "database"])
def test_dags_can_be_listed(stack: Stack, words: tuple[str, ...]) -> None:
    """`airflow dags list` shows the tenants' DAGs, from the files as from the database."""
    shown = json.loads(command(stack, "dags", "list", "--output", "json", *words).splitlines()[-1])
    assert settled(stack) <= {each["dag_id"] for each in shown}


@pytest.mark.parametrize("words", [("dags", "details", DAG), ("dags", "list-import-errors"), ("dags", "reserialize")])
def test_others_disturb_nothing(stack: Stack, words: tuple[str, ...]) -> None:
    """Commands that parse or show DAGs leave them as they are."""
    command(stack, *words)
