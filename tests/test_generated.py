"""What a generated DAG file does when it is parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from dagfactory_consul.contents import to_json
from dagfactory_consul.decisions import Decision
from dagfactory_consul.errors import BuilderError, BuildError
from dagfactory_consul.generated import emit, emit_from
from dagfactory_consul.release import DRAINING
from dagfactory_consul.runtime import PARSING_DAG_ID
from tests.deployment import JOB, shown
from tests.making import fresh_registry, write
from tests.test_assembly import airflows_timer
from tests.test_contents import placed

CODE = "code/abc"
SLOW = JOB.replace('raise ValueError("no such region")', '__import__("time").sleep(0.3)')


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle's folder with one version of the builders' code."""
    write(tmp_path / CODE / "0/builders/job.py", JOB)
    (tmp_path / "tenants").mkdir()
    return tmp_path


def parse(bundle: Path, *dags: Any, code: str | None = CODE, beside: bool = False) -> dict[str, DAG]:
    """Do what a generated file with these DAGs does, in a fresh process; return the DAGs of its namespace."""
    namespace: dict[str, Any] = {"__file__": str(bundle / "tenants/acme.py")}
    text = json.dumps([to_json(each) for each in dags])
    with fresh_registry(bundle):
        if beside:
            (bundle / "tenants/acme.json").write_text(f'{{"dags": {text}}}')
            emit_from(namespace, "acme.json", code=code)
        else:
            emit(namespace, code=code, dags=text)
    return {name: each for name, each in namespace.items() if isinstance(each, DAG)}


def job(dag_id: str = "acme__job", **fields: Any) -> Any:
    config = {"limit": 7, **fields.pop("config", {})}
    decisions = {"parser": Decision("v1", None, "DEFAULT", 0)}
    return placed(dag_id, config=config, decisions=decisions, **fields)._replace(origin="./0/builders/job.py")


@pytest.mark.parametrize("beside", [False, True])
def test_each_spec_becomes_a_dag(bundle: Path, *, beside: bool) -> None:
    """A parse gives all the DAGs, wherever they stand, under their ids, built by the code that belongs to them."""
    found = parse(bundle, job(), job("acme__other", config={"limit": 8}), beside=beside)
    assert {dag_id: shown(dag) for dag_id, dag in found.items()} == {"acme__job": "7 v1", "acme__other": "8 v1"}


def test_a_task_builds_its_own_dag_alone(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Airflow says which DAG it needs no other one is built, not even one that would fail."""
    monkeypatch.setenv(PARSING_DAG_ID, "acme__job")
    assert list(parse(bundle, job("acme__bad", config={"mood": "raising"}), job())) == ["acme__job"]


def test_a_dag_that_fails_leaves_its_neighbours(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was checked and fails all the same is left out and logged: a file that raises loses all its DAGs."""
    unknown = job("acme__unknown", builder="Nobody")
    assert list(parse(bundle, job("acme__bad", config={"mood": "raising"}), unknown, job())) == ["acme__job"]
    assert "acme__bad" in caplog.text
    assert "acme__unknown" in caplog.text


@pytest.mark.parametrize(
    ("bad", "error"),
    [({"config": {"mood": "raising"}}, BuildError), ({"builder": "Nobody"}, BuilderError)],
)
def test_a_task_whose_dag_fails_says_why(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, bad: dict[str, Any], error: type[Exception]
) -> None:
    """The one DAG that a task needs is no loss to be logged: the task is told."""
    monkeypatch.setenv(PARSING_DAG_ID, "acme__job")
    with pytest.raises(error):
        parse(bundle, job(**bad))


def test_a_draining_dag_has_no_schedule(bundle: Path) -> None:
    """What drains is built without a schedule, with its tag."""
    dag = parse(bundle, job(config={"schedule": "@hourly"}, state=DRAINING))["acme__job"]
    assert dag.schedule is None
    assert "draining" in dag.tags


def test_the_code_is_its_versions_own(bundle: Path) -> None:
    """Two versions of the code stand side by side, and each file is built with its own."""
    write(bundle / "code/new/0/builders/job.py", JOB.replace("{self.config.limit} ", "{self.config.limit}!"))
    assert shown(parse(bundle, job())["acme__job"]) == "7 v1"
    assert shown(parse(bundle, job(), code="code/new")["acme__job"]) == "7!v1"


def test_an_installed_builder_needs_no_copied_code(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder from a module is imported from wherever Python finds it."""
    write(bundle / "installed/jobs_installed.py", JOB)
    monkeypatch.syspath_prepend(str(bundle / "installed"))
    spec = job()._replace(origin="jobs_installed")
    assert list(parse(bundle, spec, code=None)) == ["acme__job"]


def test_a_tenants_slow_dags_cost_no_neighbour_in_a_shared_file(bundle: Path) -> None:
    """A third of what Airflow leaves the file is all that they may take together: else it loses all of its DAGs."""
    write(bundle / CODE / "0/builders/job.py", SLOW)
    slow = [job(f"evil__d{number:02}", tenant="evil", config={"mood": "raising"}) for number in range(40)]
    with airflows_timer(6.0):
        found = parse(bundle, *slow, job("zenith__job", tenant="zenith"))
    assert "zenith__job" in found
    assert 3 <= len(found) < 12
