from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfactory_consul.guard import Guard
from dagfactory_consul.snapshot import Snapshot
from dagfactory_consul.stores.base import READY
from tests.making import snapshot_of

ONE_DAG: dict[str, Any] = {"dags": {"Job": {}}}


def tenants(count: int, document: Any = ONE_DAG) -> dict[str, Any]:
    return {f"tenants/t{number:02}": document for number in range(count)}


def without(documents: dict[str, Any], count: int) -> dict[str, Any]:
    """Return the documents without the last few."""
    return dict(list(documents.items())[: len(documents) - count])


def check(old: dict[str, Any], new: dict[str, Any], guard: Guard | None = None) -> Snapshot:
    return (guard or Guard()).check(snapshot_of(old), snapshot_of(new))


def reason(found: Snapshot) -> str | None:
    """Return why something is held, without the names."""
    return found.held["reason"].partition(": ")[0] if found.held else None


def dags_of(document: Any) -> int:
    """Return how many DAGs a tenant's document names: the test's own count."""
    if document.get("enabled") is False:
        return 0
    entries = document.get("dags", {}).values()
    return sum(len(each) if isinstance(each, list) else 1 for each in entries)


DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "dags": st.dictionaries(st.sampled_from("ABC"), st.just({}) | st.lists(st.just({}), max_size=3), max_size=3),
    },
)
STATES = st.dictionaries(st.sampled_from([f"tenants/t{number}" for number in range(12)]), DOCUMENTS)


@settings(deadline=None)
@given(old=STATES, new=STATES, guard=st.builds(Guard, st.floats(0, 1), st.integers(0, 5)))
def test_no_more_is_lost_than_is_allowed(old: dict[str, Any], new: dict[str, Any], guard: Guard) -> None:
    """Of the DAGs that are in force no more go at once with their keys than the share or the minimum lets go."""
    found = guard.check(snapshot_of({READY: True, **old}), snapshot_of({READY: True, **new}))
    lost = sum(dags_of(old[key]) for key in old if key not in found)
    assert lost <= max(guard.minimum, guard.share * sum(map(dags_of, old.values())))
    assert lost == 0 or found.held is None


@settings(deadline=None)
@given(old=STATES, new=STATES, guard=st.builds(Guard, st.floats(0, 1), st.integers(0, 5)))
def test_what_is_said_acts_at_once(old: dict[str, Any], new: dict[str, Any], guard: Guard) -> None:
    """Held or not: each document that the store does hold is in force as it is, and none that nobody ever wrote."""
    said = snapshot_of(new)
    found = guard.check(snapshot_of(old), said)
    assert {key: found[key] for key in said} == dict(said)
    assert set(found) <= {*old, *new}


@settings(deadline=None)
@given(old=STATES, new=STATES, guard=st.builds(Guard, st.floats(0, 1), st.integers(0, 5)))
def test_accepted_is_accepted(old: dict[str, Any], new: dict[str, Any], guard: Guard) -> None:
    """A version that somebody has accepted is in force as it is, whatever it lacks."""
    said = snapshot_of(new)
    assert guard.check(snapshot_of(old), said, accepted=said.version) is said


def test_another_version_is_not_accepted() -> None:
    """Accepting holds for the contents that were looked at, not for what the store loses afterwards."""
    old, looked_at, now = tenants(10), without(tenants(10), 5), without(tenants(10), 6)
    found = Guard().check(snapshot_of(old), snapshot_of(now), accepted=snapshot_of(looked_at).version)
    assert reason(found) == "6 of 10 DAGs would go because their keys are missing"


def test_the_first_snapshot_is_taken_as_it_is() -> None:
    """Where nothing was known nothing can be missing."""
    said = snapshot_of({})
    assert Guard().check(None, said) is said


@pytest.mark.parametrize(("gone", "is_held"), [(1, False), (2, False), (3, True)])
def test_few_may_go_whatever_their_share(gone: int, is_held: bool) -> None:
    """Up to the minimum, two, may go even where that is all there is but one."""
    assert bool(check(tenants(3), {**without(tenants(3), gone), "flags/f": True}).held) == is_held


