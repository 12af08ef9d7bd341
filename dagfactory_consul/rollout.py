"""The rollout: what is tried next, snapshot and code, and what came of the last try.

New code that cannot build what is in force is held back as a whole, and what the store says is tried with the old one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from .agreement import Agreement
from .codebase import Code, Codebase, sources_at
from .edition import Edition
from .errors import DagFactoryError, NotYetError, SettingsError
from .preflight import Job, Preflight, Result, folder_of_process
from .release import Release
from .settings import Settings
from .snapshot import Snapshot

log = logging.getLogger(__name__)


class Inputs(NamedTuple):
    """What a try is made of: the same again would say the same."""

    snapshot: str
    held: str | None
    code: str
    sequence: int
    pools: frozenset[str] | None


class Tried(NamedTuple):
    """What has passed the preflight."""

    result: Result
    snapshot: Snapshot
    code: Code
    archive: bytes | None
    """The code's archive, where it is not the code in force."""


class Rollout:
    """Has changes tried, one at a time.

    Args:
        base: the bundle's folder on this machine.
        path: of the files, below which the code lies.
        settings: of the deployment.
        codebase: the builders' code.
        agreement: what is in force.
        unfinished: says of DAG ids whether they have unfinished runs.
        pools: returns the names of Airflow's pools.
        is_one_free: says whether a DAG may be published now that was left out, since another bundle had it.
        clock: seconds since the epoch.
    """

    WAIT: ClassVar[float] = 1.5
    """Seconds that one refresh waits for a preflight. What takes longer is taken up by a later one: Airflow's processor
    does nothing else meanwhile."""
    FIRST_WAIT: ClassVar[float] = 20.0
    """The same while nothing is in force yet. Airflow calls a processor dead that is silent for 30 s."""
    DRAIN_INTERVAL: ClassVar[float] = 2.0
    """Seconds between two looks at the runs of DAGs that drain."""
    POOLS_INTERVAL: ClassVar[float] = 10.0
    """Seconds between two looks at Airflow's pools: a DAG that lacks one follows so soon when somebody makes it."""
    POOLS_AGE: ClassVar[float] = 1.0
    """The same where a change is tried: its pool may have been made just before."""
    AGAIN: ClassVar[float] = 30.0
    """Seconds between two plans where a flag's rule asks for the time, or where the last one failed."""

    def __init__(
        self,
        base: Path,
        path: Path,
        settings: Settings,
        codebase: Codebase,
        agreement: Agreement,
        *,
        unfinished: Callable[[Collection[str]], Mapping[str, bool]],
        pools: Callable[[], Collection[str]],
        is_one_free: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.path = path
        self.settings = settings
        self.codebase = codebase
        self.agreement = agreement
        self.clock = clock
        self.preflight = Preflight(settings, folder_of_process(base / "preflight"))
        self._seen = base / "code.seen"
        self._unfinished = unfinished
        self._ask_pools = pools
        self._is_one_free = is_one_free
        self._pools: tuple[float, frozenset[str] | None] = (float("-inf"), None)
        self._job: tuple[Job, Code, Inputs, bytes | None] | None = None
        self._done: Inputs | None = None
        self._held_code: tuple[Code, str] | None = None
        self._failed: tuple[str, float] | None = None
        self._due: set[str] = set()
        self._vain: set[str] = set()
        """The DAGs that were to go and stay, since a problem keeps them: until something else changes."""
        self._planned = float("-inf")
        self._looked = float("-inf")

    def settle_for(self, edition: Edition, code: Code) -> None:
        """Count what another processor has worked out as done, and stop what is at work.

        Not before this process has tried something itself: its builders may be other ones.
        """
        self.preflight.stop()
        self._job = None
        self._done = self._inputs(edition.snapshot, code) if self._planned > float("-inf") else None

    def try_next(self, snapshot: Snapshot) -> Tried | None:
        """Try what there is to try; return what has passed, None where nothing has by now.

        Raises:
            NotYetError: nothing is deployed, and the first try is still at work.
            DagFactoryError: a try failed as a whole; it is made again later.
            StoreError: code is needed that is only in the history, which does not answer.
        """
        if not self.preflight.busy and self.agreement.can_publish:
            self._start(snapshot, self._present_code())
        if not self.preflight.busy or (result := self._result()) is None:
            return None
        assert self._job is not None, "a result belongs to a job"
        job, code, inputs, archive = self._job
        self._job, self._done = None, inputs
        if self.agreement.code is not None and code != self.agreement.code and result.unverified:
            self._hold(code, result)
            return self.try_next(job.snapshot)
        if self._held_code is not None and code == self._held_code[0]:
            self._held_code = None
        return Tried(result, job.snapshot, code, archive)

    def is_new(self, tried: Tried) -> bool:
        """Say whether what has passed differs from what is in force."""
        edition = self.agreement.edition
        if edition is None or edition.version.is_former or tried.code != self.agreement.code:
            return True
        before = edition.snapshot
        same = before.version == tried.snapshot.version and before.held == tried.snapshot.held
        return not (same and _same(edition.release, tried.result.release))

    def end(self, tried: Tried, *, published: bool, changed: bool) -> None:
        """Take note of what became of a try: one that was not published is made again."""
        is_done = published and tried.result.is_whole
        self._done = self._inputs(tried.snapshot, tried.code) if is_done else None
        self._vain = set() if changed else self._vain | self._due
        self._due = set()
        if published and tried.archive is not None:
            self._see(tried.code)

    def problems(self) -> list[str]:
        """Return what is wrong, a line each."""
        lines = []
        if self._held_code is not None:
            code, reason = self._held_code
            lines.append(
                f"builders: the new code {code.name} is held back, the code before it stays in force: {reason}"
            )
        if self._failed is not None:
            lines.append(f"a change cannot be worked out, what was in force stays: {self._failed[0]}")
        return lines

    def folders(self) -> set[str]:
        """Return the folders of code that are in use for a try."""
        return {self._job[1].folder} if self._job is not None and self._job[1].folder else set()

    def _present_code(self) -> Code:
        """Return the code to work with: this machine's, if it has changed since this machine last looked."""
        code = self.agreement.code
        try:
            present = self.codebase.current()
        except (OSError, SettingsError) as error:
            if code is None:
                raise
            self.agreement.reporter.once(f"the builders' code cannot be read: {error}. The code in force stays")
            return code
        if code is not None and self._held_code is None and self._has_seen(present):
            return code  # another code in force came from another machine, and is newer
        if present == code:
            self._held_code = None
            self._see(present)
        return present

    def _has_seen(self, code: Code) -> bool:
        return self._seen.exists() and self._seen.read_text() == f"{code.name} {code.sources}"

    def _see(self, code: Code) -> None:
        self._seen.write_text(f"{code.name} {code.sources}")

    def _start(self, snapshot: Snapshot, code: Code) -> None:
        """Start a preflight if there is anything to work out."""
        held = self._held_code is not None and self._held_code[0] == code
        if held and self.agreement.code is not None and self._done and self._done.snapshot == snapshot.version:
            code = self.agreement.code  # with another snapshot the new code may do
        inputs = self._inputs(snapshot, code)
        unfinished, due = self._look_at_drains()
        now = time.monotonic()
        due = due or (self._failed is not None and now - self._failed[1] >= self.AGAIN)
        due = due or (now - self._planned >= self.AGAIN and b"$flagd.timestamp" in snapshot.body)
        if inputs == self._done and not due and not self._is_one_free():
            return
        inputs = inputs._replace(pools=self._known_pools(self.POOLS_AGE))
        archive = self._archive_of(code)
        self.codebase.lay_out(code, self.path, archive)
        sources, root = sources_at(code, self.path)
        before = self.agreement.edition.release if self.agreement.edition is not None else None
        job = Job(snapshot, before, unfinished, self.clock(), sources, root, code.name or "", inputs.pools)
        self._job = (job, code, inputs, archive if code != self.agreement.code else None)
        self._planned = now
        self.preflight.start(job)

    def _result(self) -> Result | None:
        first = self.agreement.edition is None
        try:
            result = self.preflight.wait(self.FIRST_WAIT if first else self.WAIT)
        except DagFactoryError as error:
            self._done = self._job[2] if self._job is not None else None
            self._failed = (str(error), time.monotonic())
            raise
        if result is not None:
            self._failed = None
        elif first:
            raise NotYetError("no DAG is deployed yet: the first configuration is still being checked")
        return result

    def _archive_of(self, code: Code) -> bytes | None:
        """Return the archive of code that is to be tried; None where none is needed."""
        if code.folder is None or code.inner is not None:
            return None
        if code != self.agreement.code:
            return self.codebase.archive  # of this very look: the files may have changed again
        edition = self.agreement.edition
        if edition is None or (self.path / code.folder).exists() or (ref := edition.version.code_blob) is None:
            return None
        return self.agreement.history.get([ref])[ref]

    def _inputs(self, snapshot: Snapshot, code: Code) -> Inputs:
        held = snapshot.held["version"] if snapshot.held else None
        edition = self.agreement.edition
        sequence = edition.head.sequence if edition is not None else 0
        return Inputs(snapshot.version, held, f"{code.name} {code.sources}", sequence, self._known_pools())

    def _known_pools(self, age: float | None = None) -> frozenset[str] | None:
        """Return the names of Airflow's pools, as they were that many seconds ago at the most; None: not known."""
        at, found = self._pools
        if (now := time.monotonic()) - at >= (self.POOLS_INTERVAL if age is None else age):
            try:
                # Airflow makes one pool with its tables: without any it cannot be known which there will be.
                found = frozenset(self._ask_pools()) or None
            except Exception as error:  # noqa: BLE001  # whatever the database says, the DAGs can be checked without
                self.agreement.reporter.once(f"which pools there are cannot be known: {error}")
                found = None
            self._pools = (now, found)
        return found

    def _look_at_drains(self) -> tuple[Mapping[str, bool], bool]:
        """Return what is known of the runs of DAGs that drain, and whether one of them is to go, or to come back."""
        edition = self.agreement.edition
        if edition is None or time.monotonic() - self._looked < self.DRAIN_INTERVAL:
            return {}, False
        draining, gone = edition.draining(), edition.idle_and_gone()
        if not draining and not gone:
            return {}, False
        self._looked = time.monotonic()
        try:
            unfinished = self._unfinished([*(placed.spec.dag_id for placed in draining), *gone])
        except Exception as error:  # noqa: BLE001  # whatever the database says, the DAGs just drain on
            self.agreement.reporter.once(f"whether DAGs that drain have runs cannot be known: {error}")
            unfinished = {}
        now, limit = self.clock(), self.settings.drain_time
        due = {dag_id for dag_id in gone if unfinished.get(dag_id)}
        due |= {placed.spec.dag_id for placed in draining if now - placed.since >= limit}
        due |= {each.spec.dag_id for each in draining if each.idle and unfinished.get(each.spec.dag_id) is False}
        if due - self._vain:
            self._due = due
            return unfinished, True
        dags = dict(edition.release.dags)
        for placed in draining:
            if (busy := unfinished.get(placed.spec.dag_id)) is not None:
                dags[placed.spec.dag_id] = placed._replace(idle=not busy)
        self.agreement.edition = edition._replace(release=edition.release._replace(dags=dags))
        return unfinished, False

    def _hold(self, code: Code, result: Result) -> None:
        edition = self.agreement.edition
        known = set(edition.release.problems) if edition is not None else set()
        new = [problem for problem in result.release.problems if problem not in known]
        reason = str(new[0]) if new else f"{result.unverified[0]} cannot be built with it"
        if self._held_code is None or self._held_code[0] != code:
            log.warning("The builders' new code %s is held back: %s", code.name, reason)
        self._held_code = (code, reason)


def _same(before: Release, after: Release) -> bool:
    def states(release: Release) -> list[tuple[str, str, str, str, float]]:
        return [
            (dag_id, each.spec.hash, each.state, each.origin, each.refused)
            for dag_id, each in sorted(release.dags.items())
        ]

    return (
        states(before) == states(after)
        and set(before.problems) == set(after.problems)
        and before.fingerprint == after.fingerprint
    )
