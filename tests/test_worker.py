"""A worker's part: the one DAG of a task, as it was in the version that its run is pinned to."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dagfactory_consul.arrangement import shard
from dagfactory_consul.codebase import Codebase
from dagfactory_consul.errors import SnapshotError, StoreUnreachable, VersionGoneError
from dagfactory_consul.history import part_of
from dagfactory_consul.manifest import Version, reference
from dagfactory_consul.settings import Settings
from dagfactory_consul.worker import ALL, Worker
from tests.bundles import BUNDLE, Machine, Site, parse
from tests.deployment import JOB, shown
from tests.making import write


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A deployment with two tenants of one DAG each."""
    site = Site(tmp_path)
    site.tenant("acme", "zenith")
    return site


@pytest.fixture
def one(site: Site) -> Machine:
    """A machine with both in force."""
    return site.machine().settle()


def worker(site: Site, name: str = "away") -> Worker:
    """Return a worker on a machine that has nothing."""
    settings = Settings.read(**site.arguments, state_dir=site.folder / name / "state")
    base = site.folder / name / "bundle"
    return Worker(BUNDLE, base, base / "versions", settings, Codebase(settings.builders, None, name=BUNDLE))


def missed(away: Worker, version: str, dag_id: str) -> str:
    """Return what is said of a version once it has been missing for long."""
    with suppress(StoreUnreachable):
        away.lay_out(version, dag_id)
    later(away, version, away.MISSED + 1)
    with pytest.raises(VersionGoneError) as caught:
        away.lay_out(version, dag_id)
    return str(caught.value)


def later(away: Worker, version: str, seconds: float) -> None:
    """Let time pass since a version was first missing."""
    at = time.time() - seconds
    os.utime(away.missed / version, (at, at))


def limits(folder: Path, file: str) -> dict[str, str]:
    """Return what each DAG of a file was built with."""
    return {dag_id: shown(dag) for dag_id, dag in parse(folder, file).items()}


@pytest.mark.parametrize("file", ["tenants/acme.py", shard(0), shard(127)])
def test_the_dag_is_found_wherever_it_stands_now(site: Site, one: Machine, file: str) -> None:
    """Airflow tells a worker the file in which the DAG stands *now*, whichever it stood in then."""
    folder = worker(site).lay_out(one.head.version, "acme__job")
    assert limits(folder, file) == {"acme__job": "10 v1"}


