"""A task's start: the one DAG that it belongs to, however many tenants there are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .attempt import Attempt
from .builders import build_dag
from .errors import BuilderError, BuildError, near_miss
from .registry import registry
from .release import DRAINING, Placement, load_placement
from .runtime import client_of, folder_of, release_path

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from .settings import Settings


def load_one(settings: Settings, dag_id: str) -> DAG:
    """Return the DAG of a task that starts.

    Where parses keep the release fresh it is one line of a local file. On a worker of its own it is the tenant's
    document in the snapshot, which this machine's task starts refresh once a TTL.

    Raises:
        BuildError: there is no such DAG, or it cannot be built.
        NothingKnownError: no store answers, and there is no local copy.
    """
    registry.time_limit = settings.import_timeout
    placed = None
    if Attempt.load(folder_of(settings)).parses_here(time.time(), settings.ttl):
        placed = load_placement(release_path(settings), dag_id)
    if placed is None:
        placed = _plan_one(settings, dag_id)
    try:
        definition = registry.load_one(placed.spec.builder, placed.origin)
    except BuilderError as error:
        raise BuildError(f"{dag_id}: {error}") from error
    return build_dag(definition, placed.spec, draining=placed.state == DRAINING)


def _plan_one(settings: Settings, dag_id: str) -> Placement:
    from .plan import plan, plan_one

    registry.load(settings.builders)
    client = client_of(settings)
    snapshot, now = client.current(), client.clock()
    spec = plan_one(snapshot, registry, settings.environment, dag_id, now=now)
    if spec is None:
        known = plan(snapshot, registry, settings.environment, now=now).specs
        raise BuildError(f"{snapshot.source} has no DAG {dag_id!r}{near_miss(dag_id, known)}")
    return Placement(spec, origin=registry.origin(spec.builder))
