"""The agreement: what a deployment's processors hold to be in force, and how one of them changes it.

They agree by the deployment's head (see `head`), which is written by compare-and-set once all that it needs is in the
history. Where the store refuses to be written a processor goes on alone.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from . import edition as editions
from .codebase import Code
from .edition import Draft, Edition, Stamp
from .errors import (
    PointerRefusedError,
    SettingsError,
    SnapshotError,
    StoreDenied,
    StoreError,
    StoreRejected,
    VersionGoneError,
)
from .head import Head, Heads, this_processor
from .history import History
from .reporting import Reporter
from .runtime import history_store, runtime_store
from .settings import Settings
from .signature import signer_of_airflow
from .stores.base import Entry
from .trust import Trust

log = logging.getLogger(__name__)

UNREADABLE = (VersionGoneError, SnapshotError, ValueError, KeyError, TypeError)
"""What loading an edition raises that is damaged, not complete, or written by another version of this package."""


class Agreement:
    """One processor's view of what its deployment has agreed on.

    Args:
        bundle: the bundle's name.
        base: the bundle's folder on this machine.
        settings: of the deployment.
        reporter: for what is to be said once.
        clock: seconds since the epoch.
        deployed: returns the bundle's version in Airflow's database; None if there is none.
    """

    RESTORE_AFTER: ClassVar[float] = 12.0
    """Seconds for which the store has to show an older head, or none, before it counts as restored or emptied: a copy
    that lags behind shows the same."""
    DENIED_INTERVAL: ClassVar[float] = 30.0
    """Seconds after which a store is written to again that has refused it: rights may come back."""
    FAILED_INTERVAL: ClassVar[float] = 10.0
    """Seconds after which the history is asked again that did not answer: each question may take as long."""
    RESTORE_SECONDS: ClassVar[float] = 1.0
    """How long one look goes on writing again what the store has lost. The next look goes on with it."""

    def __init__(
        self,
        bundle: str,
        base: Path,
        settings: Settings,
        reporter: Reporter,
        clock: Callable[[], float],
        deployed: Callable[[], str | None],
    ) -> None:
        deployment = settings.deployment_name
        self.bundle = bundle
        self.base = base
        self.reporter = reporter
        self.clock = clock
        self.by = f"{this_processor()}-{secrets.token_hex(3)}"
        """Who writes what is agreed on: the host, the process, and what tells it from any other."""
        self.heads = Heads(lambda: runtime_store(settings), deployment, base / "head.json", signer_of_airflow)
        self.trust = Trust(self.heads, deployed, settings)
        self.history = History(lambda: history_store(settings), deployment, base / "cache", fill=True)
        self.edition: Edition | None = None
        """What is in force, as far as this processor knows."""
        self.code: Code | None = None
        """The builders' code of that."""
        self.known = False
        """Whether the last look has found out what the store says."""
        self.refused: str | None = None
        """Why the store's head is not taken over; None if it is, or there is none."""
        self._remote: Entry | None = None
        self._agreed: Head | None = None
        """The store's head, unless it cannot be read or is refused."""
        self._is_unsigned = False
        """Whether that is taken over although it is not signed."""
        self._judged: bytes | None = None
        """The store's head that was found to be signed: it is not read and checked again while it is the same."""
        self._contested = 0
        """How often a refused head was replaced since another processor has last written a good one."""
        self._behind_since: float | None = None
        self._lost = False
        self._denied = self._failed = float("-inf")

    def look(self) -> None:
        """Ask the store for the deployment's head."""
        self._remote, self.known = None, False
        try:
            self._remote, self.known = self.heads.read(), True
        except StoreDenied as error:
            self._note_denied(error)
        except StoreError as error:
            self.reporter.once(f"{error}. What this deployment agreed on cannot be known")
        if self.known:
            self._judge(self._remote)

    def look_away(self) -> None:
        """Do not ask the store: it is left alone for a while."""
        self._remote, self.known = None, False

    def _judge(self, entry: Entry | None) -> None:
        """Read the store's head, and see whether it may be taken over."""
        if entry is not None and entry.value == self._judged:
            return
        self._agreed, self._is_unsigned, self._judged, self.refused = None, False, None, None
        if entry is None:
            return
        try:
            head = Head.of_bytes(entry.value)
        except ValueError as error:
            self.reporter.once(f"{self.heads.store.url}: {error}. It is written anew with the next change")
            return
        self.refused = self.trust.refusal(entry, head, self.edition.head if self.edition is not None else None)
        if self.refused is not None:
            self.reporter.once(f"{self.refused}. What this machine has deployed stays")
            return
        self._agreed, self._is_unsigned = head, not self.heads.is_signed(entry, head)
        self._judged = entry.value if not self._is_unsigned else None
        self._contested = 0 if head.by != self.by else self._contested

    def take_over(self) -> bool:
        """Take over what another processor has written since; say whether there was anything.

        Raises:
            SettingsError: it is another bundle's.
            PointerRefusedError: it is not signed, and this machine has deployed nothing yet.
        """
        if not self.known or self._is_waiting:
            return False
        if self.refused is not None and self.edition is None:
            raise PointerRefusedError(
                f"{self.refused}. Nothing is deployed on this machine. To work all out anew from the documents (what "
                "drains, and last good configurations, are then lost), delete that key"
            )
        head = self._agreed
        if head is None:
            return False
        self._check_bundle(head)
        if self.edition is not None and (head == self.edition.head or head.sequence < self.edition.head.sequence):
            return False
        try:
            self.edition, self.code = editions.load(head, self.history)
        except UNREADABLE as error:
            self.reporter.once(f"{error}: what {head.by} has written cannot be taken over, and is worked out anew")
            return False
        except StoreError as error:
            self._note_failed(error)
            return False
        log.info("Took over version %s of %s from %s", head.version, self.bundle, head.by)
        return True

    def _check_bundle(self, head: Head) -> None:
        if head.bundle != self.bundle:
            raise SettingsError(
                f"{self.heads.store.url}{self.heads.key} is that of the bundle {head.bundle!r} ({head.by}), and this "
                f"is {self.bundle!r}: give one of them another deployment, by the kwarg or by "
                "AIRFLOW__DAGFACTORY_CONSUL__DEPLOYMENT. If the bundle was renamed, delete that key"
            )

    @property
    def is_own(self) -> bool:
        """Whether this processor has written what is in force."""
        return self.edition is not None and self.edition.head.by == self.by

    @property
    def can_publish(self) -> bool:
        """Whether it makes sense to work out a change now: it could be published."""
        return not self._is_waiting and (self.known or self.edition is None or self.cannot_write)

    def stamp(self) -> Stamp:
        """Return what the next head is to bear."""
        # What nobody could agree on, at a first start without the store, gives way to whatever there is later.
        latest = max(self.edition.head.sequence if self.edition is not None else 0, self._sequence)
        return Stamp(1 + latest if self.known or self.edition is not None else 0, self.clock(), self.by, self.bundle)

    def publish(self, draft: Draft, code: Code) -> bool:
        """Put a draft in force; False where that cannot be now: another one came first, or the store is away."""
        if not self._agree(draft):
            return False
        self.edition, self.code = draft.edition, code
        return True

    def _agree(self, draft: Draft) -> bool:
        if not self.known and not self.cannot_write:
            if self.edition is not None:
                return False
            self.history.put_locally(draft.blobs, draft.edition.version)
            return True
        try:
            if self._is_behind:
                self._write_again(draft)  # what is new in it is not all that the store lacks
            self.history.put(draft.blobs, draft.edition.version)
            return self.heads.swap(draft.edition.head, self._remote)
        except (StoreDenied, StoreRejected) as error:
            self._note_denied(error)
            self.history.put_locally(draft.blobs, draft.edition.version)
            return True
        except (StoreError, VersionGoneError) as error:
            self._note_failed(error)
            return False

    def restore(self) -> None:
        """Write again what the store has lost, where it was emptied or restored from an older copy of itself."""
        if self.edition is None or not self.known or self.cannot_write or self._is_waiting:
            return
        try:
            if self._is_behind:
                self._restore_head(self.edition)
            else:
                self._behind_since = None
                self._sign()
                if self._lost:
                    self._restore_versions()
        except (StoreDenied, StoreRejected) as error:
            self._note_denied(error)
        except (StoreError, VersionGoneError) as error:
            self._note_failed(error)

    def _restore_head(self, edition: Edition) -> None:
        now = time.monotonic()
        self._behind_since = self._behind_since or now
        # Two processors with different keys would replace each other's for ever: they do so ever less often.
        if now - self._behind_since < self.RESTORE_AFTER * 2 ** min(self._contested, 6):
            return
        self._behind_since = None
        self._contested += self.refused is not None
        head = edition.head._replace(sequence=edition.head.sequence + 1)
        self._write_again(Draft(edition, {}))
        self.history.put({}, edition.version)
        if self.heads.swap(head, self._remote):
            log.warning("%s lacked what this deployment agreed on: it was written again", self.heads.store.url)
            self._denied = float("-inf")
            self.edition = edition._replace(head=head)

    def _sign(self) -> None:
        """Sign the store's head if it was taken over without a signature."""
        if self._is_unsigned and self._agreed is not None and self.heads.swap(self._agreed, self._remote):
            log.info("%s%s was not signed: it is now", self.heads.store.url, self.heads.key)

    def _write_again(self, draft: Draft) -> None:
        """Write what a draft needs and the store lacks; all that older versions need is for later looks."""
        self._lost = True
        needed = draft.edition.references() - draft.blobs.keys()
        self.history.put(self.history.get(needed - self.history.keys()[1]))

    def _restore_versions(self) -> None:
        end = time.monotonic() + self.RESTORE_SECONDS
        names, blobs = self.history.keys()
        for version in sorted(self.history.versions_here(), key=lambda each: each.at, reverse=True):
            if version.name not in names or not version.blobs() <= blobs:
                if time.monotonic() > end:
                    return
                with contextlib.suppress(VersionGoneError):  # this machine has not all of it
                    self.history.put(self.history.get(version.blobs() - blobs), version)
                    blobs |= version.blobs()
        self._lost = False

    @property
    def _is_behind(self) -> bool:
        """Whether the store shows less than what this processor knows to be agreed on."""
        return self.edition is not None and self._sequence < self.edition.head.sequence

    @property
    def _sequence(self) -> int:
        """Of the store's head; less than any if there is none that can be taken over."""
        return self._agreed.sequence if self.known and self._agreed is not None else -1

    @property
    def cannot_write(self) -> bool:
        """Whether the store has refused to be written, and it is not time to try again."""
        return time.monotonic() - self._denied < self.DENIED_INTERVAL

    @property
    def _is_waiting(self) -> bool:
        return time.monotonic() - self._failed < self.FAILED_INTERVAL

    def _note_failed(self, error: Exception) -> None:
        self._failed = time.monotonic()
        self.reporter.once(f"{error}. A change waits until the history answers")

    def _note_denied(self, error: StoreError) -> None:
        if self._denied == float("-inf"):
            log.warning(
                "%s. This processor works on without: runs are pinned on machines that share %s only, and other "
                "processors of this deployment cannot agree with it",
                error,
                self.base,
            )
        self._denied = time.monotonic()
