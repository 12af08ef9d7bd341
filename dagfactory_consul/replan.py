"""A plan that is worked out only for what has changed: all else is carried over from what is in force. Pure."""

from __future__ import annotations

from typing import NamedTuple

from . import snapshot as snapshots
from .document_limits import NoLimits
from .flag_set import KnownFlags
from .flags import FOLDER as FLAGS
from .guard import DEFAULTS
from .plan import Plan, plan
from .problems import Problem, touched_by
from .registry import Registry
from .release import ACTIVE, Release
from .snapshot import Snapshot
from .spec import DagSpec

_TENANTS, _FLAGS = "tenants/", f"{FLAGS}/"


class InForce(NamedTuple):
    """What a plan may be carried over from."""

    release: Release
    snapshot: Snapshot
    """What the release was planned from, by the same environment."""
    outcome: Outcome | None = None
    """What the plan of then had wrong; None where that is not known: documents with problems are planned again."""


class Outcome(NamedTuple):
    """The part of a plan that is not in its release: without it a document with problems would be planned again."""

    problems: tuple[Problem, ...]
    """The plan's own. A release has those of building, too."""
    again: frozenset[str]
    """The keys of the documents that are planned again whether they have changed or not."""


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
    limits: NoLimits | None = None,
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
        limits: on each document's time.
    """

    def planned(some: Snapshot, known: KnownFlags | None = None) -> Plan:
        shared = last_good.shared if last_good is not None else None
        return plan(
            some, registry, environment, last_good=shared, now=now, max_dags=max_dags, limits=limits, known=known
        )

    if in_force is None or not _is_comparable(snapshot, in_force, fingerprint):
        return planned(snapshot)
    carried = _carried(snapshot, in_force)
    problems = [each for each in in_force.outcome.problems if each.key in carried] if in_force.outcome else []
    kept = _kept(in_force.release, carried, problems)
    found = planned(_without(snapshot, carried), _known_flags(snapshot, in_force))
    if found.specs.keys() & kept.keys():  # two tenants give the same DAG id: who has it is for the whole plan to say
        return planned(snapshot)
    specs: dict[str, DagSpec] = {**found.specs, **kept}
    ordered = {dag_id: specs[dag_id] for dag_id in sorted(specs)}
    together = tuple(sorted({*found.problems, *problems}, key=str))
    return Plan(ordered, together, found.shared, snapshot.version, found.is_on, found.again)


def _is_comparable(snapshot: Snapshot, in_force: InForce, fingerprint: str) -> bool:
    """Say whether a tenant's plan is what it was as long as its document is: all that shapes it else is the same."""
    release, before, outcome = in_force
    if release.snapshot != before.version or release.fingerprint != fingerprint:
        return False
    if _shared(before.lines) != (shared := _shared(snapshot.lines)):
        return False
    last_good = (str(document.value) for document in (release.shared or {}).values())
    if any("timestamp" in text for text in (*shared.values(), *last_good)):
        return False  # a rule may ask for the time
    # What a flag has wrong may show only where it is evaluated.
    return outcome is not None or not any(each.key.startswith(_FLAGS) for each in release.problems)


def _carried(snapshot: Snapshot, in_force: InForce) -> set[str]:
    """Return the keys of the tenants whose plan is carried over."""
    old, new = in_force.snapshot.lines, snapshot.lines
    unchanged = {key for key, line in new.items() if key.startswith(_TENANTS) and old.get(key) == line}
    wrong = set(in_force.release.problems)
    if in_force.outcome is None:
        return unchanged - {each.key for each in wrong}
    # The spec that could not be built is not in the release.
    unbuilt = {each.key for each in wrong.difference(in_force.outcome.problems)}
    return unchanged - unbuilt - in_force.outcome.again


def _kept(release: Release, carried: set[str], problems: list[Problem]) -> dict[str, DagSpec]:
    """Return the specs that are carried over, without those that a problem touches: they are not in a plan either."""
    tenants = {key.removeprefix(_TENANTS) for key in carried}
    is_touched = touched_by(problems)
    specs = (placed.spec for placed in release.dags.values() if placed.state == ACTIVE)
    return {spec.dag_id: spec for spec in specs if spec.tenant in tenants and not is_touched(spec.tenant, spec.dag_id)}


def _known_flags(snapshot: Snapshot, in_force: InForce) -> KnownFlags:
    """Return what the plan before has found out of the flags, which have not changed."""
    if in_force.outcome is None:
        return KnownFlags()
    shared, again = in_force.release.shared or {}, in_force.outcome.again
    problems = {each.key: each for each in in_force.outcome.problems if each.key.startswith(_FLAGS)}
    keys = {key for key in snapshot.lines if key.startswith(_FLAGS)} - again
    tried = {key for key in keys if key in shared and shared[key].value == snapshot[key].value}
    return KnownFlags({key: problems[key] for key in keys - tried if key in problems}, tried)


def _shared(lines: dict[str, str]) -> dict[str, str]:
    return {key: line for key, line in lines.items() if key == DEFAULTS or key.startswith(_FLAGS)}


def _without(snapshot: Snapshot, keys: set[str]) -> Snapshot:
    return snapshots.of_lines(
        {key: line for key, line in snapshot.lines.items() if key not in keys},
        source=snapshot.source,
        mark=snapshot.mark,
        read_at=snapshot.read_at,
        held=snapshot.held,
        decoded_by=snapshot.decoded_by,
    )
