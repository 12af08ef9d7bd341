from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dagfactory_consul.attempt import PARSES_HERE
from dagfactory_consul.client import ACCEPTED, CachedClient, ConfigClient
from dagfactory_consul.errors import NothingKnownError, SettingsError, StoreDenied, StoreUnreachable
from dagfactory_consul.snapshot import Snapshot
from dagfactory_consul.stores.base import READY, Reading, Store
from dagfactory_consul.stores.memory import MemoryStore
from tests.waiting import wait_until

TTL = 30.0
NOW = 1_000_000.0
ONE_DAG: dict[str, Any] = {"dags": {"Job": {}}}

PROCESS = """
import sys, time
from pathlib import Path
from dagfactory_consul.client import ConfigClient
from dagfactory_consul.stores.base import Entry, Reading, Store

class SlowStore(Store):
    url = "slow://"

    def read(self):
        with (here / "reads").open("a") as reads:
            reads.write("read\\n")
        while not (here / "answer").exists():
            time.sleep(0.01)
        return Reading((Entry("tenants/new", b"{}"), Entry("_ready", b"")), source=self.url)

    def beside(self, name):
        raise AssertionError(name)

here = Path(sys.argv[1])
client = ConfigClient(SlowStore, here / "state", clock=lambda: float(sys.argv[2]), timeout=20)
sys.stdin.readline()
print(*client.current(), flush=True)
"""
"""A process that reads a store which answers when a file named `answer` is there, and that notes each read."""


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class CountedStore(MemoryStore):
    """A store that counts what it is asked, and does what a test says before it answers."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.reads = self.probes = 0
        self.waits: list[tuple[str, float]] = []
        self.before_read: Callable[[], None] = lambda: None

    def read(self) -> Reading:
        self.reads += 1
        self.before_read()
        return super().read()

    def probe(self) -> str | None:
        self.probes += 1
        return super().probe()

    def await_change(self, mark: str, seconds: float) -> bool:
        self.waits.append((mark, seconds))
        if self.failure is not None:
            raise self.failure
        return True

    def fill(self, documents: dict[str, Any]) -> None:
        """Hold these documents and no others."""
        for entry in super().read().entries:
            self.delete(entry.key)
        self.put_many((key, json.dumps(value).encode()) for key, value in documents.items())

    def slow_down(self) -> tuple[threading.Event, threading.Event]:
        """Answer when the second event is set; the first one says that there is a question."""
        asked, answer = threading.Event(), threading.Event()

        def wait() -> None:
            asked.set()
            answer.wait(10)

        self.before_read = wait
        return asked, answer

    def fail(self, message: str | None = "refused") -> None:
        """Fail until told otherwise by None."""
        self.failure = None if message is None else StoreUnreachable(message, store=self.url)


class World:
    """A store, a fallback, a folder for what is known, and a clock. Each client is as one of a new process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "state"
        self.clock = Clock()
        self.store = CountedStore(folder.name)
        self.other = CountedStore(f"{folder.name}-fallback")
        self.store.fill({READY: True, "tenants/acme": ONE_DAG})

    def client(self, **arguments: Any) -> ConfigClient:
        return ConfigClient(lambda: self.store, self.folder, ttl=TTL, clock=self.clock, **arguments)

    def with_fallback(self, **arguments: Any) -> ConfigClient:
        return self.client(fallback=lambda: self.other, **arguments)

    def later(self, seconds: float = TTL, **arguments: Any) -> Snapshot:
        """Return what a new process sees after so many seconds."""
        self.clock.now += seconds
        return self.client(**arguments).current()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged since the last call."""
    caplog.set_level(logging.INFO, logger="dagfactory_consul")

    def since() -> list[str]:
        found = caplog.messages
        caplog.clear()
        return found

    return since


# --- The TTL, across processes


def test_the_first_process_reads_the_store(world: World) -> None:
    """Where nothing is known the store is read, and what it says is kept with its source and time."""
    found = world.client().current()
    assert sorted(found) == [READY, "tenants/acme"]
    assert (found.source, found.read_at) == (world.store.url, NOW)
    assert world.client().about()["version"] == found.version


def test_within_the_ttl_no_process_asks(world: World) -> None:
    """A snapshot counts as current for its TTL, in every process: nobody asks even whether the store has changed."""
    world.client().current()
    world.store.fill({READY: True, "tenants/zenith": {}})
    asked = (world.store.reads, world.store.probes)
    assert "tenants/acme" in world.later(TTL - 1)
    assert (world.store.reads, world.store.probes) == asked


def test_after_the_ttl_a_change_is_seen(world: World) -> None:
    """When the TTL has passed the next process takes over what the store says now."""
    world.client().current()
    world.store.fill({READY: True, "tenants/acme": {"enabled": False}})
    assert world.later()["tenants/acme"].value == {"enabled": False}


def test_a_change_is_waited_for(world: World) -> None:
    """The store itself waits for a change of what is kept, and a store that fails meanwhile is the next refresh's."""
    client = world.client()
    assert not client.await_change(0.5)
    assert world.store.waits == []
    client.current()
    for failure in (None, StoreDenied("no", store=world.store.url)):
        world.store.failure = failure
        assert client.await_change(0.5) == (failure is None)
    world.store.failure = None
    assert world.store.waits == [(world.store.probe(), 0.5)] * 2


