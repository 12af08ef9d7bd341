"""What a change did to the DAGs in force, for the log."""

from __future__ import annotations

import logging

from .plan import diff
from .problems import some, told
from .release import DRAINING, Release


def log_change(log: logging.Logger, before: Release | None, after: Release) -> None:
    """Log which DAGs are new, gone, changed, and begin to drain, and the problems that are new."""
    change = diff(before.specs() if before is not None else {}, after.specs())
    for what, dag_ids in (("new", change.added), ("gone", change.removed), ("changed", change.changed)):
        if dag_ids:
            log.info("%d DAGs %s: %s", len(dag_ids), what, some(dag_ids))
    drained = set(_draining(before)) if before is not None else set()
    if begun := [dag_id for dag_id in _draining(after) if dag_id not in drained]:
        log.info("%d DAGs are switched off, and drain: %s", len(begun), some(begun))
    known = set(before.problems) if before is not None else set()
    for line in told(problem for problem in after.problems if problem not in known):  # once, not with each change
        log.warning("%s", line)


def _draining(release: Release) -> list[str]:
    return [dag_id for dag_id, placed in release.dags.items() if placed.state == DRAINING]
