"""The retention: which versions the history still keeps, and what else in it nobody needs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import ClassVar

from .edition import Edition
from .errors import SnapshotError, StoreError, VersionGoneError
from .history import History
from .manifest import Version
from .settings import Settings

log = logging.getLogger(__name__)


class Retention:
    """Removes what is too old or too much, never what is in use.

    Args:
        history: of the deployment.
        settings: with the age, the count and the bytes.
        in_use: returns the versions that an unfinished run or a current DAG needs.
        clock: seconds since the epoch.
    """

    INTERVAL: ClassVar[float] = 600.0
    """Seconds between two sweeps. What no version needs goes when two sweeps have seen it so: a processor writes
    contents first, and then the version that needs them."""

    SECONDS: ClassVar[float] = 2.0
    """How long one sweep reads, at most."""
    AT_ONCE: ClassVar[int] = 40
    """How many versions, and contents, one sweep removes at most: Airflow's processor does nothing else meanwhile."""

    def __init__(
        self, history: History, settings: Settings, in_use: Callable[[], set[str]], clock: Callable[[], float]
    ) -> None:
        self.history = history
        self.count = settings.history_count
        self.bytes = settings.history_bytes
        self.age = settings.history_age
        self.in_use = in_use
        self.clock = clock
        self._swept = time.monotonic()
        self._unneeded: set[str] = set()

    def sweep(self, edition: Edition, *, now: bool = False) -> None:
        """Look what can go, if it is time to, and put back what should be there and is not."""
        if not now and time.monotonic() - self._swept < self.INTERVAL:
            return
        self._swept = time.monotonic()
        try:
            in_use = self.in_use()
        except Exception as error:  # noqa: BLE001  # whatever the database says: nothing goes that may be in use
            log.warning("What the history still needs cannot be known, so all of it stays: %s", error)
            return
        try:
            self._sweep(edition, in_use | {edition.version.name})
        except (StoreError, SnapshotError, VersionGoneError) as error:
            log.warning("The history is not swept: %s", error)

    def _sweep(self, edition: Edition, in_use: set[str]) -> None:
        names, blobs = self.history.keys()
        versions, damaged = [], set()
        end = time.monotonic() + self.SECONDS
        for name in sorted(names):
            if time.monotonic() > end:
                self._come_back_soon()  # what was read stands on this machine, so the next sweep comes further
                return
            try:
                version = self.history.version(name)
            except SnapshotError as error:
                log.warning("%s. It stays, and so does all that it may need", error)
                damaged.add(name)
            else:
                versions += [version] if version is not None else []
        keep = self._kept(versions, in_use | damaged)
        needed = edition.references()
        too_much = self._too_much([each for each in versions if each.name in keep], in_use | damaged, needed, end)
        keep -= too_much
        if (missing := needed - blobs) or edition.version.name not in names:
            log.warning("%s lacks some of what is in force: it is written again", self.history.store.url)
            self.history.put(self.history.get(missing), edition.version)
        for version in versions:
            if version.name in keep:
                needed |= version.blobs()
        unneeded = blobs - needed
        drop = sorted(names - keep - {edition.version.name})[: self.AT_ONCE]
        garbage = [] if damaged else sorted(unneeded & self._unneeded)[: self.AT_ONCE]
        self.history.drop(drop, garbage)
        self._unneeded = unneeded - set(garbage)
        self._sweep_here(edition, in_use | damaged, too_much)
        if self.AT_ONCE in (len(drop), len(garbage)):
            self._come_back_soon()
        if drop:
            log.info("%d versions are no longer kept in %s", len(drop), self.history.store.url)

    def _come_back_soon(self) -> None:
        self._swept -= self.INTERVAL * 0.95

    def _too_much(self, versions: list[Version], in_use: set[str], needed: set[str], end: float) -> set[str]:
        """Return the versions for which the store has no room: the oldest of those that are not in use."""
        sizes = self.history.sizes({*needed, *(ref for version in versions for ref in version.blobs())}, end)
        if sizes is None:
            self._come_back_soon()  # what was looked at is remembered
            return set()
        counted = needed.union(*(version.blobs() for version in versions if version.name in in_use))
        total = sum(sizes[ref] for ref in counted)
        others = (version for version in versions if version.name not in in_use)
        ordered = sorted(others, key=lambda version: version.at, reverse=True)
        for position, version in enumerate(ordered):
            total += sum(sizes[ref] for ref in version.blobs() - counted)
            counted |= version.blobs()
            if total > self.bytes:
                return {each.name for each in ordered[position:]}
        return set()

    def _sweep_here(self, edition: Edition, in_use: set[str], too_much: set[str]) -> None:
        """Do the same with this machine's copies: what is dropped from the store may have been by another processor."""
        versions = self.history.versions_here()
        keep = self._kept(versions, in_use) - too_much
        needed = edition.references()
        needed = needed.union(*(version.blobs() for version in versions if version.name in keep))
        self.history.keep_here(keep, needed)

    def _kept(self, versions: list[Version], in_use: set[str]) -> set[str]:
        newest = sorted(versions, key=lambda version: version.at, reverse=True)
        ends = [self.clock(), *(version.at for version in newest)]  # each went out of force when the next one came
        young = [version.name for version, end in zip(newest, ends, strict=False) if self.clock() - end < self.age]
        return in_use | set(young[: self.count])
