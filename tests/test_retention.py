"""Which versions the history keeps, and what else in it goes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import pytest

from dagfactory_consul.edition import Edition, load
from dagfactory_consul.errors import StoreUnreachable
from dagfactory_consul.history import History
from dagfactory_consul.retention import Retention
from dagfactory_consul.settings import Settings
from dagfactory_consul.stores.memory import MemoryStore
from tests.bundles import Clock
from tests.test_contents import placed
from tests.test_edition import history, make, of, publish

DAY = 86_400.0


class Kept:
    """A history with some versions, a day apart, of which the last is in force."""

    def __init__(self, versions: int = 5) -> None:
        self.history = history()
        self.clock = Clock()
        self.used: set[str] = set()
        self.editions: list[Edition] = []
        for number in range(versions):
            self.clock.now += DAY
            before = self.editions[-1] if self.editions else None
            draft = make(of(placed(config={"limit": number})), before, at=self.clock())
            self.editions.append(publish(self.history, draft))

    @property
    def names(self) -> list[str]:
        return [edition.version.name for edition in self.editions]

    @property
    def store(self) -> MemoryStore:
        assert isinstance(self.history.store, MemoryStore)
        return self.history.store

    def retention(self, in_use: Callable[[], set[str]] | None = None, **settings: Any) -> Retention:
        return Retention(self.history, Settings.read(**settings), in_use or (lambda: self.used), self.clock)

    def left(self) -> list[str]:
        """Return which versions are left, by their place."""
        found = self.history.keys()[0]
        return [name for name in self.names if name in found]


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_what_is_young_and_among_the_newest_stays(kept: Kept) -> None:
    """Both limits hold: no more than so many, and none that is older than so long."""
    kept.retention(history_count=3, history_age=30 * DAY).sweep(kept.editions[-1], now=True)
    assert kept.left() == kept.names[-3:]
    kept.retention(history_count=500, history_age=0.5 * DAY).sweep(kept.editions[-1], now=True)
    assert kept.left() == kept.names[-2:]


def stored(kept: Kept) -> int:
    """Return how many bytes the contents of all versions take in the store."""
    refs = {ref for edition in kept.editions for ref in (*edition.references(), *edition.version.blobs())}
    sizes = kept.history.sizes(refs, float("inf"))
    assert sizes is not None
    return sum(sizes.values())


def test_the_oldest_go_where_the_store_has_no_room(kept: Kept) -> None:
    """The history takes so many bytes at most, and the newest versions that fit stay."""
    retention = kept.retention(history_bytes=stored(kept) - 1)
    retention.sweep(kept.editions[-1], now=True)
    assert kept.left() == kept.names[1:]
    kept.retention(history_bytes=stored(kept) // 2).sweep(kept.editions[-1], now=True)
    assert kept.names[-1] in kept.left()
    assert 0 < len(kept.left()) < 4


def test_what_is_in_use_stays_however_large(kept: Kept) -> None:
    """No limit takes away what a run or a DAG needs."""
    kept.used = {kept.names[0]}
    kept.retention(history_bytes=0).sweep(kept.editions[-1], now=True)
    assert kept.left() == [kept.names[0], kept.names[-1]]
    assert kept.history.get(kept.editions[0].version.blobs())


def test_sizes_that_are_not_known_in_time_drop_nothing(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sweep has no time to weigh stays until a next one has."""
    monkeypatch.setattr(kept.history, "sizes", lambda _refs, _until: None)
    kept.retention(history_bytes=0).sweep(kept.editions[-1], now=True)
    assert kept.left() == kept.names


def test_a_versions_age_begins_when_it_goes_out_of_force(kept: Kept) -> None:
    """What was in force for a year, until yesterday, is a day old."""
    kept.clock.now += 365 * DAY
    draft = make(of(placed(config={"limit": 99})), kept.editions[-1], at=kept.clock())
    kept.editions.append(publish(kept.history, draft))
    kept.retention(history_age=1.5 * DAY).sweep(kept.editions[-1], now=True)
    assert kept.left() == kept.names[-2:]


def test_a_machines_own_copy_is_swept_too(kept: Kept, tmp_path_factory: Any) -> None:
    """What another processor has dropped from the store goes from this machine as well, and what stays stays."""
    folder = tmp_path_factory.mktemp("cache")
    here = History(lambda: kept.store, "tested", folder, fill=True)
    for edition in kept.editions:
        assert here.version(edition.version.name)
        here.get([edition.head.state, *edition.version.blobs()])
    kept.retention(history_count=1).sweep(kept.editions[-1], now=True)
    kept.history = here
    kept.used = {kept.names[0]}
    kept.retention(history_count=1).sweep(kept.editions[-1], now=True)
    left = {path.name for path in folder.rglob("*") if path.is_file()}
    needed = {*kept.editions[0].version.blobs(), *kept.editions[-1].version.blobs(), kept.editions[-1].head.state}
    assert left == {kept.names[0], kept.names[-1]} | needed


