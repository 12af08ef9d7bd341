"""A parse of the tenants' DAG file: all DAGs in force, renewed first if that is due."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import __version__, release
from .assembly import Assembly
from .attempt import Attempt
from .registry import registry
from .runtime import folder_of, release_path, stamp_path

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
    registry.time_limit = settings.import_timeout
    registry.load(settings.builders, entry_points=False)
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
    try:
        stamp = stamp_path(settings)
        renewed = stamp.stat().st_mtime
        if stamp.read_text() != fingerprint or not 0 <= now - renewed < settings.ttl:
            return True
    except FileNotFoundError:
        return True
    try:
        # Something else, a project's file, may have refreshed the snapshot since.
        return (folder_of(settings) / "snapshot").stat().st_mtime > renewed
    except FileNotFoundError:
        return False  # what is in force came from the fallback, and the back-off after the failure goes on
