from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from dagfactory_consul.plan import Plan
from dagfactory_consul.problems import Problem
from dagfactory_consul.release import ACTIVE, DRAINING, GONE, Release
from dagfactory_consul.settle import settle
from dagfactory_consul.spec import DagSpec

DRAIN_TIME = 100.0


def spec(dag_id: str, limit: int = 1, tenant: str | None = None) -> DagSpec:
    return DagSpec(dag_id, "Job", dag_id.partition("__")[2], "production", {"limit": limit}, tenant or dag_id[0])


def planned(*specs: DagSpec, problems: Iterable[Problem] = ()) -> Plan:
    return Plan({each.dag_id: each for each in specs}, tuple(problems), {}, "version")


def idle(_: str) -> bool | None:
    return False


def busy(_: str) -> bool | None:
    return True


def unknown(_: str) -> bool | None:
    return None


def bool_of(value: bool, _: DagSpec) -> bool:
    return value


def refresh(
    before: Release | None,
    *specs: DagSpec,
    now: float = 0.0,
    unfinished: Callable[[str], bool | None] = idle,
    problems: Iterable[Problem] = (),
) -> Release:
    plan = planned(*specs, problems=problems)
    return settle(before, plan, now=now, drain_time=DRAIN_TIME, unfinished=unfinished, fingerprint="code")


def states(release: Release) -> dict[str, str]:
    return {dag_id: placed.state for dag_id, placed in release.dags.items()}


def after(*answers: Callable[[str], bool | None]) -> str | None:
    """Return the state of a DAG that was active, was then switched off, and got these answers about its runs."""
    release = refresh(refresh(None, spec("a__x")))
    for answer in answers:
        release = refresh(release, unfinished=answer)
    return states(release).get("a__x")


def test_what_is_planned_is_active() -> None:
    """A planned DAG is active from now on; the release says of what it was made."""
    release = refresh(None, spec("a__x"), now=5.0)
    assert states(release) == {"a__x": ACTIVE}
    assert (release.dags["a__x"].since, release.snapshot, release.fingerprint) == (5.0, "version", "code")


def test_what_stays_the_same_stays_as_it_is() -> None:
    """A refresh without news gives an equal release, so that nothing is written."""
    release = refresh(None, spec("a__x"), now=5.0)
    assert refresh(release, spec("a__x"), now=50.0) == release


def test_a_changed_spec_takes_effect_and_is_checked_again() -> None:
    """A new configuration is in force at once, but what was verified before says nothing of it."""
    first = refresh(None, spec("a__x"))
    checked = first._replace(dags={"a__x": first.dags["a__x"]._replace(checked="code")})
    assert refresh(checked, spec("a__x")).dags["a__x"].checked == "code"
    changed = refresh(checked, spec("a__x", limit=2)).dags["a__x"]
    assert (changed.spec.config["limit"], changed.checked, changed.since) == (2, None, 0.0)


def test_what_is_switched_off_drains() -> None:
    """A DAG that leaves the plan is still shown, and is not asked for its runs before it has stopped beginning any."""

    def not_yet(dag_id: str) -> bool | None:
        raise AssertionError(f"{dag_id} has only just been switched off")

    placed = refresh(refresh(None, spec("a__x")), now=7.0, unfinished=not_yet).dags["a__x"]
    assert (placed.state, placed.since, placed.shown) == (DRAINING, 7.0, True)


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ([], DRAINING),
        ([idle], DRAINING),
        ([idle, idle], GONE),
        ([idle, busy], DRAINING),
        ([idle, busy, idle], DRAINING),
        ([idle, busy, idle, idle], GONE),
        ([idle, unknown], DRAINING),
        ([idle, unknown, idle], GONE),
        ([unknown] * 9, DRAINING),
        ([busy] * 9, DRAINING),
    ],
)
def test_a_dag_goes_after_two_looks_without_a_run(answers: list[Callable[[str], bool | None]], state: str) -> None:
    """Two looks in a row must see no unfinished run; one that cannot know decides nothing."""
    assert after(*answers) == state


