"""The config client: the current snapshot, one refresh a TTL among all processes, the last good one for ever."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from . import keyed_file, snapshot
from .attempt import MAX_BACKOFF, Attempt
from .errors import NothingKnownError, SettingsError, SnapshotError, StoreError, StoreUnreachable
from .guard import Guard, told
from .snapshot import DECODER, Document, Snapshot
from .stores.base import READY, Store, StoreUser

log = logging.getLogger(__name__)

ACCEPTED = "accepted"
"""The key, beside the polled prefix, that holds the version which somebody has accepted although the guard holds it."""


class ConfigClient(StoreUser):
    """Gives the current snapshot of a store.

    What is known stands in a file in `folder`, so that processes that live for one parse share it. Once a TTL one
    process refreshes it, under a lock which nobody waits for; all others go on with what there is. A store that
    fails changes nothing but the snapshot's age.

    Args:
        store: opens the store to read; called when it is first needed, since most parses need only the local copy.
        folder: where to keep what is known; made if need be, readable only by this user.
        ttl: seconds that a snapshot counts as current.
        guard: what may vanish at once.
        fallback: asked only when `store` fails and nothing good is on disk.
        timeout: seconds to wait for another process's very first read.
        max_backoff: seconds between two attempts at a store that fails, at most.
        largest: bytes that one document may have (see `snapshot.from_reading`).
        task_start: this process starts a task: where parses refresh the snapshot it does not, and only reads files.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: Callable[[], Store],
        folder: Path,
        *,
        ttl: float = 30.0,
        guard: Guard | None = None,
        fallback: Callable[[], Store] | None = None,
        timeout: float = 2.0,
        largest: int = snapshot.MAX_DOCUMENT_BYTES,
        task_start: bool = False,
        max_backoff: float = MAX_BACKOFF,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(store)
        self.folder = folder
        self.ttl = ttl
        self.guard = guard or Guard()
        self.fallback = fallback
        self.timeout = timeout
        self.largest = largest
        self.task_start = task_start
        self.max_backoff = max_backoff
        self.clock = clock
        self.path = folder / "snapshot"

    def current(self) -> Snapshot:
        """Return the current snapshot, and refresh it first if it is due and no other process is at it.

        Raises:
            NothingKnownError: no store answers, and there is no local copy.
        """
        with self.turn() as mine:
            if mine:
                return self.refresh()
        kept = self.kept()
        return kept if kept is not None else self._first()  # an accepted one may be empty

    def document(self, key: str) -> Document | None:
        """Return one document of the current snapshot, without reading all of it when it is fresh."""
        if not self.is_due():
            with contextlib.suppress(FileNotFoundError, SnapshotError):
                return snapshot.load_one(self.path, key)
        return self.current().get(key)

    def kept(self) -> Snapshot | None:
        """Return the local copy, however old; None if there is none, or it is damaged."""
        try:
            return snapshot.load(self.path)
        except FileNotFoundError:
            return None
        except (SnapshotError, OSError, TypeError, ValueError) as error:
            log.warning("The local copy of the configuration cannot be used and is read anew: %s", error)
            return None

    def is_due(self) -> bool:
        """Say whether a refresh is due: the TTL has passed, or after failures their back-off."""
        attempt = self.last_attempt()
        if self.task_start and attempt.parses_here(self.clock(), self.ttl):
            return False
        return attempt.is_due(self.clock(), self.ttl, longest=self.max_backoff)

    def about(self) -> dict[str, Any]:
        """Return version, source, read_at and held of the local copy without reading it; {} if there is none."""
        try:
            return keyed_file.read_about(self.path)
        except (FileNotFoundError, SnapshotError):
            return {}

    def last_attempt(self) -> Attempt:
        """Return what is known of the last attempt to refresh."""
        return Attempt.load(self.folder)

    def problems(self) -> list[str]:
        """Say what is wrong with the store as a whole: that something is held, or that it does not answer."""
        lines = []
        about = self.about()
        if held := about.get("held"):
            lines.append(f"held: {told(held)}")
        attempt = self.last_attempt()
        if attempt.failures > 1 and about:  # one may be a hiccup; where nothing is known parses raise by themselves
            good_at = datetime.fromtimestamp(attempt.good_at or about["read_at"], UTC)
            lines.append(f"what held at {good_at:%Y-%m-%d %H:%M:%S} UTC stays in force: {attempt.error}")
        return lines

    @contextlib.contextmanager
    def turn(self, *, forced: bool = False) -> Iterator[bool]:
        """Hold the refresh lock if a refresh is due (or `forced`) and nobody else holds it; say whether it is held."""
        if not forced and not self.is_due():
            yield False
            return
        with self._open_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            # Another process may have refreshed between the first look and the lock.
            yield forced or self.is_due()

    def _open_lock(self) -> TextIO:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return (self.folder / "lock").open("a")
        except PermissionError as error:
            raise SettingsError(
                f"{error.filename} cannot be used by this user: name a folder for it by "
                "AIRFLOW__DAGFACTORY_CONSUL__STATE_DIR"
            ) from error

    def refresh(self, *, fallback: bool = True, known: Snapshot | None = None) -> Snapshot:
        """Read the store if it has changed, and put what the guard lets through in force. For the holder of the lock.

        Args:
            fallback: ask the fallback where the store fails and there is no local copy.
            known: what is in force otherwise; it is kept where there is no local copy.

        Raises:
            NothingKnownError: no store answers, and there is no local copy.
            StoreError, SettingsError: likewise, where no fallback is to be asked.
        """
        kept = self.kept()
        if kept is None and known is not None:
            kept = known
            self.keep(known)
        attempt = self.last_attempt()._replace(at=self.clock(), by_parse=not self.task_start)
        # Before the store is asked: should this process be killed while it waits, the next one still backs off.
        attempt._replace(failures=attempt.failures + 1, error="the attempt did not end").save(self.folder)
        try:
            current = self._read(kept)
        except (StoreError, SettingsError, NothingKnownError) as error:
            attempt = attempt._replace(failures=attempt.failures + 1, error=str(error))
            attempt.save(self.folder)
            if kept is not None:
                return self._stay(kept, attempt)
            if not isinstance(error, StoreError) or not fallback:
                raise
            return self._from_fallback(error)
        attempt._replace(failures=0, error=None, good_at=attempt.at).save(self.folder)
        if attempt.failures and kept is not None:
            log.info("%s answers again, after %d failed attempts", self.store.url, attempt.failures)
        return current

    def await_change(self, seconds: float) -> bool:
        """Wait until the store says something else than the local copy, but no longer than that; say whether it does.

        Returns False at once where that cannot be waited for.
        """
        about = self.about()
        if not self._has_marked(about.get("mark"), about.get("source", "")) or self.last_attempt().failures:
            return False
        try:
            return self.store.await_change(about["mark"], seconds)
        except (StoreError, SettingsError):  # the next refresh says what is wrong
            return False

    def _has_marked(self, mark: str | None, source: str) -> bool:
        """Say whether a mark may be compared with the store's present one."""
        # Another Consul at the same setting may be at the same index; a chain's address holds those of its links.
        return mark is not None and source in self.store.url

    def _read(self, kept: Snapshot | None) -> Snapshot:
        held = kept.held if kept is not None else None
        answer = self._accepted() if held is not None else ""
        # An acceptance is for the hold that it answers, not for the next one that looks the same.
        accepted = answer.partition(" ")[0] if held is not None and answer != held.get("seen") else None
        released = held is not None and accepted == held["version"]
        comparable = kept is not None and self._has_marked(kept.mark, kept.source) and kept.decoded_by == DECODER
        comparable = comparable and kept is not None and kept.is_weighed_by(self.largest)
        if kept is not None and comparable and not released and self.store.probe() == kept.mark:
            return kept
        new = snapshot.from_reading(self.store.read(), now=self.clock(), previous=kept, largest=self.largest)
        if not new and kept is None:
            raise NothingKnownError(
                f"{self.store.url} holds nothing, and nothing was ever read from it: no tenants are known. Write them "
                f"(`dagfactory-consul push FOLDER`), or only the key {READY} if there are to be none"
            )
        current = self.guard.check(kept, new, accepted=accepted)
        if current.held and held is not None and held["version"] == current.held["version"]:
            current = replace(current, held={**current.held, "seen": held.get("seen")})
        elif current.held:
            log.warning("Held: %s", told(current.held))
            current = replace(current, held={**current.held, "seen": self._accepted()})
        with contextlib.suppress(OSError):
            keyed_file.remove_leftovers(self.folder)
        self.keep(current)
        return current

    def keep(self, current: Snapshot) -> None:
        """Make a snapshot the local copy, which the next one is weighed against."""
        try:
            snapshot.save(current, self.path)
        except OSError as error:  # a disk that is full must not cost a single DAG
            log.error("The configuration is current, but cannot be kept: %s", error)  # noqa: TRY400

    def accept(self, version: str) -> None:
        """Write that a held version is accepted. Raises StoreError where that cannot be written."""
        # With the time, since it has to differ from an earlier acceptance of the same contents.
        self.store.beside("runtime").put(ACCEPTED, f"{version} {self.clock():.3f}".encode())

    def _accepted(self) -> str:
        """Return what was accepted last, and when; empty where nothing was, or it cannot be read."""
        beside = self.store.beside("runtime")
        try:
            entry = beside.get(ACCEPTED)
        except StoreError as error:
            log.warning("Whether what is held was accepted cannot be known: %s", error)
            return ""
        finally:
            beside.close()
        return entry.value.decode(errors="replace").strip() if entry else ""

    def _stay(self, kept: Snapshot, attempt: Attempt) -> Snapshot:
        if attempt.failures == 1:  # once, not with each parse
            age = self.clock() - (attempt.good_at or kept.read_at)
            log.warning("%s. The configuration of %.0f s ago stays in force", attempt.error, age)
        return kept

    def _from_fallback(self, error: StoreError) -> Snapshot:
        """Return what the fallback says. It is not kept: the store's first good read is not weighed against it."""
        if self.fallback is None:
            raise NothingKnownError(f"nothing is known of the configuration: {error}") from error
        store = self.fallback()
        try:
            found = snapshot.from_reading(store.read(), now=self.clock(), largest=self.largest)
        except StoreError as second:
            raise NothingKnownError(f"nothing is known of the configuration: {error}; {second}") from second
        finally:
            store.close()
        if not found:
            raise NothingKnownError(f"nothing is known of the configuration: {error}; {store.url} holds nothing")
        log.warning("%s. Using %s until it answers", error, store.url)
        return found

    def _first(self) -> Snapshot:
        """Wait for the first read that another process is making, or make it."""
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            with self.turn(forced=True) as mine:
                if mine:
                    if (kept := self.kept()) is not None:
                        return kept
                    attempt = self.last_attempt()
                    # Where the last attempt succeeded the local copy was lost since: that waits for no TTL.
                    if attempt.failures and not attempt.is_due(self.clock(), self.ttl):
                        return self._while_backing_off(attempt)
                    return self.refresh()
            time.sleep(0.02)
            if (kept := self.kept()) is not None:
                return kept
        raise NothingKnownError(f"nothing is known of the configuration: {self.store.url} has not been read yet")

    def _while_backing_off(self, attempt: Attempt) -> Snapshot:
        reason = (attempt.error or "it has not answered").removeprefix(f"{self.store.url}: ")
        return self._from_fallback(StoreUnreachable(f"{reason} (asked again later)", store=self.store.url))


class CachedClient:
    """A config client for a process that lives long: it keeps the parsed snapshot in memory for a TTL.

    Threads that ask at the same time share one load.
    """

    def __init__(self, client: ConfigClient, *, timer: Callable[[], float] = time.monotonic) -> None:
        import threading

        from cachetools import TTLCache, cached

        self.client = client
        cache: TTLCache[Any, Snapshot] = TTLCache(maxsize=1, ttl=client.ttl, timer=timer)
        self._load = cached(cache, condition=threading.Condition())(client.current)

    def current(self) -> Snapshot:
        """Return the current snapshot. Raises NothingKnownError as `ConfigClient.current` does."""
        return self._load()

    def document(self, key: str) -> Document | None:
        """Return one document of the current snapshot, None if it has no such key."""
        return self.current().get(key)