def test_what_is_in_use_stays(kept: Kept) -> None:
    """A version that a run or a DAG needs stays whatever its age, with all its contents; so does the present one."""
    kept.used = {kept.names[0]}
    retention = kept.retention(history_count=0, history_age=0)
    for _ in range(3):
        retention.sweep(kept.editions[-1], now=True)
    assert kept.left() == [kept.names[0], kept.names[-1]]
    assert kept.history.get(kept.editions[0].version.blobs())
    assert load(kept.editions[-1].head, kept.history)


def test_contents_go_when_two_sweeps_have_seen_them_unneeded(kept: Kept) -> None:
    """Another processor writes contents first, and then the version that needs them."""
    orphan = {"0" * 32: b"of a version that is just being written"}
    kept.history.put(orphan)
    retention = kept.retention()
    retention.sweep(kept.editions[-1], now=True)
    assert "0" * 32 in kept.history.keys()[1]
    retention.sweep(kept.editions[-1], now=True)
    assert "0" * 32 not in kept.history.keys()[1]


def test_contents_that_came_into_need_stay(kept: Kept) -> None:
    """What was unneeded at one sweep, and is needed at the next, stays."""
    draft = make(of(placed(config={"limit": 99})), kept.editions[-1], at=kept.clock())
    kept.history.put(draft.blobs)
    retention = kept.retention()
    retention.sweep(kept.editions[-1], now=True)
    later = publish(kept.history, draft)
    for _ in range(2):
        retention.sweep(later, now=True)
    assert kept.history.get([later.head.state, *later.version.blobs()])


@pytest.mark.parametrize("lost", ["contents", "state", "version"])
def test_what_is_missing_of_the_present_version_is_put_back(kept: Kept, lost: str, tmp_path_factory: Any) -> None:
    """What somebody has deleted is written again from this machine, before a worker needs it."""
    here = History(lambda: kept.store, "tested", tmp_path_factory.mktemp("cache"), fill=True)
    edition = kept.editions[-1]
    here.get([edition.head.state, *edition.head.documents.values(), *edition.version.blobs()])
    here.put_locally({}, edition.version)
    names = {"contents": edition.version.blobs(), "state": {edition.head.state}, "version": set()}[lost]
    kept.history.drop([edition.version.name] if lost == "version" else [], names)
    kept.history = here
    kept.retention().sweep(edition, now=True)
    elsewhere = History(lambda: kept.store, "tested", None, fill=False)
    assert elsewhere.version(edition.version.name) == edition.version
    assert elsewhere.get([edition.head.state, *edition.version.blobs()])


def test_a_database_that_is_down_keeps_all(kept: Kept) -> None:
    """Where it cannot be known what is in use nothing goes."""

    def fail() -> set[str]:
        raise ConnectionError("the database is down")

    kept.retention(fail, history_count=0, history_age=0).sweep(kept.editions[-1], now=True)
    assert kept.left() == kept.names


def test_a_store_that_does_not_answer_costs_a_warning(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """A sweep that fails is no failure of a refresh."""
    kept.store.failure = StoreUnreachable("asleep", store="x")
    kept.retention().sweep(kept.editions[-1], now=True)
    assert "not swept" in caplog.text


def test_a_version_that_cannot_be_read_keeps_all_contents(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """What it needs is not known: it stays, and no contents go until somebody has looked."""
    kept.store.put(f"tested/versions/{kept.names[0]}", b"1\n" + zlib.compress(b"{}"))
    before = kept.history.keys()[1]
    retention = kept.retention(history_count=0, history_age=0)
    for _ in range(3):
        retention.sweep(kept.editions[-1], now=True)
    assert kept.names[0] in kept.left()
    assert kept.history.keys()[1] == before
    assert kept.names[0] in caplog.text


def test_another_deployments_history_is_not_touched(kept: Kept) -> None:
    """Two deployments beside one prefix sweep each their own."""
    other = History(lambda: kept.store, "other", None, fill=False)
    draft = make(of(placed()))
    publish(other, draft)
    retention = kept.retention(history_count=0, history_age=0)
    for _ in range(3):
        retention.sweep(kept.editions[-1], now=True)
    assert other.keys() == ({draft.edition.version.name}, set(draft.blobs))


def test_a_sweep_does_not_take_long(kept: Kept) -> None:
    """One sweep removes so many at most, and the rest soon after it: nothing else happens meanwhile."""
    retention = kept.retention(history_count=0, history_age=0)
    retention.AT_ONCE = 2  # type: ignore[misc]
    left = []
    for _ in range(3):
        retention.sweep(kept.editions[-1], now=True)
        left.append(len(kept.left()))
    assert left == [3, 1, 1]


def test_sweeps_have_their_time(kept: Kept) -> None:
    """A sweep reads the whole history: it comes once in a while, and not with each look."""
    retention = kept.retention(history_count=0, history_age=0)
    retention.sweep(kept.editions[-1])
    assert kept.left() == kept.names
    retention.INTERVAL = 0.0  # type: ignore[misc]
    retention.sweep(kept.editions[-1])
    assert kept.left() == kept.names[-1:]