def test_a_disk_without_hard_links(site: Site, one: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems give a file one name only: the DAG is found under each of them all the same."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    folder = worker(site).lay_out(one.head.version, "acme__job")
    assert limits(folder, "tenants/acme.py") == limits(folder, shard(127)) == {"acme__job": "10 v1"}


def test_only_what_is_asked_for_is_laid_out(site: Site, one: Machine) -> None:
    """A task's folder holds its one DAG, however many the version has."""
    folder = worker(site).lay_out(one.head.version, "acme__job")
    assert "zenith" not in (folder / "tenants/acme.py").read_text()
    assert not (folder / "tenants/zenith.py").exists()


def test_each_run_has_the_version_that_it_began_with(site: Site, one: Machine) -> None:
    """Two versions stand beside each other: configuration and code are those of then."""
    old = one.head.version
    site.tenant("acme", limit=20)
    write(site.builders, JOB.replace("{self.config.limit} ", "{self.config.limit}!"))
    new = one.settle().head.version
    away = worker(site)
    assert limits(away.lay_out(old, "acme__job"), "tenants/acme.py") == {"acme__job": "10 v1"}
    assert limits(away.lay_out(new, "acme__job"), "tenants/acme.py") == {"acme__job": "20!v1"}


def test_a_dag_that_is_gone_is_there_for_its_runs(site: Site, one: Machine) -> None:
    """A tenant that was removed has no file any more: a run of it ends all the same, on any machine."""
    old = one.head.version
    site.remove("tenants/acme")
    assert sorted(one.settle().dags()) == ["zenith__job"]
    assert limits(worker(site).lay_out(old, "acme__job"), "tenants/acme.py") == {"acme__job": "10 v1"}


def test_what_is_laid_out_needs_no_store(site: Site, one: Machine) -> None:
    """The second task of a run reads nothing from the store."""
    away = worker(site)
    folder = away.lay_out(one.head.version, "acme__job")
    site.unmount()
    assert away.lay_out(one.head.version, "acme__job") == folder


def test_a_worker_beside_a_processor_needs_no_store(site: Site, one: Machine) -> None:
    """Where both share a disk, the processor's own copy of the history is enough."""
    site.unmount()
    assert shown(one.start("acme__job", one.head.version, "tenants/acme.py")["acme__job"]) == "10 v1"


def test_a_version_that_is_gone(site: Site, one: Machine) -> None:
    """It is an error that names the version, the place, how long the history keeps them, and what to do."""
    text = missed(worker(site), "nosuchversion", "acme__job")
    assert all(word in text for word in ("nosuchversion", BUNDLE, "config-history", "500 versions", "30 days", "Clear"))
    assert one.head.version not in text


@pytest.mark.usefixtures("one")
def test_a_version_that_is_missing_is_looked_for_again(site: Site) -> None:
    """A processor may be just writing it again: for a while it counts as a store that does not answer."""
    away = worker(site)
    for seconds in (0, 20, 40):
        with pytest.raises(StoreUnreachable, match="looked for again"):
            away.lay_out("v0", "acme__job")
        later(away, "v0", seconds)
    later(away, "v0", away.MISSED + 1)
    with pytest.raises(VersionGoneError):
        away.lay_out("v0", "acme__job")
    later(away, "v0", away.FORGOTTEN + 1)
    with pytest.raises(StoreUnreachable):
        away.lay_out("v0", "acme__job")


def test_a_version_that_is_back_was_never_gone(site: Site, one: Machine) -> None:
    """What was missing and is there again leaves no trace: the next time it is looked for as long."""
    away = worker(site)
    version = site.history().version(one.head.version)
    assert version is not None
    site.history().drop([version.name], [])
    with pytest.raises(StoreUnreachable):
        away.lay_out(version.name, "acme__job")
    site.history().put({}, version)
    away.lay_out(version.name, "acme__job")
    assert list(away.missed.iterdir()) == []


def test_a_dag_that_the_version_never_had(site: Site, one: Machine) -> None:
    """A version that is there and has no such DAG says so."""
    for dag_id in ("nobody__job", next(f"x{n}" for n in range(999) if part_of(f"x{n}") == part_of("acme__job"))):
        assert f"no DAG '{dag_id}'" in missed(worker(site, dag_id), one.head.version, dag_id)


def forge(site: Site, version: str, **fields: Any) -> Version:
    """Write other contents under a version's name, as somebody does who may write to the history alone."""
    record = site.history().version(version)
    assert record is not None
    site.history().put({}, record._replace(**fields))
    return record


def test_a_forged_version_runs_nothing(site: Site, one: Machine) -> None:
    """Other code under the name of the version that a run is pinned to is refused, and nothing is laid out."""
    evil = b"an archive with other code"
    site.history().put({reference(evil): evil})
    forge(site, one.head.version, code_blob=reference(evil), code=reference(evil))
    away = worker(site)
    with pytest.raises(SnapshotError, match=f"is not version {one.head.version} as it was published"):
        away.lay_out(one.head.version, "acme__job")
    assert not away.versions.exists()


def test_an_archive_that_is_not_its_codes_is_never_unpacked(site: Site, one: Machine) -> None:
    """The code's own name is a hash of its archive: another one is refused, although its reference is right."""
    record = site.history().version(one.head.version)
    assert record is not None
    evil = b"an archive with other code"
    forged = record._replace(code_blob=reference(evil)).named()
    site.history().put({reference(evil): evil}, forged)
    away = worker(site)
    with pytest.raises(SnapshotError, match="its archive is another one"):
        away.lay_out(forged.name, "acme__job")
    assert list(away.versions.rglob("*.py")) == []


def test_a_store_that_does_not_answer(site: Site, one: Machine) -> None:
    """Its silence is no answer: the store's own error comes through, for the task to start again later."""
    site.unmount()
    with pytest.raises(StoreUnreachable):
        worker(site).lay_out(one.head.version, "acme__job")


def test_a_store_that_was_emptied(site: Site, one: Machine) -> None:
    """Where nothing is known of the deployment at all the version is not gone: a processor writes it again."""
    site.forget()
    with pytest.raises(StoreUnreachable, match="writes it again"):
        worker(site).lay_out(one.head.version, "acme__job")
    one.settle()
    assert limits(worker(site).lay_out(one.head.version, "acme__job"), "tenants/acme.py") == {"acme__job": "10 v1"}


def test_contents_that_are_missing_name_their_version(site: Site, one: Machine) -> None:
    """A version whose contents were lost is gone, and the error says which one."""
    version = site.history().version(one.head.version)
    assert version is not None
    site.history().drop([], version.blobs())
    assert f"version {one.head.version} of the bundle" in missed(worker(site), one.head.version, "acme__job")


def test_the_present_version(site: Site, one: Machine) -> None:
    """Without a version it is what this machine has applied, else what the deployment has agreed on."""
    assert worker(site).current() == one.head.version
    site.forget()
    with pytest.raises(VersionGoneError, match="nothing was ever published"):
        worker(site).current()


def test_a_callback_gets_all_files(site: Site, one: Machine) -> None:
    """A callback names no DAG: the whole version is laid out, each file under its own name."""
    folder = worker(site).lay_out(one.head.version, None)
    assert folder.name == ALL
    assert limits(folder, "tenants/acme.py") == {"acme__job": "10 v1"}
    assert limits(folder, "tenants/zenith.py") == {"zenith__job": "10 v1"}


def test_many_at_once(site: Site, one: Machine) -> None:
    """Tasks that start at the same time on one machine lay out the same, and leave nothing else."""
    away, gate, errors = worker(site), threading.Barrier(8), []

    def lay_out(number: int) -> None:
        gate.wait(10)
        try:
            away.lay_out(one.head.version, ("acme__job", "zenith__job")[number % 2])
        except Exception as error:  # noqa: BLE001  # shown below
            errors.append(error)

    threads = [threading.Thread(target=lay_out, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(path.name for path in (away.versions / one.head.version).iterdir()) == [
        "acme__job",
        "code",
        "zenith__job",
    ]


def test_a_disk_that_is_full_leaves_no_half_version(site: Site, one: Machine) -> None:
    """What cannot be written is the disk's error, and no folder that the next task would take for the version."""
    away = worker(site)
    write(away.versions / one.head.version / "code", "in the way")
    with pytest.raises(OSError, match="code"):
        away.lay_out(one.head.version, "acme__job")
    assert [path.name for path in (away.versions / one.head.version).iterdir()] == ["code"]