def test_no_change_is_waited_for_where_nothing_is_told(world: World) -> None:
    """A store that fails is asked when it is due, and what another one has said is not compared."""
    world.client().current()
    world.store.fail()
    world.later()
    assert not world.client().await_change(0.5)
    assert not ConfigClient(lambda: world.other, world.folder, clock=world.clock).await_change(0.5)
    assert world.store.waits == world.other.waits == []


def test_what_has_not_changed_is_not_read(world: World) -> None:
    """A refresh asks for the change mark first, and reads only if it is another one."""
    first = world.client().current()
    assert world.later().version == first.version
    assert world.store.reads == 1


def test_a_mark_that_goes_backwards_is_a_change(world: World) -> None:
    """Any other mark is a change: a store that was set up anew counts from the beginning."""
    world.client().current()
    world.store._place.changes = 0
    world.later()
    assert world.store.reads == 2


def test_the_mark_of_another_store_says_nothing(world: World) -> None:
    """What one store said is not compared with the mark of another: it is read."""
    world.client().current()
    moved = CountedStore(f"{world.store.name}-moved")
    moved.fill({READY: True, "tenants/acme": {"enabled": False}})
    moved._place.changes = world.store._place.changes
    world.store = moved
    assert world.later()["tenants/acme"].value == {"enabled": False}


def test_a_clock_that_was_set_back_stops_no_refresh(world: World) -> None:
    """After the clock was set back the store is read again, and no age is negative."""
    world.client().current()
    world.store.put("tenants/acme", b'{"enabled": false}')
    found = world.later(-3600)
    assert found["tenants/acme"].value == {"enabled": False}
    assert found.age(world.clock() - 10) == 0


def test_a_refresh_that_somebody_just_made_is_not_made_again(world: World) -> None:
    """Between seeing that a refresh is due and holding the lock another process may have made it: once is enough."""
    world.client().current()
    world.clock.now += TTL
    late, before = world.client(), world.store.probes

    def while_it_looks() -> float:
        late.clock = world.clock
        world.client().current()
        return world.clock()

    late.clock = while_it_looks
    late.current()
    assert world.store.probes - before == 1


def test_one_process_of_many_refreshes(tmp_path: Path) -> None:
    """One process a TTL asks a slow store; all others go on at once with the old snapshot, before it has answered."""
    store = CountedStore(tmp_path.name)
    store.fill({READY: True, "tenants/old": {}})
    ConfigClient(lambda: store, tmp_path / "state", clock=lambda: NOW).current()
    with processes(tmp_path, 5, now=NOW + TTL) as running:
        answered = finished(running, 4)
        assert [output(each) for each in answered] == ["_ready tenants/old"] * 4
        (tmp_path / "answer").touch()
        (asking,) = set(running) - set(answered)
        assert output(asking) == "_ready tenants/new"
    assert (tmp_path / "reads").read_text() == "read\n"