@pytest.mark.parametrize(("gone", "is_held"), [(10, False), (11, True)])
def test_a_share_may_go(gone: int, is_held: bool) -> None:
    """A fifth of fifty may go at once; one more is held."""
    assert bool(check(tenants(50), without(tenants(50), gone)).held) == is_held


def test_dags_count_and_not_tenants() -> None:
    """A tenant weighs as much as it has DAGs: builders, and each variation of one."""
    heavy = {"tenants/t99": {"dags": {"Job": [{"name": "a"}, {"name": "b"}], "Other": {}}}}
    assert reason(check({**tenants(5), **heavy}, tenants(5))) == "3 of 8 DAGs would go because their keys are missing"


@pytest.mark.parametrize("document", [{"enabled": False, **ONE_DAG}, {}, {"dags": {}}, {"dags": None}])
def test_what_runs_nothing_weighs_nothing(document: Any) -> None:
    """Tenants without DAGs, or switched off, may be removed by the dozen."""
    assert check({**tenants(30, document), "tenants/x": ONE_DAG}, {"tenants/x": ONE_DAG}).held is None


@pytest.mark.parametrize("document", [b"{", "text", {"dags": ["Job"]}, None])
def test_what_nobody_understands_weighs_something(document: Any) -> None:
    """A tenant whose document is wrong still has its last good DAGs in force, so its key is not weightless."""
    found = check({**tenants(5, document), "tenants/x": ONE_DAG}, {"tenants/x": ONE_DAG})
    assert reason(found) == "5 of 6 DAGs would go because their keys are missing"


def test_projects_weigh_as_one() -> None:
    """A project counts as one DAG."""
    old: dict[str, Any] = {f"projects/p{number}": {} for number in range(4)}
    assert reason(check(old, without(old, 3))) == "3 of 4 DAGs would go because their keys are missing"


def test_flags_are_weighed_by_themselves() -> None:
    """Many flags that are missing are held, however many DAGs there are: without them builders' defaults would rule."""
    flags = {f"flags/f{number}": True for number in range(6)}
    found = check({**tenants(100), **flags}, {**tenants(100), **without(flags, 3)})
    assert reason(found) == "3 of 6 flags are missing"
    assert set(flags) <= set(found)


def test_a_store_without_anything_is_held() -> None:
    """An emptied store changes nothing, however few DAGs there were."""
    found = check({"tenants/acme": ONE_DAG, READY: b""}, {}, Guard(share=1.0, minimum=1000))
    assert reason(found) == "the store is empty"
    assert sorted(found) == [READY, "tenants/acme"]


def test_without_the_marker_nothing_goes() -> None:
    """While the marker is gone the data set is not complete: what is missing besides stays, what is new counts."""
    found = check({READY: b"", **tenants(50)}, {**without(tenants(50), 1), "tenants/new": ONE_DAG})
    assert reason(found) == f"the marker {READY} is gone, so the data set is not complete"
    assert set(found) == {READY, "tenants/new", *tenants(50)}


def test_a_marker_that_never_was_is_not_missed() -> None:
    """Whoever does not use the marker is not asked for it."""
    assert check(tenants(50), without(tenants(50), 1)).held is None


def test_the_defaults_do_not_go_unasked() -> None:
    """The defaults shape every DAG: where they are gone, they are held."""
    found = check({"defaults": {"airflow": {"pool": "p"}}, **tenants(2)}, tenants(2))
    assert reason(found) == "defaults is gone, which shapes every DAG"
    assert found["defaults"].value == {"airflow": {"pool": "p"}}


def test_what_is_held_says_what() -> None:
    """The held version is that of what the store holds, and the missing keys are named."""
    new = without(tenants(10), 3)
    held = check(tenants(10), new).held
    assert held is not None
    assert held["version"] == snapshot_of(new).version
    assert held["missing"] == ["tenants/t07", "tenants/t08", "tenants/t09"]


def test_what_is_held_goes_on_being_held() -> None:
    """The next look at the same store holds the same, for the same reason; a key that comes back ends it."""
    first, again = check(tenants(10), without(tenants(10), 3)), snapshot_of(without(tenants(10), 3))
    second = Guard().check(first, again)
    assert (second.held, second.documents) == (first.held, first.documents)
    assert Guard().check(second, snapshot_of(tenants(10))).held is None


