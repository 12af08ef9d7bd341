"""A DAG processor's part in a deployment: sees what has changed, has it tried, publishes it, and writes the files."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Protocol

from . import edition as editions
from . import folders
from . import release as releases
from .agreement import UNREADABLE, Agreement
from .arrangement import Limits
from .changes import log_change
from .codebase import Code, Codebase
from .edition import Edition
from .errors import DagFactoryError, NothingKnownError, NotYetError, StoreError
from .guard import Deployed
from .import_errors import ImportErrors
from .layout import Layout
from .occupancy import Elsewhere, Parsed
from .problems import told
from .release import Placement
from .reporting import Reporter
from .retention import Retention
from .rivals import Rivals
from .rollout import Rollout, Tried
from .runtime import client_of, runtime_store
from .settings import Settings
from .snapshot import Snapshot

log = logging.getLogger(__name__)


class Occupancy(Protocol):
    """What Airflow's database says is in use (see `occupancy`)."""

    def parsed(self, dag_ids: Collection[str]) -> dict[str, Parsed]: ...
    def unfinished(self, dag_ids: Collection[str]) -> dict[str, bool]: ...
    def versions_in_use(self, bundle: str) -> set[str]: ...
    def pointed_at(self, bundle: str, files: Collection[str]) -> set[str]: ...
    def unlisted(self, bundle: str, dag_ids: Collection[str]) -> set[str]: ...
    def elsewhere(self, bundle: str, dag_ids: Collection[str] | None) -> Mapping[str, Elsewhere]: ...
    def pools(self) -> set[str]: ...
    def import_errors(self, bundle: str) -> dict[str, str]: ...
    def forget_import_errors(self, bundle: str, files: Collection[str]) -> None: ...
    def deployed_version(self, bundle: str) -> str | None: ...


