"""Bundle mode as Airflow uses it: its own objects, a real store, its database, and the whole way of a change."""

from __future__ import annotations

import gc
import json
import logging
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.bundles.base import BundleVersion
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.sdk.exceptions import AirflowRescheduleException
from airflow.utils.session import create_session

from dagfactory_consul import occupancy
from dagfactory_consul.bundle import ConsulDagBundle
from dagfactory_consul.errors import NothingKnownError, SettingsError, VersionGoneError
from dagfactory_consul.runtime import PARSING_DAG_ID, PARSING_TASK_ID
from dagfactory_consul.stores import open_store
from dagfactory_consul.stores.base import Store
from demo.consul import ConsulAgent
from tests.bundles import BUNDLE, Machine, Site, make_database, parse
from tests.deployment import JOB, shown
from tests.making import fresh_registry, write
from tests.waiting import wait_until

Make = Callable[..., ConsulDagBundle]


class Place:
    """A store of some kind, builders, and any number of machines that share nothing else."""

    def __init__(self, folder: Path, url: str, prefix: str) -> None:
        self.folder = folder
        self.url = url
        self.prefix = prefix
        self.builders = write(folder / "builders/job.py", JOB)
        self.store: Store = open_store(url, prefix=prefix)

    def tenant(self, name: str, **config: Any) -> None:
        self.store.put(f"tenants/{name}", json.dumps({"dags": {"Job": config}}).encode())

    def bundle(self, machine: str, **arguments: Any) -> ConsulDagBundle:
        """Return Airflow's object for the bundle on a machine."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(self.folder / machine))
            given = {
                "store": self.url,
                "prefix": self.prefix,
                "builders": str(self.builders.parent),
                "state_dir": self.folder / machine / "state",
            }
            return ConsulDagBundle(name=BUNDLE, refresh_interval=0, **{**given, **arguments})

    def started(self, machine: str, **arguments: Any) -> ConsulDagBundle:
        """Return one that has been refreshed, as the DAG processor does it."""
        bundle = self.bundle(machine, **arguments)
        bundle.initialize()
        return refreshed(bundle)

    def task(self, machine: str, dag_id: str, version: str | None) -> dict[str, str]:
        """Start a task on a machine, and return what its DAG was built with."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(PARSING_DAG_ID, dag_id)
            patch.setenv(PARSING_TASK_ID, "before")
            bundle = self.bundle(machine, version=version)
            bundle.initialize()
            return limits(bundle, f"tenants/{dag_id.partition('__')[0]}.py")


def refreshed(bundle: ConsulDagBundle) -> ConsulDagBundle:
    """Refresh until a version is in force."""

    def look() -> bool:
        with fresh_registry(bundle.path):
            bundle.refresh()
        return bundle.get_current_version() is not None

    wait_until(look, 20)
    return bundle


def version(bundle: ConsulDagBundle) -> str:
    found = bundle.get_current_version()
    assert isinstance(found, BundleVersion)
    return found.version


def until_changed(bundle: ConsulDagBundle) -> str:
    """Refresh until another version is in force, and return it."""
    before = version(bundle)
    return wait_until(lambda: (after := version(refreshed(bundle))) != before and after, 20)  # type: ignore[return-value]


def limits(bundle: ConsulDagBundle, file: str = "") -> dict[str, str]:
    """Return what each DAG was built with."""
    return {dag_id: shown(dag) for dag_id, dag in parse(bundle.path, file).items()}


@pytest.fixture
def forgotten(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let go of what bundles leave to the end of their process: nobody else closes their connections."""
    yield
    caplog.get_records("call").clear()  # which hold errors, and with them all that they came through
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(params=["folder", "memory", "consul"])
def place(request: pytest.FixtureRequest, tmp_path: Path, consul_prefix: str) -> Iterator[Place]:
    """A place with each kind of store, and two tenants."""
    url = f"memory://{uuid.uuid4().hex}"
    if request.param == "consul":
        agent: ConsulAgent = request.getfixturevalue("consul_agent")
        url = agent.url
    elif request.param == "folder":
        (tmp_path / "config").mkdir()
        url = str(tmp_path / "config")
    place = Place(tmp_path, url, consul_prefix)
    place.tenant("acme")
    place.tenant("zenith")
    yield place
    place.store.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the processors' connections, which end with them
@pytest.mark.usefixtures("forgotten")
def test_the_way_of_a_change(place: Place) -> None:
    """From a store of any kind to the processor, and by the history to a worker that has nothing."""
    here = place.started("here")
    first = version(here)
    assert limits(here) == {"acme__job": "10 v1", "zenith__job": "10 v1"}
    place.tenant("acme", limit=20)
    second = until_changed(here)
    assert limits(here) == {"acme__job": "20 v1", "zenith__job": "10 v1"}
    assert place.task("away", "acme__job", first) == {"acme__job": "10 v1"}
    assert place.task("away", "acme__job", second) == {"acme__job": "20 v1"}
    assert place.task("beside", "acme__job", None) == {"acme__job": "20 v1"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A deployment on a folder, with two tenants."""
    site = Site(tmp_path)
    site.tenant("acme", "zenith")
    return site


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    """The API server and the scheduler make it too: neither network, disk nor settings are looked at for that."""
    folder = tmp_path / "bundles"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(folder))
        bundle = ConsulDagBundle(name=BUNDLE, store="nowhere://", paht="x", code={"classpath": "no"})
    assert not folder.exists()
    assert bundle.supports_versioning
    with pytest.raises(SettingsError, match="paht"):
        bundle.initialize()


