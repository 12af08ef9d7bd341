"""A deployment in bundle mode on temporary folders: machines with a disk of their own, driven by hand."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

from dagfactory_consul.bundle import ConsulDagBundle
from dagfactory_consul.codebase import Codebase
from dagfactory_consul.errors import StoreDenied, StoreUnreachable
from dagfactory_consul.head import Head
from dagfactory_consul.history import History
from dagfactory_consul.occupancy import Elsewhere, Parsed
from dagfactory_consul.processor import Occupancy, Processor
from dagfactory_consul.runtime import PARSING_DAG_ID, PARSING_TASK_ID
from dagfactory_consul.settings import Settings
from dagfactory_consul.stores import open_store
from dagfactory_consul.stores.base import Entry, Reading, Store
from tests.deployment import JOB
from tests.making import fresh_registry, write

BUNDLE = "tenants"
DEPLOYMENT = "tested"


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Scripted:
    """Occupancy as the test says it is: nothing runs, and all is parsed where it stands, unless it says otherwise."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.running: set[str] = set()
        self.found: dict[str, Parsed] | None = None
        self.versions: set[str] = set()
        self.pointing: set[str] = set()
        self.shown: dict[str, str] = {}
        self.stales: set[str] = set()
        self.made_pools = {"default_pool"}
        self.others: dict[str, Elsewhere] = {}
        self.version: str | None = None

    def unfinished(self, dag_ids: Collection[str]) -> dict[str, bool]:
        return {dag_id: dag_id in self.running for dag_id in dag_ids}

    def parsed(self, dag_ids: Collection[str]) -> dict[str, Parsed]:
        edition = self.machine.processor.agreement.edition
        places = edition.places if edition is not None else {}
        if self.found is not None:
            return {dag_id: self.found[dag_id] for dag_id in dag_ids if dag_id in self.found}
        return {dag_id: Parsed(places[dag_id], self.machine.site.clock()) for dag_id in dag_ids}

    def versions_in_use(self, bundle: str) -> set[str]:
        return self.versions if bundle == BUNDLE else set()

    def pointed_at(self, bundle: str, files: Collection[str]) -> set[str]:
        return self.pointing & set(files) if bundle == BUNDLE else set()

    def unlisted(self, bundle: str, dag_ids: Collection[str]) -> set[str]:
        return self.stales.intersection(dag_ids) if bundle == BUNDLE else set(dag_ids)

    def elsewhere(self, bundle: str, dag_ids: Collection[str] | None) -> dict[str, Elsewhere]:
        assert bundle == BUNDLE
        return {dag_id: name for dag_id, name in self.others.items() if dag_ids is None or dag_id in dag_ids}

    def pools(self) -> set[str]:
        return self.made_pools

    def import_errors(self, bundle: str) -> dict[str, str]:
        return self.shown if bundle == BUNDLE else {}

    def forget_import_errors(self, bundle: str, files: Collection[str]) -> None:
        assert bundle == BUNDLE
        self.shown = {file: text for file, text in self.shown.items() if file not in files}

    def deployed_version(self, bundle: str) -> str | None:
        return self.version if bundle == BUNDLE else None


class DatabaseDown:
    """Occupancy that cannot be known."""

    def _fail(self, *_: object) -> Any:
        raise ConnectionError("the database is down")

    elsewhere = _fail
    unfinished = parsed = versions_in_use = pointed_at = unlisted = pools = import_errors = forget_import_errors = _fail
    deployed_version = _fail


class Faulty(Store):
    """Another store, as far as the test lets it answer."""

    def __init__(self, inner: Store, faults: Faults) -> None:
        self.inner = inner
        self.url = inner.url
        self.faults = faults

    def read(self) -> Reading:
        self.faults.check("read", self.url)
        return self.inner.read()

    def get(self, key: str) -> Entry | None:
        self.faults.check("read", self.url)
        return self.inner.get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        self.faults.check("read", self.url)
        return self.inner.get_many(keys)

    def keys(self) -> list[str]:
        self.faults.check("read", self.url)
        return self.inner.keys()

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        self.faults.check("write", self.url)
        wanted = list(items)
        self.faults.on_write([key for key, _ in wanted])
        self.inner.put_many(wanted)

    def swap(self, key: str, value: bytes, expected: Entry | None) -> bool:
        self.faults.check("write", self.url)
        while self.faults.before_swap:
            self.faults.before_swap.pop()()
        done = self.inner.swap(key, value, expected)
        self.faults.check("answer", self.url)
        return done

    def delete(self, key: str) -> None:
        self.faults.check("write", self.url)
        self.inner.delete(key)

    def beside(self, name: str) -> Store:
        return Faulty(self.inner.beside(name), self.faults)


