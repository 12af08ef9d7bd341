"""A plan that is worked out only for what has changed: all else is carried over from what is in force. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from . import snapshot as snapshots
from .flags import FOLDER as FLAGS
from .guard import DEFAULTS
from .plan import Plan, plan
from .registry import Registry
from .release import ACTIVE, Release
from .snapshot import Snapshot
from .spec import DagSpec

_TENANTS = "tenants/"


class InForce(NamedTuple):
    """What a plan may be carried over from."""

    release: Release
    snapshot: Snapshot
    """What the release was planned from, by the same environment."""


def replan(
    snapshot: Snapshot,
    registry: Registry,
    environment: str,
    in_force: InForce | None,
    *,
    fingerprint: str,
    now: float,
    max_dags: int,
    last_good: Release | None = None,
    watched: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot,
) -> Plan:
    """Return the plan that `plan` would make, without looking at tenants for which nothing has changed.

    Args:
        snapshot: what the store holds.
        registry: the builders.
        environment: whose layer of the defaults applies.
        in_force: what may be carried over; None if it is not known what it was planned from.
        fingerprint: of the builders' code.
        now: seconds since the epoch.
        max_dags: that one tenant may have.
        last_good: the release whose shared documents are fallen back on.
        watched: is handed what is planned from in the end.
    """

    def planned(some: Snapshot) -> Plan:
        shared = last_good.shared if last_good is not None else None
        return plan(watched(some), registry, environment, last_good=shared, now=now, max_dags=max_dags)

    carried = _unchanged(snapshot, in_force, fingerprint) if in_force is not None else set()
    if in_force is None or not carried:
        return planned(snapshot)
    tenants = {key.removeprefix(_TENANTS) for key in carried}
    kept = {
        dag_id: placed.spec
        for dag_id, placed in in_force.release.dags.items()
        if placed.state == ACTIVE and placed.spec.tenant in tenants
    }
    found = planned(_without(snapshot, carried))
    if found.specs.keys() & kept.keys():  # two tenants give the same DAG id: who has it is for the whole plan to say
        return planned(snapshot)
    specs: dict[str, DagSpec] = {**found.specs, **kept}
    ordered = {dag_id: specs[dag_id] for dag_id in sorted(specs)}
    return Plan(ordered, found.problems, found.shared, snapshot.version, found.is_on)


def _unchanged(snapshot: Snapshot, in_force: InForce, fingerprint: str) -> set[str]:
    """Return the keys of the tenants whose plan is what it was: nothing that shapes it has changed."""
    release, before = in_force
    if release.snapshot != before.version or release.fingerprint != fingerprint:
        return set()
    old, new = before.lines, snapshot.lines
    if _shared(old) != (shared := _shared(new)) or any("timestamp" in line for line in shared.values()):
        return set()  # a rule may ask for the time
    wrong = {problem.key for problem in release.problems}
    if any(key.startswith(f"{FLAGS}/") for key in wrong):
        return set()  # what a flag has wrong may show only where it is evaluated
    return {key for key, line in new.items() if key.startswith(_TENANTS) and old.get(key) == line} - wrong


def _shared(lines: dict[str, str]) -> dict[str, str]:
    return {key: line for key, line in lines.items() if key == DEFAULTS or key.startswith(f"{FLAGS}/")}


def _without(snapshot: Snapshot, keys: set[str]) -> Snapshot:
    return snapshots.of_lines(
        {key: line for key, line in snapshot.lines.items() if key not in keys},
        source=snapshot.source,
        mark=snapshot.mark,
        read_at=snapshot.read_at,
        held=snapshot.held,
        decoded_by=snapshot.decoded_by,
    )