def test_a_connections_id_is_a_store(tmp_path: Path) -> None:
    """`conn_id` names an Airflow connection to Consul, in place of the store."""
    bundle = ConsulDagBundle(name=BUNDLE, conn_id="my_consul", state_dir=tmp_path)
    assert bundle.settings.store == "consul://?conn_id=my_consul"


def test_nothing_in_force_is_no_version(site: Site) -> None:
    """Before the first publication there is none, and a refresh says why."""
    site.unmount()
    bundle = site.machine().bundle()
    bundle.initialize()
    assert bundle.path.is_dir()
    assert bundle.get_current_version() is None
    with pytest.raises((NothingKnownError, Exception), match="config"):
        bundle.refresh()
    assert bundle.get_current_version() is None


def test_the_version_is_known_without_the_store(site: Site) -> None:
    """Other processes of the machine are told the version that its processor has applied."""
    one = site.machine().settle()
    site.unmount()
    assert version(one.bundle()) == one.head.version
    assert version(one.bundle("pinned")) == "pinned"


@pytest.mark.parametrize("lose", [Site.unmount, Site.forget])
def test_a_history_that_does_not_answer_reschedules_the_task(site: Site, lose: Callable[[Site], None]) -> None:
    """A store that is away or was emptied costs the task a few seconds, and no failure."""
    one = site.machine().settle()
    lose(site)
    before = datetime.now(UTC)
    with pytest.raises(AirflowRescheduleException) as caught:
        site.machine("away").start("acme__job", one.head.version, "tenants/acme.py")
    assert 5 < (caught.value.reschedule_date - before).total_seconds() < 60


def test_a_version_that_is_gone_fails_the_task(site: Site) -> None:
    """What is truly gone is said, and is not waited for any longer."""
    site.machine().settle()
    away = site.machine("away")
    with pytest.raises(AirflowRescheduleException):
        away.start("acme__job", "v0", "tenants/acme.py")
    os.utime(away.base / "missed/v0", (time.time() - 100,) * 2)
    with pytest.raises(VersionGoneError, match="version v0 of the bundle tenants"):
        away.start("acme__job", "v0", "tenants/acme.py")


def test_a_callback_has_all_files(site: Site) -> None:
    """A version without a DAG's id, as for callbacks, is laid out as a whole."""
    one = site.machine().settle()
    bundle = site.machine("away").bundle(one.head.version)
    bundle.initialize()
    assert sorted(parse(bundle.path)) == ["acme__job", "zenith__job"]


def test_builders_find_what_stands_beside_their_original(site: Site) -> None:
    """A package of builders may import a module beside it, which is not copied."""
    write(site.folder / "project/helpers_beside.py", "greeting = 'hello'\n")
    top = "from helpers_beside import greeting\n"
    write(site.folder / "project/jobs_beside/__init__.py", "")
    write(site.folder / "project/jobs_beside/job.py", top + JOB.replace("{self.config.limit} ", "{greeting} "))
    builders = str(site.folder / "project/jobs_beside")
    one = site.machine(builders=builders)
    one.bundle().initialize()
    assert {dag_id: shown(dag) for dag_id, dag in one.settle().dags().items()}["acme__job"] == "hello v1"
    away = site.machine("away", builders=builders)
    assert shown(away.start("acme__job", one.head.version, "tenants/acme.py")["acme__job"]) == "hello v1"


def test_bad_settings_of_airflow_are_said_at_the_start(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The first refresh warns of each of Airflow's settings that slows the bundle."""
    refreshed(site.machine().bundle())
    assert "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL=0" in caplog.text


# With Airflow's database


def test_a_processor_logs_its_looks_seldom(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first look on, a DAG processor logs each look at the bundle seldom."""
    processors: list[Any] = []
    monkeypatch.setattr("structlog.get_config", lambda: {"processors": processors})
    refreshed(site.machine().bundle())
    assert [each.name for each in processors] == [BUNDLE]


@pytest.fixture
def database() -> None:
    """A database with nothing in it."""
    make_database()


def persist(machine: Machine) -> None:
    """Do what Airflow's processor does with what it has parsed: everything goes to the database."""
    bag = machine.bag()
    sync_bag_to_db(bag, BUNDLE, machine.head.version)


def begin(dag_id: str, machine: Machine) -> None:
    """Have a run of a DAG, pinned to what is in force."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.state import DagRunState

    with create_session() as session:
        pinned = machine.head.version
        session.add(
            DagRun(dag_id=dag_id, run_id="one", run_type="manual", state=DagRunState.RUNNING, bundle_version=pinned)
        )


def end(dag_id: str) -> None:
    """Have the run ended."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.state import DagRunState
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.dag_id == dag_id).values(state=DagRunState.SUCCESS))


