from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.bases.timetable import BaseTimetable

from dagfactory_consul.assembly import Assembly
from dagfactory_consul.builders import DagBuilder, build_dag
from dagfactory_consul.errors import BuildError, NotTriedError
from dagfactory_consul.models import DagConfig
from dagfactory_consul.release import ACTIVE, DRAINING, GONE, Placement, Release
from dagfactory_consul.spec import DagSpec
from dagfactory_consul.verify import verify
from tests.making import definition, registry_of


class MoodyConfig(DagConfig):
    mood: str = "good"


class UnknownTimetable(BaseTimetable):
    """Is registered nowhere, so Airflow cannot serialise it."""


class Moody(DagBuilder[MoodyConfig]):
    """Builds a DAG, or fails in the way that its configuration says."""

    built: ClassVar[Counter[str]] = Counter()
    """How often each DAG was begun."""

    def build(self) -> DAG:
        self.built[self.dag_id] += 1
        odd = {"schedule": UnknownTimetable()} if self.config.mood == "unserialisable" else {}
        with self.dag(**odd) as dag:
            first, last = EmptyOperator(task_id="first"), EmptyOperator(task_id="last")
            first >> last
            if self.config.mood == "cyclic":
                last >> first
            if self.config.mood == "raising":
                raise ValueError("no such region")
            while self.config.mood == "hanging":
                pass
            if self.config.mood == "slow":
                time.sleep(0.3)
        return dag


BAD_MOODS = {
    "raising": "raised ValueError: no such region",
    "cyclic": "Cycle detected in Dag",
    "unserialisable": "Airflow does not take this DAG: SerializationError",
}


@pytest.fixture(autouse=True)
def forget_what_was_built() -> Iterator[None]:
    yield
    Moody.built.clear()


def spec(dag_id: str, mood: str = "good", builder: str = "Moody") -> DagSpec:
    tenant, _, name = dag_id.partition("__")
    config = MoodyConfig(mood=mood, description=mood).model_dump(mode="json")
    return DagSpec(dag_id, builder, name, "production", config, tenant)


def release(moods: Mapping[str, str], **fields: Any) -> Release:
    """Return a release of these DAGs, by id."""
    dags = {dag_id: Placement(spec(dag_id, mood), **fields) for dag_id, mood in moods.items()}
    return Release(dags, fingerprint="code")


def assembly() -> Assembly:
    return Assembly(registry_of(definition("Moody", Moody), definition("Calm", Moody)), build_timeout=0.1)


def build(wanted: Release) -> tuple[dict[str, DAG], Release]:
    """Build as a parse does, and return the DAGs by id and the release as it could be built."""
    dags, kept = assembly().build(wanted)
    return {dag.dag_id: dag for dag in dags}, kept


def keep_good(wanted: Release, before: Release | None = None) -> Release:
    """Return the release as far as its DAGs can be built and verified."""
    registry = assembly().registry

    def make(placed: Placement) -> Placement:
        verify(build_dag(registry[placed.spec.builder], placed.spec, draining=placed.state == DRAINING))
        return placed._replace(checked="code")

    return assembly().keep_good(wanted, before, make)


def test_all_that_is_in_force_is_built() -> None:
    """Each DAG of a release is built, once."""
    dags, kept = build(release({"a__x": "good", "b__x": "good"}))
    assert list(dags) == ["a__x", "b__x"]
    assert Moody.built == {"a__x": 1, "b__x": 1}
    assert kept.problems == ()


@pytest.mark.parametrize("mood", BAD_MOODS)
def test_what_cannot_be_built_stays_as_it_was(mood: str) -> None:
    """Whatever is wrong with a new configuration, the DAG goes on with its last good one, and the problem says so."""
    before = keep_good(release({"a__x": "good", "b__x": "good"}))
    kept = keep_good(before._replace(dags={**before.dags, "a__x": Placement(spec("a__x", mood))}), before)
    assert kept.dags["a__x"].spec == spec("a__x", "good")
    (problem,) = kept.problems
    assert (problem.key, problem.tenant, problem.dag_id) == ("tenants/a", "a", "a__x")
    assert BAD_MOODS[mood] in problem.message
    assert "its last good configuration stays in force" in problem.message


@pytest.mark.parametrize("mood", BAD_MOODS)
def test_what_never_was_good_harms_itself_alone(mood: str) -> None:
    """A new DAG that cannot be built is not shown, is not taken for one in force, and all others are there."""
    kept = keep_good(release({"a__x": mood, "a__y": "good", "b__x": "good"}))
    assert {dag_id: placed.origin for dag_id, placed in kept.dags.items()} == dict.fromkeys(
        ["a__y", "b__x"], "tests.test_assembly"
    )
    assert "it is not shown until that is mended" in kept.problems[0].message


def test_what_there_was_no_time_for() -> None:
    """DAGs that were not tried stay as they were, new ones are not there yet, and one problem names them all."""
    before = release({"a__x": "good"})

    def make(_: Placement) -> Placement:
        raise NotTriedError

    kept = assembly().keep_good(release({"a__x": "raising", "b__x": "good"}), before, make)
    assert kept.dags == before.dags
    assert [str(problem) for problem in kept.problems] == [
        "tenants: these DAGs are still to be checked, and stay as they were until then: a__x, b__x"
    ]