class Processor:
    """Keeps one deployment's files on this machine at what the store says.

    Nothing here imports a builder, and nothing waits for one: that is for a child process (see `preflight`). And
    nothing waits long for a store: Airflow's processor does nothing else meanwhile.

    Args:
        name: of the bundle.
        base: the bundle's folder on this machine.
        path: where the files go.
        settings: of the deployment.
        codebase: the builders' code.
        occupancy: what Airflow's database says is in use.
        clock: seconds since the epoch.
        stale_after: Airflow's `stale_dag_threshold`, in seconds.
    """

    PAUSE: ClassVar[float] = 0.5
    """Seconds between two looks, at least: while files are parsed Airflow's processor asks twenty times a second."""
    PATIENCE: ClassVar[float] = 30.0
    """Seconds, and a twentieth for each DAG, that a processor gives the one that has published a change to parse it
    first. Two that insert the same new DAG at once end one of them: Airflow's own unique constraint."""
    REST: ClassVar[float] = 5.0
    """Seconds that it gives the other one after that: a file that was changed is parsed there once more."""
    AWAIT: ClassVar[float] = 0.7
    """Seconds of each idle second of Airflow's processor for which a change is waited for in the store itself."""
    IDLE: ClassVar[float] = 0.15
    """Seconds for which Airflow's processor has to have slept between two looks to count as idle: less than what the
    wait and a look on a slow machine leave of a second, or every other second would be slept through; and more than it
    sleeps while files are parsed."""

    def __init__(
        self,
        name: str,
        base: Path,
        path: Path,
        settings: Settings,
        codebase: Codebase,
        *,
        occupancy: Occupancy,
        clock: Callable[[], float] = time.time,
        stale_after: float = 50.0,
    ) -> None:
        self.base = base
        self.path = path
        self.settings = settings
        self.codebase = codebase
        self.occupancy = occupancy
        self.clock = clock
        self.client = client_of(replace(settings, ttl=0.0), self._deployed, max_backoff=10.0, clock=clock)
        self.reporter = Reporter(name, settings.deployment_name, runtime_store(settings))
        self.agreement = Agreement(name, base, settings, self.reporter, clock, lambda: occupancy.deployed_version(name))
        self.rivals = Rivals(
            name, settings.environment, occupancy.elsewhere, self.reporter.once, self._published, clock
        )
        self.rollout = Rollout(
            base,
            path,
            settings,
            codebase,
            self.agreement,
            unfinished=occupancy.unfinished,
            pools=occupancy.pools,
            is_one_free=self.rivals.is_one_free,
            clock=clock,
        )
        self.layout = Layout(
            path, lambda files: occupancy.pointed_at(name, files), occupancy.parsed, clock, stale_after
        )
        self.import_errors = ImportErrors(
            path,
            lambda: occupancy.import_errors(name),
            self._unlisted,
            lambda: self.layout.pending,
            lambda files: occupancy.forget_import_errors(name, files),
            clock,
        )
        self.retention = Retention(self.agreement.history, settings, lambda: occupancy.versions_in_use(name), clock)
        self.laid_out: Edition | None = None
        """What the files on this machine say."""
        self._former: deque[str] = deque(maxlen=50)
        """The names of the versions that the files on this machine said before."""
        self._refreshed = float("-inf")
        self._ended = (0.0, 0.0)
        """When the last look ended, in seconds of the clock and of this process's CPU."""
        self._taken_over = 0.0
        self._failed: list[str] = []
        """The errors of the last looks, if these have failed."""

    def refresh(self) -> None:
        """Bring this machine to what the store says, as far as that can be done within a moment.

        Raises:
            DagFactoryError: nothing is in force yet, and why.
        """
        ended, used = self._ended
        slept = (time.monotonic() - ended) - (time.process_time() - used)
        try:
            is_early = time.monotonic() - self._refreshed < self.PAUSE
            if is_early and not self.rollout.preflight.busy and self.laid_out is not None:
                return
            self._look()
            if slept >= self.IDLE and self._may_wait() and self.client.await_change(self.AWAIT):
                self._look()
        finally:
            self._ended = (time.monotonic(), time.process_time())

    def _look(self) -> None:
        self._refreshed = began = time.monotonic()
        with self._turn() as mine:
            self._reload()
            if mine:
                try:
                    self._refresh()
                except Exception as error:
                    self.reporter.failed()
                    if self.laid_out is None:
                        raise
                    self._note_failure(error)
                else:
                    self._failed = []
        if self.laid_out is None:
            edition = self.agreement.edition
            by = edition.head.by if edition is not None else "another process of this machine"
            raise NotYetError(f"no DAG is deployed on this machine yet: it waits until {by} has parsed its change")
        self._report(time.monotonic() - began)

    @property
    def version(self) -> str | None:
        """The version in force on this machine."""
        return self.laid_out.version.name if self.laid_out is not None else None

    def stop(self) -> None:
        """End what is at work."""
        self.rollout.preflight.stop()

    def problems(self) -> list[str]:
        """Return all that is wrong, a line each."""
        edition = self.agreement.edition
        problems = edition.release.problems if edition is not None else ()
        refused = filter(None, [self.agreement.refused])
        of_files, of_rivals = self.import_errors.problems(), self.rivals.problems()
        lines = [*self.client.problems(), *refused, *self.rollout.problems(), *of_files, *of_rivals, *told(problems)]
        # Once may be a hiccup; and of the store, and of a try that fails, another line speaks.
        if len(self._failed) > 1 and not any(self._failed[-1] in line for line in lines):
            lines.append(f"what changes cannot be deployed, and all stays as it is: {self._failed[-1]}")
        return lines

    def _note_failure(self, error: Exception) -> None:
        """Take note of a look that failed, where DAGs are deployed here: they stay, whatever it was."""
        known = isinstance(error, DagFactoryError | OSError)  # a disk that is full, too
        text = str(error) if known else f"{type(error).__name__}: {error}"
        self._failed = [*self._failed[-1:], text]
        self.reporter.once(f"{text}. What is in force stays", error=None if known else error)

    def _deployed(self) -> Deployed | None:
        edition = self.agreement.edition
        return releases.deployed(edition.release) if edition is not None else None

    def _published(self) -> Mapping[str, Placement]:
        edition = self.agreement.edition
        return edition.release.dags if edition is not None else {}

    def _refresh(self) -> None:
        if self.client.last_attempt().failures and not self.client.is_due():
            self.agreement.look_away()  # each question may take as long as it may
        else:
            self.agreement.look()
        if self.agreement.take_over():
            self._note_taken_over()
        self._settle_layout()
        self._follow()
        tried = self.rollout.try_next(self._snapshot())
        if tried is not None:
            self._publish(tried)
        elif self.agreement.known and self.agreement.edition is not None:
            self.agreement.restore()
            self.retention.sweep(self.agreement.edition)
            self.rivals.look(self.agreement.edition.release)

    def _may_wait(self) -> bool:
        """Say whether to wait for a change here, if Airflow's processor would sleep that time anyway.

        It sleeps for what is left of a second after each look, and a change waits that long; here it waits for nothing.
        Only one processor of a deployment waits, the one that has published last: else all would try each change.
        """
        at_rest = self.layout.at_rest and not self.rollout.preflight.busy
        return at_rest and self.laid_out is not None and self.agreement.is_own

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """Hold this machine's lock on the bundle, unless another process does; say whether it is held."""
        folders.own(self.base)
        with (self.base / "lock").open("a") as lock:
            try:
                # Of this process alone: the child that is forked meanwhile would hold the other kind as well.
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                yield False
                return
            yield True

    def _reload(self) -> None:
        """Take up what this machine has applied: by this process before a restart, or by another one."""
        agreement = self.agreement
        head = agreement.heads.applied()
        if head is None or (self.laid_out is not None and head == self.laid_out.head):
            return
        if agreement.edition is not None and agreement.edition.head == head:
            self.laid_out = agreement.edition  # it was written again as it was, under a later number
            return
        try:
            found, code = editions.load(head, agreement.history)
            self._lay_out(found, code)
            agreement.edition, agreement.code = found, code
        except (*UNREADABLE, StoreError) as error:
            log.warning("What was in force on this machine cannot be taken up, and is asked for anew: %s", error)

    def _settle_layout(self) -> None:
        in_force = {each.version.name for each in (self.laid_out, self.agreement.edition) if each is not None}
        try:
            self.layout.settle(in_force)
            self.import_errors.look(may_forget=self.agreement.known and self._has_followed)
        except Exception as error:  # noqa: BLE001  # whatever the database says, the files are there
            self.reporter.once(f"whether Airflow has parsed what changed cannot be known: {error}")

    def _unlisted(self) -> dict[str, list[str]]:
        """Return the DAGs in force on this machine that Airflow's list lacks, by file."""
        found: dict[str, list[str]] = {}
        places = self.laid_out.places if self.laid_out is not None else {}
        for dag_id in self.occupancy.unlisted(self.reporter.name, places.keys()):
            found.setdefault(places[dag_id], []).append(dag_id)
        return found

    def _note_taken_over(self) -> None:
        edition, code = self.agreement.edition, self.agreement.code
        assert edition is not None, "something was taken over"
        assert code is not None, "with its code"
        self.rollout.settle_for(edition, code)
        # What comes next is weighed against what the deployment agreed on, and not against what this machine has seen.
        self.client.keep(edition.snapshot)
        self._taken_over = time.monotonic()

    def _follow(self) -> None:
        """Bring this machine's files to what is in force, once the processor that has published it has had its turn."""
        edition, code = self.agreement.edition, self.agreement.code
        if edition is None or code is None:
            return
        if self._has_followed:
            if not (self.layout.is_whole and self._has(code)):
                log.warning("Files are gone from %s, and are written again", self.path)
                self._lay_out(edition, code)
            return
        if self.agreement.is_own or self._had_its_turn(edition):
            self._lay_out(edition, code)

    @property
    def _has_followed(self) -> bool:
        """Whether the files on this machine are what is in force."""
        edition = self.agreement.edition
        return edition is not None and self.laid_out is not None and edition.head == self.laid_out.head

    def _has(self, code: Code) -> bool:
        """Say whether this machine has that code, or needs none of its own."""
        return code.folder is None or (self.path / code.folder).exists()

    def _had_its_turn(self, edition: Edition) -> bool:
        if self.laid_out is not None and edition.head.version == self.laid_out.head.version:
            return True
        dags = edition.changed_since(self.laid_out)
        waited = max(time.monotonic() - self._taken_over, self.clock() - edition.head.at)
        if waited >= self.PATIENCE + len(dags) / 20:
            return True
        # What this machine had on its disk before is not known: a DAG that is there is good enough then.
        since = edition.head.at if self.laid_out is not None else 0.0
        try:
            found = self.occupancy.parsed(dags)
        except Exception as error:  # noqa: BLE001  # whatever the database says, in the end the other one had its turn
            self.reporter.once(f"whether another processor has parsed its change cannot be known: {error}")
            return False
        if len(found) < len(dags) or any(each.at < since for each in found.values()):
            return False
        return all(self.clock() - each.at >= self.REST for each in found.values())

    def _snapshot(self) -> Snapshot:
        """Return what the store says, or what was known last."""
        edition = self.agreement.edition
        known = edition.snapshot if edition is not None else None
        with self.client.turn() as mine:
            if mine:
                return self.client.refresh(fallback=known is None, known=known)
        kept = self.client.kept()
        kept = known if kept is None else kept
        if kept is None:
            wrong = self.client.last_attempt().error  # until it is asked again the cause is what it was
            raise NothingKnownError(wrong or f"nothing is known of {self.client.store.url} yet")
        return kept

    def _publish(self, tried: Tried) -> None:
        before = self.agreement.edition
        release = self.rivals.sift(tried.result.release, before.release if before is not None else None)
        tried = tried._replace(result=tried.result._replace(release=release))
        if not self.rollout.is_new(tried):
            self.rollout.end(tried, published=True, changed=False)
            return
        draft = editions.make(
            tried.result.release,
            tried.snapshot,
            before,
            stamp=self.agreement.stamp(),
            limits=Limits(self.settings.own_files, self.settings.shards),
            code=tried.code,
            archive=tried.archive,
            modules=tried.result.modules,
        )
        published = self.agreement.publish(draft, tried.code)
        self.rollout.end(tried, published=published, changed=True)
        if published:
            self._lay_out(draft.edition, tried.code)
            log_change(log, before.release if before is not None else None, draft.edition.release)

    def _lay_out(self, edition: Edition, code: Code) -> None:
        """Bring this machine's files to an edition. Raises StoreError, VersionGoneError: its code cannot be had."""
        if not self._has(code):
            ref = edition.version.code_blob
            self.codebase.lay_out(code, self.path, self.agreement.history.get([ref])[ref] if ref else None)
        before = self.laid_out
        if before is not None and before.version.name != edition.version.name:
            self._former.append(before.version.name)
        self.layout.write(
            edition.files,
            before.files if before is not None else edition.files,
            code.folder,
            {builder: _importable(names) for builder, names in edition.version.modules.items()},
            same_code=before is None or before.version.code == edition.version.code,
            former={*self._former} - {edition.version.name},
        )
        self.agreement.heads.apply(edition.head)
        earlier = f"code/{before.version.code}" if before is not None and before.version.code else None
        self.layout.remove_code({*filter(None, [code.folder, earlier]), *self.rollout.folders()})
        self.laid_out = edition

    def _report(self, seconds: float) -> None:
        edition = self.agreement.edition
        if edition is None:
            return
        lines = self.problems()
        self.import_errors.write_problems(lines)
        age = max(0.0, self.clock() - (self.client.last_attempt().good_at or edition.snapshot.read_at))
        # A store that has just failed to say what is agreed on would only be waited for once more.
        can_write = self.agreement.known and not self.agreement.cannot_write
        self.reporter.report(edition, lines, age=age, seconds=seconds, write=can_write)


def _importable(names: Collection[str]) -> tuple[str, ...]:
    """Return the modules that can be imported. Airflow's processor would import them here too, before it forks."""
    import importlib

    found = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  # a provider that is not installed, or broken
            log.debug("%s is not imported before the fork: %s", name, error)
        else:
            found.append(name)
    return tuple(found)