def test_keys_that_are_restored_one_by_one_are_held_to_the_last() -> None:
    """Shortly before the end only a few are missing: that they go is still not what anybody has said."""
    current = check(tenants(10), {})
    for missing in range(9, 0, -1):
        current = Guard().check(current, snapshot_of(without(tenants(10), missing)))
        assert dict(current.lines) == dict(snapshot_of(tenants(10)).lines)
        assert current.held is not None
        assert len(current.held["missing"]) == missing
    assert reason(current) == "1 of the keys that were held are still missing"
    assert current.held is not None
    accepted = Guard().check(current, snapshot_of(without(tenants(10), 1)), accepted=current.held["version"])
    assert (accepted.held, len(accepted)) == (None, 9)
    assert Guard().check(current, snapshot_of(tenants(10))).held is None


def test_who_leaves_while_others_are_held_goes() -> None:
    """A few that are removed on purpose are not held for what others are."""
    current = check(tenants(40), without(tenants(40), 12))
    back = without(tenants(40), 1)
    current = Guard().check(current, snapshot_of({key: each for key, each in back.items() if key != "tenants/t00"}))
    assert current.held is not None
    assert current.held["missing"] == ["tenants/t39"]
    assert "tenants/t00" not in current
    assert "tenants/t39" in current


def test_a_list_that_cannot_be_read_keeps_its_tenants() -> None:
    """Its tenants are not gone but unknown: they stay as they were, nothing is held, and the fault can be seen."""
    listed = [{"id": f"t{number}", **ONE_DAG} for number in range(5)]
    found = check({"tenants": listed, "tenants/own": ONE_DAG}, {"tenants": b"- id: [", "tenants/own": ONE_DAG})
    assert sorted(found) == ["tenants", "tenants/own", *(f"tenants/t{number}" for number in range(5))]
    assert found["tenants"].malformed
    assert found.held is None


def test_a_list_that_is_gone_is_weighed() -> None:
    """A list that is missing as a key is an accident like any other missing key, by what it held."""
    listed = [{"id": f"t{number}", **ONE_DAG} for number in range(5)]
    found = check({"tenants": listed, "tenants/own": ONE_DAG}, {"tenants/own": ONE_DAG})
    assert reason(found) == "5 of 6 DAGs would go because their keys are missing"


def test_a_list_that_is_shorter_is_weighed() -> None:
    """What is missing from the list is missing as a key is: a truncated list is held."""
    listed = json.dumps([{"id": f"t{number}", **ONE_DAG} for number in range(10)]).encode()
    shorter = json.dumps([{"id": f"t{number}", **ONE_DAG} for number in range(6)]).encode()
    assert reason(check({"tenants": listed}, {"tenants": shorter})) == (
        "4 of 10 DAGs would go because their keys are missing"
    )


def test_a_tenant_may_move_from_the_list_to_a_key() -> None:
    """A tenant is where it is found: moving it is no loss."""
    listed = [{"id": f"t{number:02}", **ONE_DAG} for number in range(10)]
    found = check({"tenants": listed}, tenants(10))
    assert found.held is None
    assert len(found) == 10


def at(documents: dict[str, Any], seconds: float) -> Snapshot:
    """Return a snapshot that was read at a moment."""
    return replace(snapshot_of(documents), read_at=seconds)


def test_what_goes_bit_by_bit_is_held_as_well() -> None:
    """Keys that are deleted one by one within ten minutes are no smaller accident than all of them at once."""
    all_of_them = tenants(40)
    current = at(all_of_them, 0)
    for number in range(1, 10):
        current = Guard().check(current, at(without(all_of_them, number), 5.0 * number))
        assert (current.held is None) is (number <= 8)
    assert current.held is not None
    assert current.held["missing"] == ["tenants/t31"]
    assert set(current) == set(without(all_of_them, 8)), "what has gone does not come back"
    assert Guard().check(current, at(all_of_them, 60)).held is None


def deployed(**dags: int) -> Guard:
    """Return a guard that knows how many DAGs each tenant has deployed."""
    names = {tenant: [f"{tenant}__d{number}" for number in range(count)] for tenant, count in dags.items()}
    return Guard(deployed=lambda: names)