def test_a_builder_that_hangs_is_not_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the time for what hangs is used up, DAGs of that builder that never were seen to build are left out."""
    monkeypatch.setattr(Assembly, "HANG_SECONDS", 0.1)  # one DAG's time here
    wanted = release({"a__x": "hanging", "b__x": "hanging", "c__x": "good"})
    wanted.dags["d__x"] = Placement(spec("d__x", builder="Calm"))  # type: ignore[index]
    dags, kept = build(wanted)
    assert list(dags) == ["d__x"]
    assert Moody.built == {"a__x": 1, "d__x": 1}
    assert [problem.dag_id for problem in kept.problems] == ["a__x", "b__x", "c__x"]
    assert "is not tried again at this parse: building a__x took longer" in kept.problems[1].message


def test_one_tenant_that_makes_a_builder_hang() -> None:
    """What was seen to build with this code is built all the same: the configuration of one tenant may be at fault."""
    dags, _ = build(release({"a__x": "hanging", "b__x": "good"}, checked="code"))
    assert list(dags) == ["b__x"]


def test_three_dags_of_one_tenant_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of the time one tenant's DAGs use up, other tenants' DAGs that were seen to build are built."""
    monkeypatch.setattr(Assembly, "HANG_SECONDS", 0.1)
    evil = dict.fromkeys(["a__x", "a__y", "a__z"], "hanging")
    dags, _ = build(release({**evil, "b__x": "good", "c__x": "good"}, checked="code"))
    assert list(dags) == ["b__x", "c__x"]


def test_a_parse_waits_only_so_long_for_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that hangs for all, checked or not, must not take the whole file's time: it is left out in the end."""
    monkeypatch.setattr(Assembly, "HANG_SECONDS", 0.2)  # two DAGs' time here
    wanted = release(dict.fromkeys(["a__x", "b__x", "c__x", "d__x"], "hanging"), checked="code")
    wanted.dags["e__x"] = Placement(spec("e__x", builder="Calm"))  # type: ignore[index]
    dags, _ = build(wanted)
    assert list(dags) == ["e__x"]
    assert Moody.built == {"a__x": 1, "b__x": 1, "c__x": 1, "e__x": 1}


def test_what_is_gone_is_not_built() -> None:
    """A DAG that has drained is kept for tasks that are just starting, and not shown."""
    wanted = release({"a__x": "good"}, state=GONE)
    assert build(wanted) == ({}, wanted)


def test_what_drains_is_built_without_a_schedule() -> None:
    """A draining DAG is emitted, with its tag."""
    dags, _ = build(release({"a__x": "good"}, state=DRAINING))
    assert "draining" in dags["a__x"].tags


def test_what_falls_back_may_drain() -> None:
    """A DAG whose newest configuration cannot be built drains all the same when it is switched off."""
    before = keep_good(release({"a__x": "good"}))
    kept = keep_good(release({"a__x": "raising"}, state=DRAINING, since=9.0), before)
    assert kept.dags["a__x"].spec == spec("a__x", "good")
    assert (kept.dags["a__x"].state, kept.dags["a__x"].since) == (DRAINING, 9.0)


def test_a_builder_that_is_not_there_takes_nothing_from_the_release() -> None:
    """While a builder cannot be imported its DAGs cannot be built, but they are still in force when it is back."""
    wanted = release({"a__x": "good"})
    dags, kept = Assembly(registry_of(), build_timeout=0.1).build(wanted)
    assert (dags, dict(kept.dags)) == ([], dict(wanted.dags))


def test_a_builder_that_breaks_takes_nothing_from_the_release() -> None:
    """A spec that was good with other code stays in force, and the problem is shown."""
    before = release({"a__x": "raising"}, state=ACTIVE, checked="older code")
    dags, kept = build(before)
    assert dags == {}
    assert list(kept.dags) == ["a__x"]
    assert "it is not shown until that is mended" in kept.problems[0].message


@pytest.mark.parametrize("mood", ["cyclic", "unserialisable"])
def test_what_airflow_would_not_take(mood: str) -> None:
    """A DAG that would cost Airflow the whole file is found before Airflow sees it."""
    dag = Moody(spec("a__x", mood), MoodyConfig(mood=mood)).build()
    with pytest.raises(BuildError, match=BAD_MOODS[mood]):
        verify(dag)


def test_what_airflow_takes() -> None:
    """A plain DAG passes, and verifying registers it nowhere."""
    dag = Moody(spec("a__x"), MoodyConfig()).build()
    verify(dag)
    assert dag.task_ids == ["first", "last"]


@contextmanager
def airflows_timer(seconds: float) -> Iterator[None]:
    """Break a parse off after a while, as Airflow does by `dagbag_import_timeout`."""
    former = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("Airflow loses all DAGs of the file"))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def test_a_tenant_whose_dags_are_slow_together_costs_no_other_dag() -> None:
    """None of them is over its limit; a third of what Airflow leaves a parse is all that one tenant's may take."""
    moods = {f"evil__{number:02}": "slow" for number in range(40)}
    with airflows_timer(6.0):
        dags, kept = Assembly(assembly().registry, build_timeout=1.0).build(release({**moods, "zenith__x": "good"}))
    built = [dag.dag_id for dag in dags]
    assert "zenith__x" in built
    assert 3 <= len(built) < 12
    assert {problem.tenant for problem in kept.problems} == {"evil"}
    assert "the DAGs of evil before it took 2 s, a third of what Airflow leaves the file" in str(kept.problems)
