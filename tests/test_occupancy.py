"""What Airflow's database says is in use. On a real one, in SQLite."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.utils.session import create_session

from dagfactory_consul import occupancy
from dagfactory_consul.occupancy import Elsewhere, Parsed
from tests.bundles import BUNDLE, make_database

NOW = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def database() -> None:
    """A database with nothing in it."""
    make_database()


def add(*rows: Any) -> None:
    """Write rows, one after the other."""
    with create_session() as session:
        for row in rows:
            session.add(row)
            session.flush()


def dag(dag_id: str = "acme__job", **fields: Any) -> Any:
    from airflow.models.dag import DagModel

    known: dict[str, Any] = {"bundle_name": BUNDLE, "bundle_version": "v1", "relative_fileloc": "tenants/acme.py"}
    known |= {"is_stale": False, "last_parsed_time": NOW, **fields}
    return DagModel(dag_id=dag_id, **known)  # type: ignore[no-untyped-call]


def run(state: str, dag_id: str = "acme__job", version: str | None = None) -> Any:
    from airflow.models.dagrun import DagRun
    from airflow.utils.state import DagRunState

    return DagRun(
        dag_id=dag_id, run_id=f"{dag_id}.{state}", state=DagRunState(state), run_type="manual", bundle_version=version
    )


@pytest.mark.parametrize(
    ("state", "unfinished"), [("queued", True), ("running", True), ("success", False), ("failed", False)]
)
def test_whether_a_dag_has_unfinished_runs(state: str, *, unfinished: bool) -> None:
    """A queued or a running run is unfinished; a DAG that Airflow has never seen has none."""
    add(dag(), dag("acme__other"), run(state))
    expected = {"acme__job": unfinished, "acme__other": False, "nobody__job": False}
    assert occupancy.unfinished(list(expected)) == expected


def test_versions_in_use() -> None:
    """Those that a current DAG of the bundle points to, and those of unfinished runs, be their DAGs stale or not."""
    stale = dag("stale__job", is_stale=True, bundle_version="of a stale DAG")
    other = dag("other__job", bundle_name="other", bundle_version="of another bundle")
    add(dag(), stale, other, run("running", version="pinned"), run("success", version="finished"))
    add(run("queued", "stale__job", version="pinned by a stale one"), run("running", "other__job"))
    assert occupancy.versions_in_use(BUNDLE) == {"v1", "pinned", "pinned by a stale one"}


def test_where_dags_were_found() -> None:
    """For each DAG that Airflow knows: its file, when it was last parsed, and in which version of the bundle."""
    add(dag(), dag("never__parsed", relative_fileloc=None, last_parsed_time=None, bundle_version=None))
    assert occupancy.parsed(["acme__job", "never__parsed", "nobody__job"]) == {
        "acme__job": Parsed("tenants/acme.py", NOW.timestamp(), "v1"),
        "never__parsed": Parsed("", 0.0),
    }


def test_which_files_are_pointed_at() -> None:
    """Only a DAG that is current, and of this bundle, keeps a file."""
    add(dag(), dag("stale__job", is_stale=True, relative_fileloc="tenants/stale.py"))
    add(dag("other__job", bundle_name="other", relative_fileloc="tenants/other.py"))
    asked = ["tenants/acme.py", "tenants/stale.py", "tenants/other.py", "tenants/nobody.py"]
    assert occupancy.pointed_at(BUNDLE, asked) == {"tenants/acme.py"}


@pytest.mark.parametrize("lost", [[], ["stale__job", "never__seen", "others__job"]])
def test_which_dags_the_list_lacks(lost: list[str]) -> None:
    """Those that are stale, that belong to another bundle by now, and that Airflow has never found."""
    add(dag(), dag("stale__job", is_stale=True), dag("others__job", bundle_name="other"))
    assert occupancy.unlisted(BUNDLE, ["acme__job", *lost]) == set(lost)


def test_dags_that_the_list_has_beyond_them_are_no_matter() -> None:
    """Airflow lists a DAG for a moment longer than the bundle has it: what it lacks is still named."""
    add(dag("gone__job"), dag("gone__too"))
    assert occupancy.unlisted(BUNDLE, ["acme__job"]) == {"acme__job"}


def test_what_is_shown_as_import_errors() -> None:
    """The texts that Airflow shows of this bundle's files; they can be forgotten, and no others."""
    from airflow.models.errors import ParseImportError

    def error(file: str, bundle: str = BUNDLE) -> ParseImportError:
        return ParseImportError(bundle_name=bundle, filename=file, stacktrace=f"in {file}", timestamp=NOW)

    add(error("problems.py"), error("tenants/acme.py"), error("problems.py", "other"))
    assert occupancy.import_errors(BUNDLE) == {"problems.py": "in problems.py", "tenants/acme.py": "in tenants/acme.py"}
    occupancy.forget_import_errors(BUNDLE, ["problems.py", "tenants/none.py"])
    assert occupancy.import_errors(BUNDLE) == {"tenants/acme.py": "in tenants/acme.py"}
    assert occupancy.import_errors("other") == {"problems.py": "in problems.py"}