def test_what_was_removed_never_returns() -> None:
    """A tenant that was deleted, and whose DAG has gone, is not brought back by a later hold: it would run again."""
    guard = deployed(**{f"t{number:02}": 1 for number in range(6)})
    first = guard.check(at(tenants(6), 0), at(without(tenants(6), 1), 5))
    assert "tenants/t05" not in first
    assert first.held is None
    second = deployed(**{f"t{number:02}": 1 for number in range(5)}).check(first, at(without(tenants(6), 3), 13))
    assert second.held is not None
    assert second.held["missing"] == ["tenants/t03", "tenants/t04"]
    assert "tenants/t05" not in second


def test_documents_that_mention_many_dags_weigh_what_they_have() -> None:
    """A document with a thousand entries of a builder that does not exist does not let everybody else vanish."""
    evil = {"tenants/evil": {"dags": {"NoBuilder": [{"name": f"d{number}"} for number in range(1_000)]}}}
    guard = deployed(**{f"t{number:02}": 1 for number in range(20)})
    found = guard.check(snapshot_of({**tenants(20), **evil}), snapshot_of({**tenants(2), **evil}))
    assert reason(found) == "18 of 20 DAGs would go because their keys are missing"


def test_what_never_had_a_dag_is_not_held() -> None:
    """Tenants that were never valid may be deleted at once; beside others that are held they go."""
    wrong: dict[str, Any] = {f"tenants/wrong{number}": {"dags": {"NoBuilder": {}}} for number in range(9)}
    guard = deployed(**{f"t{number:02}": 1 for number in range(6)})
    assert guard.check(snapshot_of({**tenants(6), **wrong}), snapshot_of(tenants(6))).held is None
    found = guard.check(snapshot_of({**tenants(6), **wrong}), snapshot_of(tenants(1)))
    assert set(found) == set(tenants(6))


def test_a_hold_names_keys_and_dags() -> None:
    """Whoever is asked to accept a hold reads which keys are missing and which DAGs would go."""
    guard = deployed(**{f"t{number:02}": 1 for number in range(20)})
    held = guard.check(snapshot_of(tenants(20)), snapshot_of(tenants(5))).held
    assert held is not None
    assert held["reason"].endswith(
        ": tenants/t05, tenants/t06, tenants/t07, tenants/t08, tenants/t09, tenants/t10, "
        "tenants/t11, tenants/t12, tenants/t13, tenants/t14 and 5 more"
    )
    assert held["dags"] == [f"t{number:02}__d0" for number in range(5, 20)]


KEYS = st.sampled_from([f"tenants/t{number:02}" for number in range(8)])


@given(st.lists(st.lists(KEYS, max_size=8), max_size=8))
def test_nothing_returns_without_a_document(steps: list[list[str]]) -> None:
    """Whatever is written and deleted, in any order: what the guard has let go stays gone until it is written again."""
    current = at(tenants(8), 0)
    for number, keys in enumerate(steps):
        names = {key.removeprefix("tenants/"): [f"{key}__d"] for key in current}
        new = at(dict.fromkeys(keys, ONE_DAG), 10.0 * number)
        after = Guard(deployed=lambda: names).check(current, new)  # noqa: B023  # called within this step
        assert set(after) <= set(current) | set(new)
        current = after


def test_what_went_long_ago_no_longer_counts() -> None:
    """Tenants may leave, a few at a time."""
    current = at(tenants(40), 0)
    for number in range(1, 20):
        current = Guard().check(current, at(without(tenants(40), number), number * Guard.LATELY))
        assert current.held is None
    assert len(current) == 21


def test_what_came_lately_may_leave_again() -> None:
    """Who tries tenants out, one after the other, takes nothing away that was there before."""
    current = at(tenants(4), 0)
    for number in range(1, 12):
        tried = {**tenants(4), f"tenants/try{number}": ONE_DAG}
        current = Guard().check(current, at(tried, 10.0 * number))
        current = Guard().check(current, at(tenants(4), 10.0 * number + 5))
        assert current.held is None
    assert len(current) == 4
