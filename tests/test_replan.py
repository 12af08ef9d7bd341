from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfactory_consul.document_limits import NoLimits
from dagfactory_consul.plan import plan
from dagfactory_consul.problems import Problem
from dagfactory_consul.release import Release
from dagfactory_consul.replan import InForce, Outcome, replan
from dagfactory_consul.settle import settle
from dagfactory_consul.snapshot import Document, Snapshot
from tests.making import definition, registry_of, snapshot_of

REGISTRY = registry_of(definition(gate="gate", flags={"shape": "plain"}), definition("Other"))

DOCUMENTS = [
    {"dags": {"Job": {"limit": 1}}},
    {"dags": {"Job": {"limit": 2}, "Other": [{"name": "x"}, {"name": "y", "enabled": False}]}},
    {"dags": {"Job": {"name": "b__x"}}},  # the same id as a DAG x of a tenant a__b, if that were one
    {"dags": {"Other": {"name": "x"}}},
    {"dags": {"Job": {"limit": "many"}, "Other": {}}},
    {"dags": {"Nobody": {}}},
    {"enabled": False, "dags": {"Job": {}}},
    {"attributes": {"tier": "gold"}, "dags": {"Job": {}}},
    {"attributes": {"password": "hunter2hunter2"}, "dags": {"Job": {}}},
    b"{",
]
FLAGS: list[Any] = [
    True,
    False,
    b"{",
    {"state": "ENABLED", "variants": {"a": "plain", "b": "odd"}, "defaultVariant": "b"},
    {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "on",
        "targeting": {"if": [{">": [{"var": "$flagd.timestamp"}, 5]}, "off", "on"]},
    },
    {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "off",
        "targeting": {"if": [{"==": [{"var": "tier"}, "gold"]}, "on", None]},
    },
]
GOLD: dict[str, Any] = FLAGS[5]
DEFAULTS = [{"dags": {"Job": {"source": "outbox"}}}, {"attributes": {"tier": "gold"}}, {"dags": {"Job": {"lmit": 1}}}]