def test_the_first_read_is_shared(tmp_path: Path) -> None:
    """Where nothing is known yet the others wait for the one process that reads, and read nothing themselves."""
    with processes(tmp_path, 3, now=NOW) as running:
        wait_until((tmp_path / "reads").exists)
        (tmp_path / "answer").touch()
        assert [output(each) for each in running] == ["_ready tenants/new"] * 3
    assert (tmp_path / "reads").read_text() == "read\n"


def test_a_killed_process_holds_up_nobody(tmp_path: Path) -> None:
    """A process that is killed while it asks leaves no lock, counts as a failed attempt, and is then followed."""
    with processes(tmp_path, 1, now=NOW) as (killed,):
        wait_until((tmp_path / "reads").exists)
        killed.kill()
        killed.wait()
    (tmp_path / "answer").touch()
    with processes(tmp_path, 1, now=NOW + TTL) as (next_one,):
        assert output(next_one) == "_ready tenants/new"


class processes:  # noqa: N801  # used as a function
    """So many processes of `PROCESS`, set off at the same time, and none of them left in the end."""

    def __init__(self, folder: Path, count: int, *, now: float) -> None:
        command = [sys.executable, "-c", PROCESS, str(folder), str(now)]
        pipe = subprocess.PIPE
        self.started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(count)]

    def __enter__(self) -> list[subprocess.Popen[str]]:
        for each in self.started:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        return self.started

    def __exit__(self, *_: object) -> None:
        for each in self.started:
            each.kill()
            each.communicate()


def finished(running: list[subprocess.Popen[str]], count: int) -> list[subprocess.Popen[str]]:
    """Return so many of the processes as soon as they have ended."""

    def ended() -> list[subprocess.Popen[str]] | None:
        found = [each for each in running if each.poll() is not None]
        return found if len(found) >= count else None

    return wait_until(ended) or []


def output(process: subprocess.Popen[str]) -> str:
    """Return what a process has printed, when it has ended."""
    process.wait(10)
    assert process.stdout is not None
    return process.stdout.read().strip()


# --- The last known good one


def test_a_failing_store_changes_nothing(world: World) -> None:
    """What was read last stays in force while the store fails: for a minute, and for a year."""
    before = world.client().current()
    world.store.fail()
    assert world.later().documents == before.documents
    assert world.later(365 * 86_400).documents == before.documents


@pytest.mark.parametrize("error", [StoreUnreachable, StoreDenied])
def test_every_failure_of_a_store_is_one(world: World, error: type[StoreUnreachable | StoreDenied]) -> None:
    """Denied is no less a failure than refused: nothing goes because of it."""
    world.client().current()
    world.store.failure = error("no", store=world.store.url)
    assert "tenants/acme" in world.later()


def test_a_failing_store_is_left_in_peace(world: World) -> None:
    """Attempts become rarer while the store fails, in all processes together."""
    world.client().current()
    world.store.fail()
    before = world.store.probes
    for _ in range(600):
        world.later(1)
    assert world.store.probes - before == 11  # after 30 and 60 s, then once a minute


def test_a_store_that_answers_again_is_asked_as_before(world: World) -> None:
    """One success ends the back-off, and what has changed meanwhile is in force."""
    world.client().current()
    world.store.fail()
    for _ in range(5):
        world.later(60)
    world.store.fail(None)
    world.store.put("tenants/acme", b"{}")
    assert world.later(60)["tenants/acme"].value == {}
    assert world.client().last_attempt().failures == 0
    world.store.put("tenants/acme", b"[]")
    assert world.later(TTL)["tenants/acme"].value == []


def test_its_age_is_logged_once(world: World, messages: Callable[[], list[str]]) -> None:
    """A failure is logged with the snapshot's age when it begins, not with each parse; so is its end."""
    world.client().current()
    world.store.fail()
    world.later(90)
    assert messages() == [f"{world.store.url}: refused. The configuration of 90 s ago stays in force"]
    for _ in range(5):
        world.later(60)
    assert messages() == []
    world.store.fail(None)
    world.later(60)
    assert messages() == [f"{world.store.url} answers again, after 6 failed attempts"]
    world.store.fail()
    world.later()
    assert len(messages()) == 1


def test_its_age_is_known(world: World) -> None:
    """How old what is in force is can be told from it."""
    world.client().current()
    world.store.fail()
    assert world.later(90).age(world.clock()) == 90


