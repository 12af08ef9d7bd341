"""A task's start: the one DAG that it belongs to, however many tenants there are."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from .attempt import Attempt
from .builders import Definition, build_dag
from .errors import BuilderError, BuildError, near_miss
from .registry import load_builders, registry
from .release import DRAINING, Placement, load_placement
from .runtime import client_of, folder_of, release_path

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from .settings import Settings

log = logging.getLogger(__name__)


def load_one(settings: Settings, dag_id: str) -> DAG | None:
    """Return the DAG of a task that starts; None where no document describes it, which is logged.

    Where parses keep the release fresh it is one line of a local file. On a worker of its own it is the tenant's
    document in the snapshot, which this machine's task starts refresh once a TTL.

    Raises:
        BuildError: it cannot be built.
        NothingKnownError: no store answers, and there is no local copy.
    """
    registry.time_limit = settings.import_timeout
    placed = None
    if Attempt.load(folder_of(settings)).parses_here(time.time(), settings.ttl):
        placed = load_placement(release_path(settings), dag_id)
    if placed is None:
        placed = _plan_one(settings, dag_id)
    if placed is None:
        return None
    draining = placed.state == DRAINING
    return build_dag(_definition(settings, placed), placed.spec, draining=draining, refused=placed.refused)


def _definition(settings: Settings, placed: Placement) -> Definition:
    try:
        return registry.load_one(placed.spec.builder, placed.origin)
    except BuilderError:
        load_builders(settings)  # it may stand elsewhere by now: a link was turned, a module renamed
    try:
        return registry[placed.spec.builder]
    except BuilderError as error:
        raise BuildError(f"{placed.spec.dag_id}: {error}") from error


def _plan_one(settings: Settings, dag_id: str) -> Placement | None:
    from .plan import plan, plan_one

    load_builders(settings)
    client = client_of(settings)
    snapshot, now = client.current(), client.clock()
    spec = plan_one(snapshot, registry, settings.environment, dag_id, now=now)
    if spec is None:
        # The scheduler knows of it, so it may be younger than what this machine knows.
        with client.turn(forced=True) as mine:
            snapshot = client.refresh() if mine else snapshot
        spec = plan_one(snapshot, registry, settings.environment, dag_id, now=now)
    if spec is None:
        known = plan(snapshot, registry, settings.environment, now=now).specs
        log.error("%s has no DAG %r%s", snapshot.source, dag_id, near_miss(dag_id, known))
        return None
    return Placement(spec, origin=registry.origin(spec.builder))
