"""Settling: how a plan is put in force over what was before, so that no run is stranded and nothing good is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .plan import Plan
from .problems import Problem
from .release import ACTIVE, DRAINING, GONE, Placement, Release
from .spec import DagSpec

log = logging.getLogger(__name__)


def settle(
    previous: Release | None,
    plan: Plan,
    *,
    now: float,
    drain_time: float,
    unfinished: Callable[[str], bool | None],
    fingerprint: str,
) -> Release:
    """Put a plan in force over what was before: nothing that a run may need goes, nothing good is lost to a mistake.

    - A DAG that a problem keeps out of the plan stays as it is, unless its flag has gone off.
    - A DAG that is switched off or removed drains. It goes when two looks in a row saw no unfinished run: a run
      that the scheduler was just creating from the old schedule shows by the second; one that shows even later
      brings the DAG back. Or when `drain_time` is over.
    - A DAG id belongs to its tenant until that lets go of it.

    Args:
        previous: what was in force; None at the very first.
        plan: what is to be.
        now: seconds since the epoch.
        drain_time: seconds that a DAG may drain.
        unfinished: says of a DAG id whether it has unfinished runs; None where that cannot be known.
        fingerprint: of the builders' code.
    """
    before = previous.dags if previous is not None else {}
    problems = list(plan.problems)
    dags: dict[str, Placement] = {}
    for dag_id in sorted(plan.specs.keys() | before.keys()):
        old, spec = before.get(dag_id), plan.specs.get(dag_id)
        if spec is not None and old is not None and old.shown and old.spec.tenant != spec.tenant:
            problems.append(_taken(spec, old))
            spec = None
        if spec is not None:
            dags[dag_id] = _active(spec, old, now)
        elif old is not None and (kept := _without_plan(old, plan, now, drain_time, unfinished)) is not None:
            dags[dag_id] = kept
    return Release(dags, tuple(problems), plan.shared, plan.version, fingerprint)


def _active(spec: DagSpec, old: Placement | None, now: float) -> Placement:
    if old is None or old.state != ACTIVE:
        return Placement(spec, ACTIVE, now)
    return old._replace(spec=spec, checked=old.checked if old.spec.hash == spec.hash else None, refused=0.0)


def _without_plan(
    old: Placement,
    plan: Plan,
    now: float,
    drain_time: float,
    unfinished: Callable[[str], bool | None],
) -> Placement | None:
    """Say what becomes of a DAG that the plan no longer has."""
    if old.state == GONE:
        return _after_gone(old, now, drain_time, unfinished)
    if plan.keeps(old.spec):
        refused = old.refused or now if old.state == ACTIVE else old.refused
        return old._replace(idle=False, refused=refused)  # nobody has looked at its runs
    if old.state == ACTIVE:
        return old._replace(state=DRAINING, since=now, idle=False, refused=0.0)
    if now - old.since >= drain_time:
        log.warning("%s has drained for %.0f s and goes, whatever runs it still has", old.spec.dag_id, drain_time)
        return old._replace(state=GONE, since=now)
    has_runs = unfinished(old.spec.dag_id)
    if has_runs is False and old.idle:
        return old._replace(state=GONE, since=now)
    # Where it cannot be known now, what was seen before still holds.
    return old if has_runs is None else old._replace(idle=not has_runs)


def _after_gone(
    old: Placement, now: float, drain_time: float, unfinished: Callable[[str], bool | None]
) -> Placement | None:
    if old.idle and unfinished(old.spec.dag_id):  # a run that was just being created when it went
        return old._replace(state=DRAINING, since=now, idle=False)
    return old if now - old.since < drain_time else None


def _taken(spec: DagSpec, old: Placement) -> Problem:
    message = f"the DAG id {spec.dag_id!r} is in force for the tenant {old.spec.tenant!r}: name one of the two"
    return Problem(f"tenants/{spec.tenant}", message, spec.tenant, spec.dag_id)