def test_one_failure_is_no_problem_yet(world: World) -> None:
    """A hiccup is not shown to anybody; the second failure in a row is, with the time of what is in force."""
    world.client().current()
    world.store.fail()
    world.later()
    assert world.client().problems() == []
    world.later()
    assert world.client().problems() == [
        f"what held at 1970-01-12 13:46:40 UTC stays in force: {world.store.url}: refused"
    ]


# --- Nothing known


def test_nothing_known_is_an_error(world: World) -> None:
    """Without a store and without a local copy there is an error that says why, and never an empty set of tenants."""
    world.store.fail()
    with pytest.raises(NothingKnownError, match=r"nothing is known of the configuration: .*: refused"):
        world.client().current()
    with pytest.raises(NothingKnownError, match=r"refused \(asked again later\)"):
        world.client().current()


def test_an_empty_store_is_not_zero_tenants(world: World) -> None:
    """A store that holds nothing, and never held anything, is an error that says what to do."""
    world.store.fill({})
    with pytest.raises(NothingKnownError, match=r"holds nothing.*dagfactory-consul push FOLDER.*_ready"):
        world.with_fallback().current()
    assert world.other.reads == 0


def test_the_marker_alone_says_that_there_are_none(world: World) -> None:
    """A store that holds only the marker is complete: no tenants is then what somebody wants."""
    world.store.fill({READY: True})
    assert list(world.client().current()) == [READY]
    assert list(world.client().current()) == [READY]


def test_a_first_read_that_does_not_end_is_not_waited_for(world: World) -> None:
    """Who finds another process at the very first read waits for its timeout, then says that nothing is known."""
    asked, answer = world.store.slow_down()
    with ThreadPoolExecutor() as threads:
        first = threads.submit(world.client().current)
        asked.wait(10)
        with pytest.raises(NothingKnownError, match="has not been read yet"):
            world.client(timeout=0.05).current()
        answer.set()
        assert "tenants/acme" in first.result()


def test_nothing_known_is_no_problem_with_a_date(world: World) -> None:
    """Where nothing is in force nothing is said to stay in force: the parse's own error says it all."""
    world.store.fail()
    for _ in range(3):
        with pytest.raises(NothingKnownError):
            world.later(60)
    assert world.client().problems() == []


# --- The fallback


def test_the_fallback_is_asked_where_nothing_else_is_known(world: World, messages: Callable[[], list[str]]) -> None:
    """Without a local copy, and without the store, the fallback says what is in force, and the log says so."""
    world.other.fill({"tenants/emergency": ONE_DAG})
    world.store.fail()
    assert list(world.with_fallback().current()) == ["tenants/emergency"]
    assert messages() == [f"{world.store.url}: refused. Using {world.other.url} until it answers"]


def test_the_fallback_is_not_asked_while_something_is_known(world: World) -> None:
    """An old local copy is better than the fallback, however old it is."""
    world.other.fill({"tenants/emergency": ONE_DAG})
    world.client().current()
    world.store.fail()
    world.clock.now += 365 * 86_400
    assert "tenants/acme" in world.with_fallback().current()
    assert world.other.reads == 0


def test_what_the_fallback_says_is_not_kept(world: World) -> None:
    """The store's first answer is not weighed against the fallback: what only that held goes at once."""
    world.other.fill({f"tenants/t{number}": ONE_DAG for number in range(20)})
    world.store.fail()
    assert len(world.with_fallback().current()) == 20
    assert world.client().kept() is None
    world.store.fail(None)
    found = world.later()
    assert (sorted(found), found.held) == ([READY, "tenants/acme"], None)


def test_during_back_off_only_the_fallback_is_asked(world: World) -> None:
    """While the store is left in peace each process is still told what is in force."""
    world.other.fill({"tenants/emergency": ONE_DAG})
    world.store.fail()
    assert list(world.with_fallback().current()) == ["tenants/emergency"]
    reads = world.store.reads
    assert list(world.with_fallback().current()) == ["tenants/emergency"]
    assert world.store.reads == reads


