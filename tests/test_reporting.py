"""What a processor tells of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk.observability import stats

from dagfactory_consul.edition import Edition
from dagfactory_consul.errors import StoreUnreachable
from dagfactory_consul.problems import Problem
from dagfactory_consul.release import DRAINING
from dagfactory_consul.reporting import NAMED, Reporter
from dagfactory_consul.stores.base import Entry
from dagfactory_consul.stores.memory import MemoryStore
from tests.test_contents import placed
from tests.test_edition import SNAPSHOT, make, of


class Counting(MemoryStore):
    """A store that counts what is put into it."""

    puts = 0

    def put(self, key: str, value: bytes) -> None:
        self.puts += 1
        super().put(key, value)


class Metrics:
    """Takes Airflow's metrics."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def note(self, name: str, value: Any = 1, **more: Any) -> None:
        self.seen[name] = (value, more.get("tags"))


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Counting:
    return Counting(request.node.name)


@pytest.fixture
def reporter(store: Counting) -> Reporter:
    return Reporter("tenants", "tested", store)


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """What Airflow's metrics were told."""
    found = Metrics()
    for name in ("gauge", "incr", "timing"):
        monkeypatch.setattr(stats, name, found.note)
    return found


def edition(held: dict[str, Any] | None = None) -> Edition:
    """Return an edition with one active and one draining DAG."""
    release = of(placed(), placed("acme__old", DRAINING, 2.0))
    return make(release, snapshot=replace(SNAPSHOT, held=held)).edition


def report(reporter: Reporter, of: Edition, problems: list[str] | None = None, *, write: bool = True) -> None:
    reporter.report(of, problems or [], age=3.0, seconds=0.25, write=write)


def status(entry: Entry | None) -> dict[str, Any]:
    assert entry is not None
    found: dict[str, Any] = json.loads(entry.value)
    return found


def test_the_status_says_what_is_in_force(reporter: Reporter, store: Counting) -> None:
    """It stands beside the prefix, under the deployment's name, with all that somebody looks for."""
    held = {"version": "other", "reason": "half of it is gone", "missing": ["tenants/x"], "dags": ["x__job"]}
    now = edition(held)
    report(reporter, now, ["tenants/x: bad"])
    found = status(store.get("tested/status"))
    assert found.pop("at") > 0
    assert found.pop("by")
    assert found == {
        "deployment": "tested",
        "bundle": "tenants",
        "version": now.version.name,
        "snapshot": SNAPSHOT.version,
        "index": None,
        "agreed": 5.0,
        "dags": 1,
        "draining": ["acme__old"],
        "draining_count": 1,
        "refused": [],
        "held": held,
        "problems": ["tenants/x: bad"],
    }


def test_the_status_names_as_many_as_it_has_room_for(reporter: Reporter, store: Counting) -> None:
    """A store's value is bounded, so of thousands of DAGs that drain some are named, and all are counted."""
    release = of(*(placed(f"acme__old-{number:04}", DRAINING, 2.0) for number in range(NAMED + 10)))
    report(reporter, make(release, snapshot=SNAPSHOT).edition)
    found = status(store.get("tested/status"))
    assert found["draining_count"] == NAMED + 10
    assert len(found["draining"]) == NAMED


def test_the_status_names_no_more_refused_dags_than_it_has_room_for(reporter: Reporter, store: Counting) -> None:
    """Of many that keep a former configuration the first hundred are named, the oldest first."""
    many = [placed(f"acme__{n:03}")._replace(refused=1000.0 - n) for n in range(120)]
    report(reporter, make(of(*many, problems=(Problem("tenants/acme", "is bad", "acme"),))).edition)
    found = status(store.get("tested/status"))["refused"]
    assert len(found) == 100
    assert found[0] == {"dag": "acme__119", "tenant": "acme", "since": 881.0, "problem": "tenants/acme: is bad"}


def test_the_status_is_written_when_it_changes(reporter: Reporter, store: Counting) -> None:
    """A quiet minute writes nothing."""
    report(reporter, edition())
    report(reporter, edition())
    assert store.puts == 1
    report(reporter, edition(), ["tenants/x: bad"])
    assert store.puts == 2


def test_without_the_right_to_write_nothing_is_tried(reporter: Reporter, store: Counting) -> None:
    """Who knows that the store refuses does not ask it."""
    report(reporter, edition(), write=False)
    assert store.puts == 0


def test_a_store_that_does_not_answer_is_left_alone(
    reporter: Reporter, store: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    """A status that cannot be written is said once, and costs no time-out at each look; it is written later."""
    store.failure = StoreUnreachable("asleep", store="x")
    for number in range(5):
        report(reporter, edition(), [f"tenants/x: {number}"])
    assert store.puts == 1
    assert caplog.text.count("not written") == 1
    store.failure = None
    reporter.RETRY_INTERVAL = 0.0  # type: ignore[misc]
    report(reporter, edition(), ["tenants/x: 4"])
    assert status(store.get("tested/status"))["problems"] == ["tenants/x: 4"]


def test_metrics(reporter: Reporter, metrics: Metrics) -> None:
    """Age, time, and counts go to Airflow's metrics, with the bundle's name, and not with each look."""
    report(reporter, edition({"version": "x", "reason": "y", "missing": ["a", "b"]}), ["one"])
    tags = {"bundle_name": "tenants"}
    expected = {"snapshot_age": 3.0, "dags": 2, "draining": 1, "held": 2, "problems": 1, "refresh": 250.0}
    assert metrics.seen == {f"dagfactory_consul.{name}": (value, tags) for name, value in expected.items()}
    metrics.seen.clear()
    report(reporter, edition())
    assert metrics.seen == {}


def test_errors_are_counted(reporter: Reporter, metrics: Metrics) -> None:
    """A refresh that fails is one more error."""
    reporter.failed()
    assert metrics.seen == {"dagfactory_consul.errors": (1, {"bundle_name": "tenants"})}


def test_a_warning_is_logged_once(reporter: Reporter, caplog: pytest.LogCaptureFixture) -> None:
    """The same warning comes with each look for as long as it holds, and is logged once a minute."""
    for message in ("one", "one", "two", "one"):
        reporter.once(message)
    assert [record.message for record in caplog.records] == ["one", "two"]