def test_an_import_error_of_our_own() -> None:
    """Airflow shows what it was given, in place of what it has shown for that file."""
    for text in ("first", "second"):
        occupancy.show_import_error(BUNDLE, "problems.py", text)
    assert occupancy.import_errors(BUNDLE) == {"problems.py": "second"}


def test_whether_airflow_lists_dags_of_a_bundle() -> None:
    """Stale DAGs, and those of other bundles, do not count."""
    add(dag("stale__job", is_stale=True), dag("other__job", bundle_name="other"))
    assert not occupancy.has_dags(BUNDLE)
    add(dag())
    assert occupancy.has_dags(BUNDLE)


@pytest.mark.parametrize("ask", [occupancy.unfinished, occupancy.parsed, lambda ids: occupancy.pointed_at(BUNDLE, ids)])
def test_any_number_may_be_asked_for(ask: Callable[[list[str]], Any]) -> None:
    """Databases limit what one query compares with: more is asked for in several."""
    add(dag())
    assert ask([]) in ({}, set())
    assert ask(["acme__job", "tenants/acme.py", *(f"x{number}" for number in range(40_000))])


def test_the_version_that_was_deployed_last() -> None:
    """Airflow keeps one with each bundle; none before the bundle's first refresh, nor for an unknown one."""
    from airflow.models.dagbundle import DagBundleModel

    assert occupancy.deployed_version(BUNDLE) is None
    with create_session() as session:
        session.get_one(DagBundleModel, BUNDLE).version = "v1"
    assert occupancy.deployed_version(BUNDLE) == "v1"
    assert occupancy.deployed_version("nobody's") is None


def bundle_row(name: str, *, active: bool = True, refreshed: datetime | None = NOW) -> Any:
    from airflow.models.dagbundle import DagBundleModel

    found = DagBundleModel(name=name)
    found.active, found.last_refreshed = active, refreshed
    return found


def test_which_dags_are_another_bundles() -> None:
    """A current DAG of another bundle counts, unless Airflow has disabled that one."""
    for each in ("rival", "never"):
        add(bundle_row(each, refreshed=None if each == "never" else NOW))
    add(bundle_row("renamed", active=False))
    of_rival = {"bundle_name": "rival"}
    add(dag(), dag("acme__other", fileloc="/dags/other.py", **of_rival), dag("acme__stale", is_stale=True, **of_rival))
    add(dag("acme__former", bundle_name="renamed"), dag("acme__new", bundle_name="never"))
    found = {"acme__other": Elsewhere("rival", NOW.timestamp(), "/dags/other.py"), "acme__new": Elsewhere("never", 0.0)}
    assert occupancy.elsewhere(BUNDLE, None) == found
    assert occupancy.elsewhere(BUNDLE, ["acme__job", "acme__new", "nobody__job"]) == {"acme__new": found["acme__new"]}