@pytest.mark.parametrize("why", ["gone too", None])
def test_a_fallback_that_does_not_help_is_named(world: World, why: str | None) -> None:
    """Where neither answers, or the fallback is empty, the error names both."""
    world.store.fail()
    world.other.fail(why)
    with pytest.raises(NothingKnownError) as caught:
        world.with_fallback().current()
    assert f"{world.store.url}: refused; {world.other.url}" in str(caught.value)
    assert str(caught.value).endswith(why or "holds nothing")


# --- The local copy


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Job", b"Jab"))


def foreign(path: Path) -> None:
    path.write_text("dagfactory-consul 99 00000000\n{}\n{}\n")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [damaged, foreign, emptied])
def test_a_local_copy_that_cannot_be_used_is_read_anew(
    world: World, harm: Callable[[Path], None], messages: Callable[[], list[str]]
) -> None:
    """A damaged or foreign file is neither believed nor fatal: within the TTL even the store is read again."""
    before = world.client().current()
    harm(world.client().path)
    assert world.later(1).documents == before.documents
    assert "cannot be used and is read anew" in messages()[0]
    assert world.store.reads == 2


@pytest.mark.parametrize("harm", [damaged, foreign, emptied, Path.unlink])
def test_without_a_local_copy_and_a_store_the_fallback_rules(world: World, harm: Callable[[Path], None]) -> None:
    """What cannot be used counts as nothing known, within the TTL too."""
    world.client().current()
    harm(world.client().path)
    world.store.fail()
    world.other.fill({"tenants/emergency": ONE_DAG})
    assert list(world.with_fallback().current()) == ["tenants/emergency"]