class Faults:
    """What one machine's stores refuse."""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        """`read`, `write`: without the right to."""
        self.away: set[str] = set()
        """`read`, `write`: without an answer; `answer`: what is swapped is written, and the answer lost."""
        self.before_swap: list[Callable[[], object]] = []
        """What happens just before the next swap, once."""
        self.on_write: Callable[[list[str]], object] = len
        """Is told the keys of each write."""

    def check(self, what: str, url: str) -> None:
        if what in self.away:
            raise StoreUnreachable("does not answer", store=url)
        if what in self.denied:
            raise StoreDenied(f"no right to {what}", store=url)


class Eager(Processor):
    """A processor that looks at once at all that it would look at every few seconds."""

    PAUSE = 0.0
    PATIENCE = 1_000.0
    REST = 0.0

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.rollout.WAIT = self.rollout.FIRST_WAIT = 60.0  # type: ignore[misc]
        self.rollout.DRAIN_INTERVAL = 0.0  # type: ignore[misc]
        self.agreement.RESTORE_AFTER = self.agreement.FAILED_INTERVAL = 0.0  # type: ignore[misc]


class Machine:
    """One machine with a DAG processor and a worker. What stands on its disk survives `restart`, and not `wipe`.

    Args:
        site: the deployment.
        name: of the machine.
        settings: the bundle's own arguments.
    """

    def __init__(self, site: Site, name: str, **settings: Any) -> None:
        self.site = site
        self.disk = site.folder / name
        self.faults = Faults()
        self.occupancy: Occupancy = Scripted(self)
        self.arguments = {**site.arguments, "state_dir": self.disk / "state", **settings}
        self.processor = self._start()

    @property
    def base(self) -> Path:
        """The bundle's folder."""
        return self.disk / "bundles" / BUNDLE

    @property
    def path(self) -> Path:
        """The folder with the files in force."""
        return self.base / "dags"

    @property
    def head(self) -> Head:
        """What this machine has applied."""
        found = self.processor.agreement.heads.applied()
        assert found is not None, "nothing is in force"
        return found

    @property
    def runs(self) -> Scripted:
        """The occupancy, to be told what it says."""
        assert isinstance(self.occupancy, Scripted)
        return self.occupancy

    def refresh(self) -> Machine:
        """Do what Airflow's processor does about once a second."""
        with fresh_registry(self.path):
            self.processor.refresh()
        return self

    def settle(self) -> Machine:
        """Refresh until there is nothing more to do."""
        quiet = 0
        for _ in range(20):
            before = self.processor.agreement.heads.applied(), self.processor.agreement.edition
            quiet = (
                quiet + 1
                if (self.refresh().processor.agreement.heads.applied(), self.processor.agreement.edition) == before
                else 0
            )
            if quiet == 2:
                return self
        raise AssertionError("it does not come to rest")

    def restart(self) -> Machine:
        """End the processor, and start another one."""
        self.processor.stop()
        self.processor = self._start()
        return self

    def wipe(self) -> Machine:
        """Lose the disk, and start another processor."""
        shutil.rmtree(self.disk, ignore_errors=True)
        return self.restart()

    def files(self) -> dict[str, str]:
        """Return the text of all files that may give DAGs."""
        found = (path for folder in ("tenants", "shards") for path in (self.path / folder).glob("*.py"))
        return {str(path.relative_to(self.path)): path.read_text() for path in found}

    def bag(self) -> DagBag:
        """Parse all files as Airflow's processor does."""
        return parsed(self.path)

    def dags(self) -> dict[str, DAG]:
        """Return the DAGs of all files, of which none has an import error."""
        return parse(self.path)

    def errors(self) -> str:
        """Return what Airflow shows as import errors."""
        return "\n".join(self.bag().import_errors.values())

    def bundle(self, version: str | None = None) -> ConsulDagBundle:
        """Return Airflow's own object for the bundle on this machine."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(self.disk / "bundles"))
            return ConsulDagBundle(name=BUNDLE, version=version, **self.arguments)

    def start(self, dag_id: str, version: str | None, file: str) -> dict[str, DAG]:
        """Start a task on this machine: lay out a version, and parse the file that the DAG is said to stand in now."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(PARSING_DAG_ID, dag_id)
            patch.setenv(PARSING_TASK_ID, "before")
            bundle = self.bundle(version)
            bundle.initialize()
            return parse(bundle.path, file)

    def _start(self) -> Processor:
        arguments = dict(self.arguments)
        code = arguments.pop("code", None)
        settings = Settings.read(**arguments)
        processor = Eager(
            BUNDLE,
            self.base,
            self.path,
            settings,
            Codebase(settings.builders, code, name=BUNDLE, interval=0.0),
            occupancy=_OfMachine(self),
            clock=self.site.clock,
        )
        for user in (processor.agreement.heads, processor.agreement.history, processor.reporter):
            user.store = Faulty(user.store, self.faults)
        return processor


