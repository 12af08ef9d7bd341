"""Refreshes that fail before anything is deployed: one line in the log, one import error, and no DAG that vanishes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from airflow.utils.session import create_session

from dagfactory_consul import occupancy
from dagfactory_consul.bundle import ConsulDagBundle
from dagfactory_consul.errors import NothingKnownError, NotYetError
from dagfactory_consul.failure import Failure
from tests.bundles import BUNDLE, Clock, Site, make_database

EMPTY = NothingKnownError("consul://127.0.0.1:8500/dagfactory holds nothing")


@pytest.fixture(autouse=True)
def database() -> None:
    """A database with nothing in it."""
    make_database()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failure(clock: Clock) -> Failure:
    return Failure(BUNDLE, occupancy, clock=clock)


def add_dag(*, is_stale: bool = False) -> None:
    from airflow.models.dag import DagModel

    with create_session() as session:
        session.add(DagModel(dag_id="acme__job", bundle_name=BUNDLE, is_stale=is_stale))  # type: ignore[no-untyped-call]


def shown() -> str:
    return occupancy.import_errors(BUNDLE).get("problems.py", "")


def test_a_failure_is_one_line_and_one_import_error(
    failure: Failure, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A minute of refreshes, two a second, that fail by the same cause."""
    for _ in range(120):
        failure.tell(EMPTY)
        clock.now += 0.5
    assert [each.message for each in caplog.records] == [str(EMPTY)]
    assert caplog.records[0].exc_info is None
    assert shown() == f"no DAG of this bundle can be read, or brought up to date: {EMPTY}"


def test_an_unexpected_failure_has_its_traceback_once(
    failure: Failure, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of this package, or of a machine's Python, is shown as any other, and the log says where it is."""
    for _ in range(9):
        failure.tell(TypeError("extractall() got an unexpected keyword argument"))
        clock.now += 1
    (record,) = caplog.records
    assert record.exc_info is not None
    assert shown().endswith("TypeError: extractall() got an unexpected keyword argument")


@pytest.mark.parametrize(("is_stale", "may"), [(True, True), (False, False)])
def test_no_dag_vanishes_by_a_failure(failure: Failure, *, is_stale: bool, may: bool) -> None:
    """While Airflow lists DAGs of the bundle a failure stays one to it: it would take them off its list."""
    add_dag(is_stale=is_stale)
    assert failure.tell(EMPTY) is may
    assert str(EMPTY) in shown()


def test_what_another_process_removes_is_shown_again(failure: Failure, clock: Clock) -> None:
    """Airflow forgets errors of files that it does not find: a look ten seconds later shows it again."""
    failure.tell(EMPTY)
    occupancy.forget_import_errors(BUNDLE, ["problems.py"])
    clock.now += Failure.INTERVAL
    failure.tell(EMPTY)
    assert str(EMPTY) in shown()


def test_a_failure_that_is_over_is_forgotten(failure: Failure) -> None:
    """After a refresh that did not fail Airflow shows nothing of it, and what was there by itself stays."""
    failure.tell(EMPTY)
    failure.end()
    assert shown() == ""
    occupancy.show_import_error(BUNDLE, "problems.py", "tenants/acme: malformed")
    failure.end()
    assert shown() == "tenants/acme: malformed"


def test_a_beginning_is_no_failure(failure: Failure, caplog: pytest.LogCaptureFixture) -> None:
    """While the first configuration is still being checked nothing is wrong."""
    caplog.set_level(logging.INFO)
    failure.tell(NotYetError("no DAG is deployed yet"))
    assert [each.levelname for each in caplog.records] == ["INFO"]
    assert shown() == ""


def test_a_database_that_is_away_leaves_the_failure(failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Airflow's list cannot be asked its DAGs may be there, so Airflow is told of the failure."""

    def away(_: str) -> bool:
        raise ConnectionError("the database is down")

    monkeypatch.setattr(occupancy, "has_dags", away)
    assert failure.tell(EMPTY) is False


def test_an_empty_store_is_an_import_error_of_the_bundle(tmp_path: Path) -> None:
    """A new user's first minute: nothing is in the store, Airflow says so, and the DAGs follow when they are pushed."""
    site = Site(tmp_path)
    bundle = site.machine().bundle()
    bundle.initialize()
    for _ in range(3):
        bundle.refresh()
    assert "holds nothing" in shown()
    assert "dagfactory-consul push FOLDER" in shown()
    assert bundle.get_current_version() is None


def test_a_setting_that_is_wrong_is_an_import_error_of_the_bundle(tmp_path: Path) -> None:
    """What fails before any store is asked is said in the same place."""
    bundle = ConsulDagBundle(name=BUNDLE, store=str(tmp_path), drain_tim=1)
    bundle.refresh()
    assert "drain_time" in shown()
