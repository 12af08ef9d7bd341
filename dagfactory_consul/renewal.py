"""The renewal: the store is read, a plan is made of what it says, and what can be built of it is put in force."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from . import release as releases
from .assembly import Assembly
from .changes import log_change
from .errors import DagFactoryError
from .plan import plan
from .registry import Registry
from .release import Release
from .runs import UnfinishedRuns
from .runtime import client_of, release_path, write_stamp
from .settle import settle

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from .settings import Settings
    from .snapshot import Snapshot

log = logging.getLogger(__name__)


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
        # Nobody waits for the other one. Where nothing was in force yet this parse shows what it can and keeps none.
        release = before or self._settle(None, self.client.current())
        return self._assembly().build(release)[0]

    def _renew(self, before: Release | None) -> list[DAG]:
        snapshot = None if self.client.is_due() else self.client.kept()
        if snapshot is None:
            # What is in force is worth more than a fallback of any age.
            snapshot = self.client.refresh(fallback=before is None)
        with contextlib.suppress(OSError):  # a disk that is full: then the next parse renews again
            write_stamp(self.settings, self.fingerprint)
        before = releases.load(release_path(self.settings))  # again: it may have been renewed before the lock was ours
        dags, after = self._assembly().build(self._settle(before, snapshot), before, check=True)
        if after != before:
            log_change(log, before, after)
            try:
                releases.save(after, release_path(self.settings))
            except OSError as error:
                log.error("What is in force cannot be kept: %s", error)  # noqa: TRY400
        return dags

    def _settle(self, before: Release | None, snapshot: Snapshot) -> Release:
        now = self.client.clock()
        last_good = before.shared if before is not None else None
        placements = before.dags.items() if before is not None else ()
        draining = [dag_id for dag_id, placed in placements if placed.state == releases.DRAINING]
        return settle(
            before,
            plan(
                snapshot,
                self.registry,
                self.settings.environment,
                last_good=last_good,
                now=now,
                max_dags=self.settings.max_dags,
            ),
            now=now,
            drain_time=self.settings.drain_time,
            unfinished=UnfinishedRuns(draining),
            fingerprint=self.fingerprint,
        )

    def _assembly(self) -> Assembly:
        return Assembly(self.registry, build_timeout=self.settings.build_timeout)
