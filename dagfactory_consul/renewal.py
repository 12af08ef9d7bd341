"""The renewal: reads the store, has the changes tried in a child process, and deploys those that pass."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from . import release as releases
from .assembly import Assembly
from .changes import log_change
from .errors import DagFactoryError, NotYetError
from .preflight import Job, Preflight, folder_of_process
from .registry import Registry
from .release import Release
from .runs import UnfinishedRuns
from .runtime import client_of, forget_stamp, release_path, write_stamp
from .time_limit import share_of_parse

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import DAG

    from .settings import Settings
    from .snapshot import Snapshot

log = logging.getLogger(__name__)

SECONDS = 60.0
"""Seconds that one parse waits for the preflight, at most; and never longer than a third of Airflow's own limit."""
NOT_YET = "no DAG can be shown yet: the first configuration is still being checked"
GRACE = 2.0
"""Seconds over its limit after which the preflight's child is killed. The parse waits for that."""


class Renewal:
    """Renews the release of a deployment.

    Args:
        settings: of the deployment.
        registry: the builders, imported.
        fingerprint: of their code.
    """

    def __init__(self, settings: Settings, registry: Registry, fingerprint: str) -> None:
        self.settings = settings
        self.registry = registry
        self.fingerprint = fingerprint
        self.client = client_of(settings)

    def load(self, before: Release | None) -> list[DAG]:
        """Return all DAGs, renewed unless another process is at it.

        Raises:
            NothingKnownError, SettingsError, StoreError: nothing is known, and nothing was in force.
        """
        try:
            self.registry.load(())  # the entry points
            with self.client.turn(forced=True) as mine:
                if mine:
                    return self._renew(before)
        except Exception as error:
            if before is None:
                raise
            # Whatever it is, and be it a fault of ours: it must not cost a single DAG.
            known = isinstance(error, DagFactoryError)
            log.error("%s. What was in force stays", error, exc_info=not known)  # noqa: TRY400
        if before is None:
            # Nobody waits for the other one: this parse shows what it can, and keeps none of it.
            tried, _ = self._tried(None, self.client.current())
            if tried is None:
                raise NotYetError(NOT_YET)
            before = tried
        return self._assembly().build(before)[0]

    def _renew(self, before: Release | None) -> list[DAG]:
        snapshot = None if self.client.is_due() else self.client.kept()
        if snapshot is None:
            # What is in force is worth more than a fallback of any age.
            snapshot = self.client.refresh(fallback=before is None)
        with contextlib.suppress(OSError):  # a disk that is full: then the next parse renews again
            write_stamp(self.settings, self.fingerprint)
        before = releases.load(release_path(self.settings))  # again: it may have been renewed before the lock was ours
        tried, is_whole = self._tried(before, snapshot)
        if not is_whole:
            forget_stamp(self.settings)  # the next parse goes on
        if (wanted := tried or before) is None:
            raise NotYetError(NOT_YET)
        dags, after = self._assembly().build(wanted)
        if after != before:
            log_change(log, before, after)
            try:
                releases.save(after, release_path(self.settings))
            except OSError as error:
                log.error("What is in force cannot be kept: %s", error)  # noqa: TRY400
        return dags

    def _tried(self, before: Release | None, snapshot: Snapshot) -> tuple[Release | None, bool]:
        """Return what of a snapshot has passed, None if nothing has by now, and whether all of it was tried."""
        seconds = min(SECONDS, share_of_parse())
        # A limit, and what it takes to end a child that has passed it, fit into one parse.
        settings = replace(self.settings, build_timeout=min(self.settings.build_timeout, seconds / 2))
        base = release_path(self.settings)
        with _preflight(settings, base, min(GRACE, seconds / 5)) as preflight:
            preflight.start(self._job(before, snapshot, time.monotonic() + seconds))
            result = preflight.wait(seconds + 2 * GRACE)
        return (result.release, result.is_whole) if result is not None else (None, False)

    def _job(self, before: Release | None, snapshot: Snapshot, deadline: float) -> Job:
        placements = before.dags.items() if before is not None else ()
        draining = [dag_id for dag_id, placed in placements if placed.state == releases.DRAINING]
        unfinished = UnfinishedRuns(draining)
        return Job(
            snapshot,
            before,
            {dag_id: known for dag_id in draining if (known := unfinished(dag_id)) is not None},
            self.client.clock(),
            self.settings.builders,
            release_path(self.settings).with_suffix(".code"),  # which is not there: the builders are where they are
            "",
            deadline=deadline,
        )

    def _assembly(self) -> Assembly:
        return Assembly(self.registry, build_timeout=self.settings.build_timeout)


@contextlib.contextmanager
def _preflight(settings: Settings, base: Path, grace: float) -> Iterator[Preflight]:
    """Provide a preflight that knows what those of former parses have found."""
    preflight = Preflight(settings, folder_of_process(base.with_suffix(".preflight")), grace=grace)
    memory = base.with_suffix(".tried")
    preflight.recall(memory)
    try:
        yield preflight
    finally:
        preflight.close()
        preflight.remember(memory)