@pytest.mark.parametrize("answer", [busy, unknown])
def test_draining_has_an_end(answer: Callable[[str], bool | None]) -> None:
    """When the drain time is over the DAG goes, whatever runs it still has."""
    release = refresh(refresh(None, spec("a__x")), now=1.0)
    release = refresh(release, now=DRAIN_TIME, unfinished=answer)
    assert states(release) == {"a__x": DRAINING}
    assert states(refresh(release, now=DRAIN_TIME + 1, unfinished=answer)) == {"a__x": GONE}


def test_what_is_gone_is_remembered_for_a_while() -> None:
    """A task that is just starting finds a DAG that Airflow is no longer shown; after a drain time nobody asks."""
    release = refresh(None, spec("a__x"))
    for _ in range(3):
        release = refresh(release)
    assert not release.dags["a__x"].shown
    assert states(refresh(release, now=DRAIN_TIME - 1)) == {"a__x": GONE}
    assert states(refresh(release, now=DRAIN_TIME)) == {}


@pytest.mark.parametrize("refreshes", [1, 2, 3])
def test_what_is_switched_on_again_is_active(refreshes: int) -> None:
    """A DAG that drains, or is gone, comes back at once, and its next draining begins anew."""
    release = refresh(None, spec("a__x"))
    for _ in range(refreshes):
        release = refresh(release)
    release = refresh(release, spec("a__x"), now=9.0)
    assert (states(release), release.dags["a__x"].since) == ({"a__x": ACTIVE}, 9.0)
    assert states(refresh(refresh(release), now=9.0)) == {"a__x": DRAINING}


def test_a_tenants_problem_keeps_all_its_dags() -> None:
    """A document that cannot be understood takes nothing from its tenant, and nobody else is kept by it."""
    release = refresh(None, spec("a__x"), spec("a__y"), spec("b__x"))
    kept = refresh(release, problems=[Problem("tenants/a", "malformed", "a")])
    assert states(kept) == {"a__x": ACTIVE, "a__y": ACTIVE, "b__x": DRAINING}


def test_a_dags_problem_keeps_that_dag() -> None:
    """A problem of one DAG keeps that one in force; what else its tenant has switched off drains."""
    release = refresh(None, spec("a__x"), spec("a__y"))
    kept = refresh(release, problems=[Problem("tenants/a", "wrong", "a", "a__x")])
    assert states(kept) == {"a__x": ACTIVE, "a__y": DRAINING}


def test_a_problem_of_no_tenant_keeps_nobody() -> None:
    """A malformed flag, say, does not stop a tenant from switching off."""
    release = refresh(None, spec("a__x"))
    assert states(refresh(release, problems=[Problem("flags/f", "malformed")])) == {"a__x": DRAINING}


def test_a_problem_stops_the_draining() -> None:
    """While a tenant's document cannot be read nobody knows whether a draining DAG is meant to go on doing so."""
    release = refresh(refresh(None, spec("a__x")))
    problems = [Problem("tenants/a", "malformed", "a")]
    for _ in range(3):
        release = refresh(release, problems=problems, now=5 * DRAIN_TIME)
    assert states(release) == {"a__x": DRAINING}


def test_a_flag_stops_what_a_problem_keeps() -> None:
    """A tenant whose document is broken keeps its DAGs, but not against the flag that lets them run."""
    release = refresh(None, spec("a__x"))
    plan = planned(problems=[Problem("tenants/a", "malformed", "a")])
    for flag, state in ((True, ACTIVE), (False, DRAINING)):
        gated = replace(plan, is_on=partial(bool_of, flag))
        settled = settle(release, gated, now=0.0, drain_time=DRAIN_TIME, unfinished=idle, fingerprint="code")
        assert states(settled) == {"a__x": state}


