"""The preflight: what a snapshot asks for is tried in a child process, so that nothing there can harm this one.

The child is a fork: it finds Airflow imported, and costs no start of an interpreter. It is started again without what
it has crashed or hung at, until it comes to its end.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from . import folders, registry, trial
from .child import flush
from .culprits import Culprits
from .document_limits import POOL, WORK
from .errors import DagFactoryError
from .job import DAG, DEFAULTS, DOCUMENTS, FLAG, IMPORT, MODULE, TENANT, Job, Known, Planned, thing_of_dag
from .note import Note, Thing
from .papers import VERIFIED, Modules, Papers, Result
from .release import Placement
from .stores.replacing import replace_file

if TYPE_CHECKING:
    from .settings import Settings
    from .snapshot import Snapshot

log = logging.getLogger(__name__)

__all__ = ["Job", "Preflight", "Result"]

RESTARTS = 3
"""How often a child is started again that has ended for no reason that is known: by the kernel, for its memory, say."""

ATTEMPTS = 100
"""How many children one job may cost in all."""

_POLL = 0.002

Kept = TypeVar("Kept")


class Preflight:
    """Plans, settles, builds and verifies what a snapshot asks for in a child process, one job at a time.

    Args:
        settings: of the deployment.
        folder: where the child leaves its result; it is made, for this user alone.
        grace: seconds over its limit after which the child is killed: its own limit, which costs no child, comes first.
    """

    def __init__(self, settings: Settings, folder: Path, *, grace: float = 2.0) -> None:
        self.settings = settings
        self.grace = grace
        self._papers = Papers(folder)
        self._note = Note()
        self._culprits = Culprits()
        self._verified: set[Thing] = set()
        # By the fingerprint of the code, and by the snapshot's version: new code that is refused, say, takes turns with
        # the code that is in force.
        self._modules: dict[str, Modules] = {}
        self._planned: dict[str, Planned] = {}
        self._job: Job | None = None
        self._pid = 0
        self._late = 0.0
        self._pool = POOL
        self._attempts = self._restarts = 0

    @property
    def busy(self) -> bool:
        """Whether a job is at work."""
        return self._job is not None

    def start(self, job: Job) -> None:
        """Begin a job; one that is at work is stopped.

        Raises:
            DagFactoryError: there is no room for another process, or on the disk.
        """
        self.stop()
        self._culprits.forget(job)
        _import_for_all(job.snapshot)
        self._attempts = self._restarts = 0
        self._pool = POOL
        self._fork(job)
        self._job = job

    def wait(self, seconds: float) -> Result | None:
        """Return the result if it is there within that time; None while the job is at work, or if there is none.

        Raises:
            DagFactoryError: the job cannot be done; the message says why.
        """
        deadline = time.monotonic() + seconds
        while self._job is not None:
            if (status := self._ended()) is not None:
                if (result := self._conclude(self._job, status)) is not None:
                    return result
            elif time.monotonic() >= deadline:
                return None
            else:
                self._kill_if_late()
                time.sleep(_POLL)
        return None

    def stop(self) -> None:
        """End the job that is at work, if one is."""
        if self._pid:
            self._kill()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            if self._job is not None:
                self._read_journal(self._job)
        self._job, self._pid = None, 0

    def close(self) -> None:
        """End the job that is at work, and remove its folder."""
        self.stop()
        shutil.rmtree(self._papers.folder, ignore_errors=True)

    def remember(self, file: Path) -> None:
        """Write for another process what this one has found out. Where the disk is full that one tries all again."""
        content = {
            "culprits": self._culprits.to_json(),
            "verified": sorted(self._verified),
            "modules": self._modules,
        }
        with contextlib.suppress(OSError):
            replace_file(file, json.dumps(content).encode(), durable=False, mode=folders.FILE)

    def recall(self, file: Path) -> None:
        """Take over what another process has kept, unless it cannot be read: then all is tried again."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(file.read_text())
            self._culprits = Culprits.from_json(content["culprits"])
            self._verified = {tuple(thing) for thing in content["verified"]}
            self._modules = content["modules"]

    def _fork(self, job: Job) -> None:
        self._attempts += 1
        self._late = 0.0
        self._note.clear()
        known = Known(
            self._culprits.reasons(),
            self._verified,
            self._planned.get(job.before.snapshot) if job.before is not None else None,
            self._modules,
            self._pool,
        )
        parent = os.getpid()
        flush()
        # No handler of this process runs in the child before the child has taken them off.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._papers.clear()
            if (pid := os.fork()) == 0:
                trial.run(job, self.settings, known, self._note, self._papers, parent)
            self._pid = pid
        except OSError as error:
            raise DagFactoryError(f"the preflight cannot be started: {error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with contextlib.suppress(OSError):  # the child does the same: whoever comes first
            os.setpgid(self._pid, self._pid)

    def _ended(self) -> int | None:
        """Return the child's status once it has ended; 0 where somebody else has asked for it."""
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        return status if pid else None

    def _kill_if_late(self) -> None:
        if not self._late and (limit := self._note.overdue(self.grace)):
            self._late = limit
            self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)  # what a builder has started

    def _conclude(self, job: Job, status: int) -> Result | None:
        """Return the result of a child that has ended; where it left none start another one, and return None."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        self._pid = 0
        self._read_journal(job)
        try:
            if (result := self._papers.read(_in_force(job))) is not None:
                self._job = None
                self._learn(job, result)
                return result
            self._blame(job, status)
            self._fork(job)
        except BaseException:
            self._job = None
            raise
        return None

    def _learn(self, job: Job, result: Result) -> None:
        """Keep of a result what saves work should it not be put in force, or not by this process."""
        release = result.release
        code = release.fingerprint
        _keep_last(self._planned, job.snapshot.version, Planned(job.snapshot, code, result.outcome))
        _keep_last(self._modules, code, result.modules)
        self._verified = {thing for thing in self._verified if thing[1] in self._modules and thing[1] != code}
        if job.before is None or job.before.fingerprint != code:
            self._verified.update(thing_of_dag(each, code) for each in release.dags.values() if each.checked == code)

    def _blame(self, job: Job, status: int) -> None:
        """Remember what has ended the child. Raises DagFactoryError where the next child cannot leave that out."""
        thing, error = self._note.thing, self._note.error
        how = _how(status, self._late, error)
        went_on = self._late and not self._note.overdue(self.grace)  # while it was looked at
        if thing[0] in _WHAT and thing not in self._culprits and not went_on:
            if error:
                log.warning("The preflight ended at %s: %s", thing, error)
            self._culprits.add(thing, f"{_WHAT[thing[0]].format(*thing)} {how}", job.now)
            self._take_from_pool(thing, self._late + self.grace if self._late else 0.0)
            if self._attempts < ATTEMPTS:
                return
            raise DagFactoryError(f"the preflight is given up after {ATTEMPTS} crashes; the last one: {thing}: {how}")
        if error or (self._late and not went_on):
            raise DagFactoryError(f"the preflight failed at {thing[-1]}: {error or how}")
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise DagFactoryError(f"the preflight {how}, {self._restarts} times, the last time at {thing[-1]}")

    def _read_journal(self, job: Job) -> None:
        """Take over what the child has found out, however it ended."""
        for outcome, thing, reason in self._papers.noted():
            if outcome == VERIFIED:
                self._verified.add(thing)
            else:
                self._culprits.add(thing, reason, job.now)
                self._take_from_pool(thing, self.settings.build_timeout)

    def _take_from_pool(self, thing: Thing, seconds: float) -> None:
        """Count the time that a document has taken: the next child of this job has no more than what is left."""
        if thing[0] in DOCUMENTS:
            self._pool -= seconds


_NEEDED = (
    "airflow.sdk",
    "airflow.sdk.execution_time.supervisor",
    "airflow.dag_processing.dagbag",
    "airflow.serialization.serialized_objects",
    "dagfactory_consul.verify",
)
_NEEDED_FOR_TARGETING = ("json_logic", "openfeature.contrib.tools.flagd.core.targeting.targeting")
_OPTIONAL = (  # whoever serialises a DAG asks for them
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.sensors.external_task",
)

_WHAT = {
    MODULE: "the import",
    IMPORT: "the import",
    TENANT: WORK["tenants"],
    FLAG: WORK["flags"],
    DEFAULTS: WORK["defaults"],
    DAG: "building {3}",
}


def _keep_last(known: dict[str, Kept], key: str, value: Kept) -> None:
    """Add to what is known, and keep the last two of it."""
    known.pop(key, None)
    known[key] = value
    while len(known) > 2:
        del known[next(iter(known))]


def _in_force(job: Job) -> Mapping[str, Placement]:
    return job.before.dags if job.before is not None else {}


def _how(status: int, late: float, error: str) -> str:
    """Say how a child has ended."""
    if late:
        return f"took longer than {late:g} s and could not be interrupted"
    if error:
        return f"ended with {error.partition(chr(10))[0]}"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        memory = ": out of memory?" if number == signal.SIGKILL else ""
        return f"ended the process by {signal.Signals(number).name}{memory}"
    return f"ended the process with exit status {os.WEXITSTATUS(status)}"


def _import_for_all(snapshot: Snapshot) -> None:
    """Import what every child needs, once for all of them."""
    for module in _NEEDED + (_NEEDED_FOR_TARGETING if b'"targeting"' in snapshot.body else ()):
        importlib.import_module(module)
    for module in _OPTIONAL:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    registry.installed_sources(tuple(sys.path))
    trial.installed_airflow(tuple(sys.path))


def folder_of_process(folder: Path) -> Path:
    """Return a folder for this process alone, and remove those of processes that have ended."""
    for found in folder.iterdir() if folder.is_dir() else ():
        try:
            os.kill(int(found.name), 0)
        except (ValueError, ProcessLookupError):
            shutil.rmtree(found, ignore_errors=True)
        except PermissionError:  # another user's, and alive
            continue
    return folder / str(os.getpid())