class _OfMachine:
    """The occupancy that a machine has at the time."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def unfinished(self, dag_ids: Collection[str]) -> dict[str, bool]:
        return self.machine.occupancy.unfinished(dag_ids)

    def parsed(self, dag_ids: Collection[str]) -> dict[str, Parsed]:
        return self.machine.occupancy.parsed(dag_ids)

    def versions_in_use(self, bundle: str) -> set[str]:
        return self.machine.occupancy.versions_in_use(bundle)

    def pointed_at(self, bundle: str, files: Collection[str]) -> set[str]:
        return self.machine.occupancy.pointed_at(bundle, files)

    def unlisted(self, bundle: str, dag_ids: Collection[str]) -> set[str]:
        return self.machine.occupancy.unlisted(bundle, dag_ids)

    def elsewhere(self, bundle: str, dag_ids: Collection[str] | None) -> Mapping[str, Elsewhere]:
        return self.machine.occupancy.elsewhere(bundle, dag_ids)

    def pools(self) -> set[str]:
        return self.machine.occupancy.pools()

    def import_errors(self, bundle: str) -> dict[str, str]:
        return self.machine.occupancy.import_errors(bundle)

    def forget_import_errors(self, bundle: str, files: Collection[str]) -> None:
        self.machine.occupancy.forget_import_errors(bundle, files)

    def deployed_version(self, bundle: str) -> str | None:
        return self.machine.occupancy.deployed_version(bundle)


class Site:
    """A deployment: a folder of configuration, one of builders, and machines."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.clock = Clock()
        self.config = folder / "config"
        self.config.mkdir()
        self.builders = write(folder / "builders/job.py", JOB)
        self.arguments = {
            "store": str(self.config),
            "builders": str(folder / "builders"),
            "deployment": DEPLOYMENT,
            **settings,
        }

    def machine(self, name: str = "one", **settings: Any) -> Machine:
        """Return another machine of the deployment."""
        return Machine(self, name, **settings)

    def put(self, key: str, value: Any) -> None:
        """Write a document: bytes as they are, all else as JSON."""
        self.store().put(key, value if isinstance(value, bytes) else json.dumps(value).encode())

    def remove(self, *keys: str) -> None:
        for key in keys:
            self.store().delete(key)

    def tenant(self, *names: str, **config: Any) -> None:
        """Write tenants with one DAG, `<name>__job`, of this configuration."""
        for name in names:
            self.put(f"tenants/{name}", {"dags": {"Job": config}})

    def store(self, name: str = "") -> Store:
        """Return the store of the configuration, or one beside it, as it is."""
        store = open_store(str(self.config))
        return store.beside(name) if name else store

    def history(self) -> History:
        """Return the history as a worker sees it that has nothing."""
        return History(lambda: self.store("history"), DEPLOYMENT, None, fill=False)

    def unmount(self) -> None:
        """Make the store unreachable, with all beside it."""
        for path in self.folder.glob("config*"):
            path.rename(path.with_name(f"un{path.name}"))

    def mount(self) -> None:
        """Bring it back."""
        for path in self.folder.glob("unconfig*"):
            path.rename(path.with_name(path.name.removeprefix("un")))

    def forget(self) -> None:
        """Lose all that the deployment has agreed on, and the history."""
        for name in ("runtime", "history"):
            for path in self.folder.glob(f"*config-{name}"):
                shutil.rmtree(path)


def parsed(folder: Path, file: str = "") -> DagBag:
    """Parse a bundle's file, or all of them, as Airflow does in a process of its own."""
    with fresh_registry(folder.parent), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "GitWildMatchPattern", DeprecationWarning)  # Airflow's own
        return DagBag(dag_folder=folder / file, bundle_path=folder, bundle_name=BUNDLE)


def parse(folder: Path, file: str = "") -> dict[str, DAG]:
    """Return the DAGs of a bundle's file, or of all of them; none has an import error."""
    bag = parsed(folder, file)
    assert bag.import_errors == {}
    return dict(bag.dags)


def make_database() -> None:
    """Give this process's Airflow the tables of its database, empty."""
    from airflow import settings
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    import_all_models()  # type: ignore[no-untyped-call]
    Base.metadata.drop_all(settings.engine)
    Base.metadata.create_all(settings.engine)
    with create_session() as session:
        session.add_all([DagBundleModel(name=BUNDLE), DagBundleModel(name="other")])