def some(values: list[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


stores = st.fixed_dictionaries(
    {},
    optional={
        **{f"tenants/{tenant}": some(DOCUMENTS) for tenant in ("a", "a__b", "c", "d", "BAD")},
        **{f"flags/{flag}": some(FLAGS) for flag in ("gate", "shape")},
        "defaults": some(DEFAULTS),
        "odd": st.just(1),
    },
)


def planned(snapshot: Snapshot, before: Release | None = None) -> InForce:
    shared = before.shared if before is not None else None
    found = plan(snapshot, REGISTRY, "production", last_good=shared, max_dags=100, now=1.0)
    release = settle(before, found, now=1.0, drain_time=9.0, unfinished=lambda _: True, fingerprint="code")
    return InForce(release, snapshot, Outcome(found.problems, found.again))


def in_force(snapshot: Snapshot, before: Release | None = None) -> Release:
    return planned(snapshot, before).release


@given(stores, stores, stores)
def test_it_is_the_plan(first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]) -> None:
    """Whatever changes, what is carried over and what is planned make the plan that looks at everything."""
    snapshot = snapshot_of({**second, **third})
    before = planned(snapshot_of(second), in_force(snapshot_of(first)))
    release = before.release
    whole = plan(snapshot, REGISTRY, "production", last_good=release.shared, max_dags=100, now=9.0)
    for known in (before, before._replace(outcome=None)):
        found = replan(
            snapshot, REGISTRY, "production", known, fingerprint="code", max_dags=100, now=9.0, last_good=release
        )
        assert found == whole
        assert list(found.specs) == list(whole.specs)


BEFORE = {"tenants/a": DOCUMENTS[0], "tenants/c": DOCUMENTS[0], "flags/gate": True}


@pytest.mark.parametrize(
    ("change", "fingerprint", "now_planned"),
    [
        ({}, "code", []),
        ({"tenants/a": DOCUMENTS[1]}, "code", ["tenants/a"]),
        ({"tenants/b": DOCUMENTS[0]}, "code", ["tenants/b"]),
        ({"projects/x": {"a": 1}}, "code", []),
        ({"flags/gate": FLAGS[5]}, "code", ["tenants/a", "tenants/c"]),
        ({"defaults": DEFAULTS[0]}, "code", ["tenants/a", "tenants/c"]),
        ({}, "other code", ["tenants/a", "tenants/c"]),
    ],
)
def test_only_what_has_changed_is_planned(change: dict[str, Any], fingerprint: str, now_planned: list[str]) -> None:
    """A tenant is carried over while its document, the shared ones and the builders' code are what they were."""
    known = planned(snapshot_of(BEFORE))
    assert tenants_planned({**BEFORE, **change}, known, fingerprint) == now_planned


class Seen(NoLimits):
    """Notes the tenants that are worked out."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def of(self, document: Document) -> AbstractContextManager[object]:
        self.keys.append(document.key)
        return nullcontext()


def tenants_planned(documents: dict[str, Any], known: InForce, fingerprint: str = "code") -> list[str]:
    seen = Seen()
    replan(
        snapshot_of(documents),
        REGISTRY,
        "production",
        known,
        fingerprint=fingerprint,
        max_dags=100,
        now=9.0,
        last_good=known.release,
        limits=seen,
    )
    return [key for key in seen.keys if key.startswith("tenants/")]


@pytest.mark.parametrize("document", [b"{", DOCUMENTS[4], DOCUMENTS[5], DOCUMENTS[8]])
def test_a_document_with_problems_is_not_planned_again(document: Any) -> None:
    """Its problems are carried over while nothing of it changes, whatever others write."""
    wrong = {**BEFORE, "tenants/a": document}
    known = planned(snapshot_of(wrong), in_force(snapshot_of(BEFORE)))
    assert [each.tenant for each in known.release.problems] == ["a"]
    assert tenants_planned({**wrong, "tenants/c": DOCUMENTS[1]}, known) == ["tenants/c"]


def test_a_dag_that_could_not_be_built_is_planned_again() -> None:
    """The configuration that could not be built is in no release, so its document is worked out again."""
    known = planned(snapshot_of(BEFORE))
    unbuilt = Problem("tenants/a", "it cannot be built", "a", "a__job")
    known = known._replace(release=known.release._replace(problems=(unbuilt,)))
    assert tenants_planned(BEFORE, known) == ["tenants/a"]


def test_a_document_that_was_broken_off_is_planned_again() -> None:
    """Whoever knows that it hung refuses it at once; whoever has forgotten it tries it again."""
    known = planned(snapshot_of(BEFORE))
    assert tenants_planned(BEFORE, known._replace(outcome=Outcome((), frozenset(("tenants/c",))))) == ["tenants/c"]


def test_a_flag_that_fails_for_one_tenant_costs_nobody_else() -> None:
    """Only the tenants that a flag fails for are worked out again, so that its problem goes with them."""
    odd = {
        **BEFORE,
        "flags/gate": {**GOLD, "targeting": {"if": [{"==": [{"var": "tier"}, "gold"]}, {"cat": ["x"]}, None]}},
    }
    known = planned(snapshot_of({**odd, "tenants/c": DOCUMENTS[7]}))
    assert [each.key for each in known.release.problems] == ["flags/gate"]
    assert tenants_planned({**odd, "tenants/c": DOCUMENTS[7]}, known) == ["tenants/c"]


def test_a_release_of_another_snapshot_is_not_carried_over() -> None:
    """Where somebody else has made what is in force, nothing is known of what it was planned from."""
    earlier, snapshot = snapshot_of(BEFORE), snapshot_of({})
    release = in_force(earlier)
    found = replan(
        snapshot, REGISTRY, "production", InForce(release, snapshot), fingerprint="code", max_dags=100, now=9.0
    )
    assert dict(found.specs) == {}