@pytest.mark.usefixtures("database")
def test_a_run_ends_as_it_began(site: Site) -> None:
    """Switched off, and with its tenant's key gone, a DAG drains while Airflow has a run of it, which keeps all."""
    one = site.machine()
    one.occupancy = occupancy
    one.settle()
    persist(one)
    begin("acme__job", one)
    pinned = one.head.version
    site.remove("tenants/acme")
    one.settle()
    assert "draining" in one.dags()["acme__job"].tags
    assert pinned in occupancy.versions_in_use(BUNDLE)
    assert "draining" not in site.machine("away").start("acme__job", pinned, "tenants/acme.py")["acme__job"].tags
    end("acme__job")
    one.settle()
    assert sorted(one.dags()) == ["zenith__job"]


@pytest.mark.usefixtures("database")
def test_what_moves_leaves_its_file_when_airflow_has_found_it(site: Site) -> None:
    """The file that all have left stays until Airflow's list points to the new ones, and goes with the next change."""
    names = [f"t{number}" for number in range(7)]
    site.tenant(*names)
    one = site.machine()
    one.occupancy = occupancy
    one.settle()
    persist(one)
    assert set(one.files()) == {"shards/000.py"}
    for name in (*names, "acme", "zenith"):
        site.tenant(name, limit=20)
        one.refresh()
    assert "shards/000.py" in one.files()
    persist(one)
    site.tenant("acme", limit=30)
    one.settle()
    assert "shards/000.py" not in one.files()


# Airflow's commands

LISTING = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
"""Airflow's own way to list the files of a folder."""


def commanded(place: Place, machine: str) -> tuple[ConsulDagBundle, dict[str, str]]:
    """Return the bundle as a command about acme's DAG has it, and what each DAG is built with that it finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PARSING_DAG_ID, "acme__job")
        bundle = place.bundle(machine)
        bundle.initialize()
        with fresh_registry(bundle.path):
            found = BundleDagBag(bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        assert found.import_errors == {}
        sync_bag_to_db(found, bundle.name, bundle.version)
        return bundle, {dag_id: shown(dag) for dag_id, dag in found.dags.items()}


@LISTING
@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("machine", ["processor", "elsewhere"])
def test_a_command_reads_what_is_in_force(place: Place, machine: str) -> None:
    """It finds the DAG in the file, and in the version, in which the DAG processor has found it, on any machine."""
    make_database()
    here = place.started("processor")
    _, found = commanded(place, machine)
    assert found == {"acme__job": "10 v1"}
    parsed = occupancy.parsed(["acme__job"])["acme__job"]
    assert (parsed.file, parsed.version) == ("tenants/acme.py", version(here))


@LISTING
@pytest.mark.usefixtures("forgotten")
def test_a_command_adds_nothing_to_a_processors_files(place: Place) -> None:
    """Where the DAG processor has its files, a command has the same ones, and no second copy of the builders."""
    here = place.started("processor")
    bundle, _ = commanded(place, "processor")
    assert bundle.path == here.path
    assert not here.versions_dir.exists()


# With a real Consul


def test_a_task_keeps_no_connection(consul_agent: ConsulAgent, tmp_path: Path, consul_prefix: str) -> None:
    """A task may run for hours, and Consul allows few connections from one machine: what was used is closed."""
    place = Place(tmp_path, consul_agent.url, consul_prefix)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PARSING_DAG_ID, "acme__job")
        patch.setenv(PARSING_TASK_ID, "before")
        bundle = place.bundle("away", version="v0")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with pytest.raises(AirflowRescheduleException):
                bundle.initialize()
            del bundle
            gc.collect()
    assert [each for each in seen if each.category is ResourceWarning] == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the processors' connections, which end with them
@pytest.mark.usefixtures("forgotten")
def test_a_token_that_may_only_read(
    consul_with_acls: ConsulAgent,
    tmp_path: Path,
    consul_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without the right to write, the bundle works on this machine, and says once what that costs."""
    prefix = consul_prefix.rstrip("/")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", consul_with_acls.token)
    Place(tmp_path, consul_with_acls.url, consul_prefix).tenant("acme")
    reader = consul_with_acls.make_token(f'key_prefix "{prefix}" {{ policy = "read" }}')
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", reader)
    place = Place(tmp_path, consul_with_acls.url, consul_prefix)
    here = place.started("here")
    refreshed(here)
    assert limits(here) == {"acme__job": "10 v1"}
    assert place.task("here", "acme__job", version(here)) == {"acme__job": "10 v1"}
    assert [record.levelno for record in caplog.records if "works on without" in record.message] == [logging.WARNING]