def test_a_dag_id_stays_with_its_tenant() -> None:
    """Another tenant that takes the id is told whose it is; the first one's DAG drains before it changes hands."""
    release = refresh(None, spec("a__b__c", tenant="a"))
    release = refresh(release, spec("a__b__c", tenant="a__b"))
    assert release.dags["a__b__c"].spec.tenant == "a"
    assert states(release) == {"a__b__c": DRAINING}
    (problem,) = release.problems
    assert (problem.tenant, problem.dag_id) == ("a__b", "a__b__c")
    assert "is in force for the tenant 'a'" in problem.message


def test_a_dag_id_changes_hands_once_it_is_free() -> None:
    """When the first tenant's DAG is no longer shown the other one has the id."""
    release = refresh(None, spec("a__b__c", tenant="a"))
    for _ in range(4):
        release = refresh(release, spec("a__b__c", tenant="a__b"))
    assert (release.dags["a__b__c"].spec.tenant, release.problems) == ("a__b", ())


def test_all_stands_in_order() -> None:
    """Equal releases are equal files: DAGs are sorted by id, however they came in."""
    release = refresh(refresh(None, spec("b__x"), spec("a__x")), spec("c__x"), spec("a__y"))
    assert list(release.dags) == sorted(release.dags)


def test_the_shown_specs() -> None:
    """What Airflow is given is what is active or drains."""
    release = refresh(refresh(refresh(refresh(None, spec("a__x")))), spec("b__x"))
    assert states(release) == {"a__x": GONE, "b__x": ACTIVE}
    assert list(release.specs()) == ["b__x"]


DAGS = ["a__x", "a__y", "b__x"]
ANSWERS = st.sampled_from([True, False, None])


class Draining(RuleBasedStateMachine):
    """Any course of switching on and off, of problems, runs and time, against the promise that no run is stranded."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.release: Release | None = None
        self.off_since: dict[str, float] = {}
        self.idle_looks: dict[str, int] = {}

    @rule(
        on=st.sets(st.sampled_from(DAGS)),
        broken=st.sets(st.sampled_from(DAGS)),
        answers=st.fixed_dictionaries(dict.fromkeys(DAGS, ANSWERS)),
        passed=st.sampled_from([0.0, 1.0, 40.0, 150.0]),
    )
    def refresh(self, on: set[str], broken: set[str], answers: dict[str, bool | None], passed: float) -> None:
        """Refresh once: some DAGs are on, some have a problem, and each has runs, has none, or nobody knows."""
        self.now += passed
        problems = [Problem("tenants/x", "wrong", dag_id[0], dag_id) for dag_id in broken]
        before = states(self.release) if self.release else {}
        specs = [spec(dag_id) for dag_id in sorted(on - broken)]
        self.release = refresh(self.release, *specs, now=self.now, unfinished=answers.get, problems=problems)
        found = states(self.release)
        for dag_id in DAGS:
            self.check(dag_id, before.get(dag_id), found.get(dag_id), answers[dag_id], on=dag_id in on - broken)
            if dag_id in broken:
                assert dag_id not in before or before[dag_id] == GONE or found[dag_id] == before[dag_id]

    def check(self, dag_id: str, before: str | None, found: str | None, answer: bool | None, *, on: bool) -> None:
        """Hold one DAG's step against the rules."""
        if on:
            assert found == ACTIVE
        if found != ACTIVE and before == ACTIVE:
            assert found == DRAINING, "an active DAG drains before it goes"
            self.off_since[dag_id], self.idle_looks[dag_id] = self.now, 0
        elif before == DRAINING and found == DRAINING:
            if answer is not None:  # what cannot be known says nothing against an earlier look
                self.idle_looks[dag_id] = self.idle_looks[dag_id] + 1 if answer is False else 0
        elif before == DRAINING and found != ACTIVE:
            assert found == GONE, "a task that is starting still finds it"
            over = self.now - self.off_since[dag_id] >= DRAIN_TIME
            assert over or (answer is False and self.idle_looks[dag_id] >= 1), "it may have had an unfinished run"


Draining.TestCase.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
TestDraining = Draining.TestCase
