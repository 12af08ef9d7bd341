"""Other bundles of one Airflow that have DAGs of the same ids."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from dagfactory_consul.occupancy import Elsewhere
from dagfactory_consul.release import GONE, Placement, Release
from dagfactory_consul.rivals import Rivals
from dagfactory_consul.spec import DagSpec

NOW = 10_000.0
TENANTS = "dagfactory_consul.bundle.ConsulDagBundle"


class Database:
    """Says which DAGs another bundle has."""

    def __init__(self, **found: Elsewhere) -> None:
        self.found = found
        self.asked: list[Collection[str] | None] = []

    def __call__(self, bundle: str, dag_ids: Collection[str] | None) -> Mapping[str, Elsewhere]:
        assert bundle == "tenants"
        self.asked.append(dag_ids)
        return {each: at for each, at in self.found.items() if dag_ids is None or each in dag_ids}


def release(*dag_ids: str, state: str = "active") -> Release:
    specs = {each: DagSpec(each, "Job", each, "production", {}, each.partition("__")[0]) for each in dag_ids}
    return Release({each: Placement(spec, state) for each, spec in specs.items()})


def rivals(database: Database, said: list[str] | None = None, name: str = "tenants", *own: str) -> Rivals:
    dags = release(*own).dags
    tell = (said if said is not None else []).append
    return Rivals(name, "production", database, tell, lambda: dags, lambda: NOW)


@pytest.fixture(autouse=True)
def configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        {"name": "tenants", "classpath": TENANTS, "kwargs": {}},
        {"name": "staging-tenants", "classpath": TENANTS, "kwargs": {"environment": "staging", "refresh_interval": 0}},
        {"name": "by-hand", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}},
    ]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(entries))


def test_a_dag_of_another_bundle_is_left_out() -> None:
    """The id stays the other bundle's; the problem names both bundles, both environments, the DAG and the next step."""
    found = rivals(Database(acme__b=Elsewhere("staging-tenants", NOW))).sift(release("acme__a", "acme__b"), None)
    assert list(found.dags) == ["acme__a"]
    (problem,) = found.problems
    assert (problem.key, problem.tenant, problem.dag_id) == ("tenants/acme", "acme", "acme__b")
    assert "bundle 'staging-tenants' (environment staging) of this Airflow has acme__b" in problem.message
    assert "in the bundle 'tenants' (environment production)" in problem.message
    assert "Remove the DAG from one of the two" in problem.message


def test_two_bundles_of_one_processor() -> None:
    """What another bundle of this DAG processor has just published counts before Airflow has parsed it."""
    other = rivals(Database(), None, "staging-tenants", "acme__a")
    found = rivals(Database()).sift(release("acme__a", "acme__b"), None)
    assert list(found.dags) == ["acme__b"]
    assert "the bundle 'staging-tenants'" in found.problems[0].message
    assert other.sift(release("acme__a"), release("acme__a")).problems == ()


def test_a_bundle_of_another_kind_has_no_environment() -> None:
    """Of a bundle that is none of ours only the name is told."""
    (problem,) = rivals(Database(acme__a=Elsewhere("by-hand", NOW))).sift(release("acme__a"), None).problems
    assert "the bundle 'by-hand' of this Airflow" in problem.message


def test_many_dags_are_one_problem_a_tenant() -> None:
    """Of a tenant's DAGs some are named, and the others counted."""
    ids = [f"acme__{number}" for number in range(8)]
    database = Database(**dict.fromkeys([*ids, "zenith__a"], Elsewhere("by-hand", NOW)))
    of_acme, of_zenith = rivals(database).sift(release(*ids, "zenith__a"), None).problems
    assert "acme__0, acme__1, acme__2, acme__3, acme__4 and 3 more" in of_acme.message
    assert (of_acme.dag_id, of_zenith.dag_id) == (None, "zenith__a")


def test_what_is_deployed_is_not_asked_for() -> None:
    """A change asks for what is new alone, and a DAG that is deployed is never left out."""
    database = Database(acme__a=Elsewhere("by-hand", NOW))
    found = rivals(database).sift(release("acme__a", "acme__b"), release("acme__a"))
    assert list(found.dags) == ["acme__a", "acme__b"]
    assert database.asked == [["acme__b"]]


def test_what_was_removed_stays_so() -> None:
    """A DAG that was removed here, and is another bundle's now, does not return: nor is it forgotten."""
    before = release("acme__a", state=GONE)
    found = rivals(Database(acme__a=Elsewhere("by-hand", NOW))).sift(release("acme__a"), before)
    assert found.dags == before.dags


@pytest.mark.parametrize(("name", "age", "counts"), [("by-hand", NOW, True), ("old", 601, False), ("old", 599, True)])
def test_a_bundle_that_was_renamed_blocks_nobody(name: str, age: float, *, counts: bool) -> None:
    """A bundle that no configuration has, and nobody refreshes, is no rival."""
    found = rivals(Database(acme__a=Elsewhere(name, NOW - age))).sift(release("acme__a"), None)
    assert bool(found.problems) is counts


@pytest.mark.parametrize(("bundle", "left_out"), [("by-hand", False), ("staging-tenants", True)])
def test_a_file_that_was_removed(tmp_path: Path, bundle: str, *, left_out: bool) -> None:
    """A DAG whose file was taken out of a folder follows at once; another kind of bundle has files elsewhere, too."""
    gone = Elsewhere(bundle, NOW, str(tmp_path / "tenants.py"))
    assert bool(rivals(Database(acme__a=gone)).sift(release("acme__a"), None).problems) is left_out


def test_a_file_that_is_there(tmp_path: Path) -> None:
    """A DAG of a folder's file, the plain loader's for example, is left out here."""
    file = tmp_path / "tenants.py"
    file.touch()
    found = rivals(Database(acme__a=Elsewhere("by-hand", NOW, str(file)))).sift(release("acme__a"), None)
    assert not found.dags


def test_a_database_that_does_not_answer() -> None:
    """Nothing is left out then, and the log says why."""

    class Down(Database):
        def __call__(self, *_: object) -> Mapping[str, Elsewhere]:
            raise ConnectionError("the database is down")

    said: list[str] = []
    assert rivals(Down(), said).sift(release("acme__a"), None) == release("acme__a")
    assert said == ["whether another bundle has the same DAGs cannot be known: the database is down"]


def test_a_dag_that_becomes_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left out is looked at again, until one is free; nothing is asked where nothing was left out."""
    monkeypatch.setattr(Rivals, "AGAIN", 0.0)
    database = Database()
    found = rivals(database)
    assert not found.is_one_free()
    assert database.asked == []
    database.found["acme__a"] = Elsewhere("by-hand", NOW)
    found.sift(release("acme__a"), None)
    assert not found.is_one_free()
    database.found.clear()
    assert found.is_one_free()


def test_a_rival_that_came_later() -> None:
    """A DAG that is deployed stays where another bundle publishes it as well, and that is told."""
    found = rivals(Database(acme__a=Elsewhere("by-hand", NOW), other__x=Elsewhere("by-hand", NOW)))
    found.look(release("acme__a"))
    (line,) = found.problems()
    assert line.startswith(
        "tenants/acme (DAG acme__a): the bundle 'by-hand' of this Airflow has acme__a, which is publi"
    )