def test_the_local_copy_is_private(world: World) -> None:
    """Nobody else on the machine reads what customers have configured."""
    before = os.umask(0)
    try:
        world.client().current()
    finally:
        os.umask(before)
    assert stat.S_IMODE(world.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(world.client().path.stat().st_mode) == 0o600


def test_leftovers_of_killed_processes_go(world: World) -> None:
    """What killed writers have left is removed by the next process that writes a snapshot."""
    world.client().current()
    leftover = world.folder / ".snapshot.99999.new"
    leftover.write_bytes(b"half a snapsh")
    world.store.put("tenants/acme", b"{}")
    world.later()
    assert sorted(path.name for path in world.folder.iterdir()) == ["attempt.json", "lock", "snapshot"]


def test_most_processes_open_no_store(world: World) -> None:
    """Within the TTL a process does not even open the store: no connection, no driver."""
    world.client().current()

    def refuse() -> Store:
        raise AssertionError("opened")

    assert "tenants/acme" in ConfigClient(refuse, world.folder, ttl=TTL, clock=world.clock).current()


# --- One document


def test_one_document_is_read_alone(world: World) -> None:
    """While the snapshot is current one document costs one line: whether the rest is whole is not even looked at."""
    world.client().current()
    path = world.client().path
    path.write_bytes(path.read_bytes().replace(b'"_ready":[1,', b'"_ready":[x,'))
    found = world.client().document("tenants/acme")
    assert found is not None
    assert found.value == ONE_DAG
    assert world.client().document("tenants/acm") is None


def test_one_document_is_as_current_as_all(world: World) -> None:
    """When the TTL has passed asking for one document refreshes the snapshot."""
    world.client().current()
    world.store.put("tenants/acme", b"{}")
    world.clock.now += TTL
    found = world.client().document("tenants/acme")
    assert found is not None
    assert found.value == {}


@pytest.mark.parametrize("harm", [foreign, emptied, Path.unlink])
def test_one_document_survives_a_bad_file(world: World, harm: Callable[[Path], None]) -> None:
    """A file that cannot be used is read anew for one document as it is for all."""
    world.client().current()
    harm(world.client().path)
    world.clock.now += 1
    found = world.client().document("tenants/acme")
    assert found is not None
    assert found.value == ONE_DAG


# --- What is held


def test_an_emptied_store_removes_nothing(world: World, messages: Callable[[], list[str]]) -> None:
    """All keys gone is an accident until somebody says otherwise; it is logged once, and shown."""
    world.client().current()
    world.store.fill({})
    found = world.later()
    assert sorted(found) == [READY, "tenants/acme"]
    assert found.held is not None
    assert [each.split(".")[0] for each in messages()] == ["Held: the store is empty"]
    world.later()
    assert messages() == []
    version = found.held["version"]
    (line,) = world.client().problems()
    assert line.startswith("held: the store is empty. They stay until they are back. ")
    assert line.endswith(f"accept --show {version}; let them go: dagfactory-consul accept {version}")


def test_a_half_filled_store_removes_nothing(world: World) -> None:
    """While the marker is gone nothing goes; when it is back what is missing then was meant."""
    world.store.fill({READY: True, "tenants/acme": {}, "tenants/zenith": ONE_DAG})
    world.client().current()
    world.store.fill({"tenants/acme": {"enabled": False}})
    found = world.later()
    assert sorted(found) == [READY, "tenants/acme", "tenants/zenith"]
    assert found["tenants/acme"].value == {"enabled": False}
    world.store.put(READY, b"")
    found = world.later()
    assert (sorted(found), found.held) == ([READY, "tenants/acme"], None)


def test_what_is_accepted_comes_in_force(world: World) -> None:
    """A held version that somebody accepts is in force with the next refresh, and stays so, even if it is nothing."""
    world.client().current()
    world.store.fill({})
    held = world.later().held
    assert held is not None
    world.store.beside("runtime").put(ACCEPTED, held["version"].encode())
    assert len(world.later()) == 0
    assert len(world.client().current()) == 0
    assert world.client().problems() == []


def test_what_was_accepted_is_not_what_comes_after(world: World) -> None:
    """Accepting is for one version: what goes missing afterwards is held in its turn."""
    tenants = {f"tenants/t{number}": ONE_DAG for number in range(10)}
    world.store.fill(tenants)
    world.client().current()
    world.store.fill(dict(list(tenants.items())[:5]))
    held = world.later().held
    assert held is not None
    world.store.fill(dict(list(tenants.items())[:4]))
    world.store.beside("runtime").put(ACCEPTED, held["version"].encode())
    assert len(world.later()) == 10


def test_while_it_is_held_the_store_is_not_read(world: World) -> None:
    """A held state costs no reads: the mark tells that nothing has changed."""
    world.client().current()
    world.store.fill({})
    world.later()
    reads = world.store.reads
    world.later()
    assert world.store.reads == reads


def test_what_comes_back_is_no_longer_held(world: World) -> None:
    """Keys that are back end the holding by themselves."""
    world.client().current()
    world.store.fill({})
    world.later()
    world.store.fill({READY: True, "tenants/acme": ONE_DAG})
    assert world.later().held is None


def test_a_malformed_list_keeps_its_tenants(world: World) -> None:
    """A list that cannot be decoded takes no tenant away, in the next process neither."""
    world.store.fill({"tenants": [{"id": "acme", **ONE_DAG}]})
    world.client().current()
    world.store.put("tenants", b'[{"id": "acme",')
    assert world.later()["tenants/acme"].value == ONE_DAG
    found = world.later()
    assert found["tenants/acme"].value == ONE_DAG
    assert found["tenants"].malformed
    world.store.put("tenants", b'[{"id": "zenith"}]')
    assert sorted(world.later()) == ["tenants/zenith"]


# --- Task starts


def test_a_task_start_leaves_refreshing_to_parses(world: World) -> None:
    """Where parses refresh the snapshot a task start only reads the file, however old it is."""
    world.client().current()
    world.store.put("tenants/acme", b"{}")
    world.clock.now += PARSES_HERE - 1
    probes = world.store.probes
    found = world.client(task_start=True).document("tenants/acme")
    assert found is not None
    assert (found.value, world.store.probes) == (ONE_DAG, probes)


def test_a_task_start_refreshes_where_nobody_parses(world: World) -> None:
    """On a worker of its own task starts keep the snapshot current, one of them a TTL, and do not pass for parses."""
    world.later(task_start=True)
    world.store.put("tenants/acme", b"{}")
    assert world.later(TTL - 1, task_start=True)["tenants/acme"].value == ONE_DAG
    assert world.later(1, task_start=True)["tenants/acme"].value == {}
    assert not world.client().last_attempt().by_parse


def test_a_task_start_takes_over_when_parses_end(world: World) -> None:
    """A machine where nothing has been parsed for long is one without a processor."""
    world.client().current()
    world.store.put("tenants/acme", b"{}")
    assert world.later(PARSES_HERE, task_start=True)["tenants/acme"].value == {}


def test_a_task_start_without_a_local_copy_reads_the_store(world: World) -> None:
    """Who needs a document and has none asks for it, whoever else refreshes."""
    world.client().current()
    world.client().path.unlink()
    world.clock.now += 1
    found = world.client(task_start=True).document("tenants/acme")
    assert found is not None
    assert found.value == ONE_DAG


# --- A process that lives long


@pytest.fixture
def timer() -> Clock:
    return Clock()


def test_a_long_process_keeps_what_it_has_read(world: World, timer: Clock) -> None:
    """Within a TTL the parsed snapshot comes from memory: it is the same object, and the file may even be gone."""
    cached = CachedClient(world.client(), timer=timer)
    first = cached.current()
    world.client().path.unlink()
    timer.now += TTL - 1
    assert cached.current() is first
    assert cached.document("tenants/acme") == first["tenants/acme"]
    assert cached.document("tenants/acm") is None


def test_a_long_process_looks_again_after_the_ttl(world: World, timer: Clock) -> None:
    """When the TTL has passed in its own time it asks the config client again."""
    cached = CachedClient(world.client(), timer=timer)
    cached.current()
    world.store.put("tenants/acme", b"{}")
    timer.now += TTL
    world.clock.now += TTL
    assert cached.current()["tenants/acme"].value == {}


def test_threads_share_one_load(world: World, timer: Clock) -> None:
    """Threads that ask at the same time make one load, and all get what it brings."""
    asked, answer = world.store.slow_down()
    cached = CachedClient(world.client(), timer=timer)
    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(cached.current) for _ in range(8)]
        assert asked.wait(10)
        answer.set()
        found = [each.result(10) for each in asking]
    assert all(each is found[0] for each in found)
    assert world.store.reads == 1


