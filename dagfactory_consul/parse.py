"""A parse of the tenants' DAG file: all DAGs in force, renewed first if that is due."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import __version__, release
from .assembly import Assembly
from .attempt import Attempt
from .registry import load_builders
from .runtime import folder_of, read_stamp, release_path, stamp_of

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from .settings import Settings


def load_all(settings: Settings) -> list[DAG]:
    """Return all DAGs in force.

    Most parses read one local file and build. Once a TTL one of them asks the store and works out what is to be in
    force; whoever finds it at work goes on with what there is.

    Raises:
        NothingKnownError: no store answers, and there is no local copy.
    """
    # What installed distributions bring is looked up at a renewal; here what the release names is imported by itself.
    registry = load_builders(settings, entry_points=False)
    fingerprint = f"{__version__}-{registry.fingerprint()}"
    in_force = release.load(release_path(settings))
    if in_force is None or _is_due(settings, fingerprint):
        from .renewal import Renewal  # what plans and reads stores is imported only by those who do

        return Renewal(settings, registry, fingerprint).load(in_force)
    return Assembly(registry, build_timeout=settings.build_timeout).build(in_force)[0]


def _is_due(settings: Settings, fingerprint: str) -> bool:
    now = time.time()
    if Attempt.load(folder_of(settings)).is_due(now, settings.ttl):
        return True
    # The code may have changed, or something else, a project's file, may have refreshed the snapshot.
    stamp, renewed = read_stamp(settings)
    return stamp != stamp_of(settings, fingerprint) or not 0 <= now - renewed < settings.ttl
