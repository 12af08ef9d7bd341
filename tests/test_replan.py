from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfactory_consul.plan import plan
from dagfactory_consul.release import Release
from dagfactory_consul.replan import InForce, replan
from dagfactory_consul.settle import settle
from dagfactory_consul.snapshot import Snapshot
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
FLAGS = [
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


def in_force(snapshot: Snapshot, before: Release | None = None) -> Release:
    shared = before.shared if before is not None else None
    found = plan(snapshot, REGISTRY, "production", last_good=shared, max_dags=100, now=1.0)
    return settle(before, found, now=1.0, drain_time=9.0, unfinished=lambda _: True, fingerprint="code")


@given(stores, stores, stores)
def test_it_is_the_plan(first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]) -> None:
    """Whatever changes, what is carried over and what is planned make the plan that looks at everything."""
    earlier, snapshot = snapshot_of(second), snapshot_of({**second, **third})
    release = in_force(earlier, in_force(snapshot_of(first)))
    whole = plan(snapshot, REGISTRY, "production", last_good=release.shared, max_dags=100, now=9.0)
    found = replan(
        snapshot,
        REGISTRY,
        "production",
        InForce(release, earlier),
        fingerprint="code",
        max_dags=100,
        now=9.0,
        last_good=release,
    )
    assert found == whole
    assert list(found.specs) == list(whole.specs)


BEFORE = {"tenants/a": DOCUMENTS[0], "tenants/c": DOCUMENTS[0], "flags/gate": True}


@pytest.mark.parametrize(
    ("change", "fingerprint", "planned"),
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
def test_only_what_has_changed_is_planned(change: dict[str, Any], fingerprint: str, planned: list[str]) -> None:
    """A tenant is carried over while its document, the shared ones and the builders' code are what they were."""
    seen: list[str] = []

    def watched(some: Snapshot) -> Snapshot:
        seen.extend(_tenants(some))
        return some

    earlier = snapshot_of(BEFORE)
    known = InForce(in_force(earlier), earlier)
    snapshot = snapshot_of({**BEFORE, **change})
    replan(snapshot, REGISTRY, "production", known, fingerprint=fingerprint, max_dags=100, now=9.0, watched=watched)
    assert seen == planned


def _tenants(snapshot: Snapshot) -> Iterator[str]:
    return (key for key in snapshot if key.startswith("tenants/"))


def test_a_release_of_another_snapshot_is_not_carried_over() -> None:
    """Where somebody else has made what is in force, nothing is known of what it was planned from."""
    earlier, snapshot = snapshot_of(BEFORE), snapshot_of({})
    release = in_force(earlier)
    found = replan(
        snapshot, REGISTRY, "production", InForce(release, snapshot), fingerprint="code", max_dags=100, now=9.0
    )
    assert dict(found.specs) == {}