def test_a_failed_load_is_not_kept(world: World, timer: Clock) -> None:
    """An error is not remembered for a TTL: the next call tries again."""
    world.store.fail()
    cached = CachedClient(world.client(), timer=timer)
    with pytest.raises(NothingKnownError):
        cached.current()
    world.store.fail(None)
    world.clock.now += TTL
    assert "tenants/acme" in cached.current()


def test_an_acceptance_is_for_one_hold(world: World) -> None:
    """A store that is emptied again, by accident this time, is held again: the old acceptance says nothing of it."""
    world.client().current()
    for accepted in (True, False):
        world.store.fill({READY: True, "tenants/acme": ONE_DAG})
        assert not world.later().held
        world.store.fill({})
        held = world.later().held
        assert held is not None
        if accepted:
            world.client().accept(held["version"])
        assert dict(world.later()) == {} if accepted else world.later().held


def test_a_disk_that_is_full_costs_nothing(world: World, messages: Callable[[], list[str]]) -> None:
    """What cannot be kept is in force all the same, and it is said."""
    client = world.client()
    client.folder.mkdir(parents=True)
    (client.folder / "snapshot").mkdir()  # a folder in the file's place fails as a full disk does: with an OSError
    assert dict(client.current())
    assert any("cannot be kept" in message for message in messages())


def test_a_store_that_cannot_be_opened_changes_nothing(world: World) -> None:
    """A setting that turns out wrong when the store is opened leaves what is known in force."""
    world.later()

    def refuse() -> Store:
        raise SettingsError("no such certificate")

    world.clock.now += TTL
    broken = ConfigClient(refuse, world.folder, ttl=TTL, clock=world.clock)
    assert dict(broken.current())
    assert "no such certificate" in (broken.last_attempt().error or "")


def test_how_old_it_is_goes_by_the_last_answer(world: World, messages: Callable[[], list[str]]) -> None:
    """A store that said "unchanged" a minute ago was right then: its data are a minute old, whenever they were read."""
    world.client().current()
    for _ in range(10):
        world.later()
    world.store.fail()
    world.later()
    assert any("The configuration of 30 s ago stays" in each for each in messages())
