"""The trial: what a preflight's child process does. Whatever it runs into, it harms no other process.

It imports the builders, plans, settles, and builds and verifies what was not verified with this code before. What it is
at stands in a note, for the parent to see what it has hung at or died of.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import math
import os
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from . import __version__
from .assembly import Assembly
from .builders import build_dag
from .child import cut_loose, flush, follow, limit_memory
from .crashes import Crashes
from .document_limits import DocumentLimits
from .errors import BrokenOffError, BuilderError, BuildError, NotTriedError
from .job import DAG, IMPORT, MODULE, Job, Known, thing_of_dag, thing_of_document
from .note import Note, Thing
from .papers import HUNG, VERIFIED, Modules, Papers, Result
from .problems import some
from .registry import Registry, registry
from .release import DRAINING, Placement, Release
from .replan import Outcome, replan
from .scouts import Scouts, cores
from .settings import Settings
from .settle import settle
from .snapshot import Document
from .time_limit import PARSE_SHARE, TimeLimitExceededError, time_limit

STAGE_SECONDS = 60.0
"""How long one stage of our own may take: the plan of 10,000 tenants takes two seconds."""

SCOUTED = 40
"""So many DAGs to verify are worth a process for each core."""

TENANTS_DAGS = 2
"""So many times the limit of one DAG all that changes of one tenant may take in a job, and a third of the whole job.
The rest waits for the next job, which has the changes of others as well."""


def run(job: Job, settings: Settings, known: Known, note: Note, papers: Papers, parent: int) -> NoReturn:
    """Do all that a trial does, in a process that was just forked, and end it. Never returns, never raises."""
    try:
        cut_loose(parent)
        limit_memory(settings.build_memory)
        _Trial(job, settings, known, note, papers).run()
    except BaseException as error:  # noqa: BLE001  # whatever it is, it ends with this process, and is told to the parent
        note.fail(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    finally:
        flush()
        os._exit(0)


class _Trial:
    def __init__(self, job: Job, settings: Settings, known: Known, note: Note, papers: Papers) -> None:
        self.job = job
        self.settings = settings
        self.known = known
        self.note = note
        self.papers = papers
        self.process = os.getpid()
        self.fingerprint = ""
        self.before: Mapping[str, Placement] = job.before.dags if job.before is not None else {}
        self.crashes = Crashes(())
        self.used: dict[str | None, float] = defaultdict(float)
        """Seconds that the changes of each tenant have taken so far."""
        self.rest: set[str] = set()
        """The keys of the tenants of which DAGs were not tried, since there was no time left for them."""
        allowed = TENANTS_DAGS * settings.build_timeout
        self.allowed = min(allowed or math.inf, (job.deadline - time.monotonic()) / PARSE_SHARE)

    def run(self) -> None:
        self._stage("importing the builders")
        self._load()
        self.fingerprint = _fingerprint(self.job.code, registry)
        self._stage("planning")
        wanted, outcome = self._settle()
        self._count_crashes(wanted)
        self._stage("building")
        self._send_scouts(wanted)
        assembly = Assembly(registry, build_timeout=self.settings.build_timeout)
        made = assembly.keep_good(wanted, self.job.before, self._verified, stays_shown=True, now=self.job.now)
        result = self._result(made, outcome)
        self._stage("writing the result")
        self.papers.write(result, self.before)

    def _stage(self, name: str) -> None:
        self._end_if_forked()
        self.note.put(("stage", name), STAGE_SECONDS)

    def _end_if_forked(self) -> None:
        """End a process that a builder has forked and left: it would go on here, beside the one that forked it."""
        if os.getpid() != self.process:
            os._exit(0)

    @contextlib.contextmanager
    def _at(self, thing: Thing, limit: float, error: type[Exception]) -> Iterator[None]:
        """Note that somebody's code is run. Raises `error` where it has crashed or hung before."""
        self._end_if_forked()
        if reason := self.known.culprits.get(thing):
            raise error(reason)
        self.note.put(thing, limit)
        try:
            yield
        except TimeLimitExceededError as late:
            self.papers.note_down(HUNG, thing, str(late))
            raise
        finally:
            self._end_if_forked()

    def _load(self) -> None:
        registry.root = self.job.root.resolve()
        registry.time_limit = self.settings.import_timeout
        registry.watch = lambda module: self._at((MODULE, self.job.code, module), registry.time_limit, BuilderError)
        registry.load(self.job.sources)

    def _settle(self) -> tuple[Release, Outcome]:
        job = self.job
        plan = replan(
            job.snapshot,
            registry,
            self.settings.environment,
            self.known.in_force(job, self.fingerprint),
            fingerprint=self.fingerprint,
            now=job.now,
            max_dags=self.settings.max_dags,
            last_good=job.before,
            limits=DocumentLimits(
                self.settings.build_timeout, pool=self.known.pool, begin=self._begin, late=self._note_late
            ),
        )
        self._stage("settling")
        wanted = settle(
            job.before,
            plan,
            now=job.now,
            drain_time=self.settings.drain_time,
            unfinished=job.unfinished.get,
            fingerprint=self.fingerprint,
        )
        return wanted, Outcome(plan.problems, plan.again)

    def _begin(self, document: Document, limit: float) -> None:
        """Note that models or rules run for a document. Raises BrokenOffError: they crashed or hung before."""
        self._end_if_forked()
        thing = thing_of_document(self.job.snapshot, document.key, self.fingerprint)
        if reason := self.known.culprits.get(thing):
            raise BrokenOffError(reason, key=document.key)
        self.note.put(thing, limit)

    def _note_late(self, document: Document, reason: str) -> None:
        thing = thing_of_document(self.job.snapshot, document.key, self.fingerprint)
        self.known.culprits[thing] = reason
        self.papers.note_down(HUNG, thing, reason)

    def _count_crashes(self, wanted: Release) -> None:
        code = self.fingerprint
        good = {placed.spec.builder for placed in self.before.values() if placed.checked == code}
        self.crashes = Crashes(good | {thing[2] for thing in self.known.verified if thing[1] == code})
        for thing in self.known.culprits:
            if thing[0] == DAG and thing[1] == code:
                builder, dag_id, version = thing[2:5]
                candidates = (wanted.dags.get(dag_id), self.before.get(dag_id))
                if any(placed is not None and placed.spec.hash == version for placed in candidates):
                    tenant = next(placed.spec.tenant for placed in candidates if placed is not None)
                    self.crashes.add(builder, tenant, dag_id)

    def _send_scouts(self, wanted: Release) -> None:
        """Where there is much to verify use all cores. What fails here is tried again, one by one."""
        todo = [
            placed
            for placed in wanted.dags.values()
            if placed.shown and placed.spec.builder in registry and not self._is_verified(placed)
        ]
        count = cores()
        if count < 2 or len(todo) < SCOUTED:
            return
        scouts = Scouts(self._scout)
        scouts.send([todo[number::count] for number in range(1, count)])
        self._try_all(todo[::count])
        scouts.wait(lambda: self._stage("waiting for scouts"))
        for outcome, thing, reason in self.papers.noted():
            if outcome == VERIFIED:
                self.known.verified.add(thing)
            elif thing not in self.known.culprits:
                self.known.culprits[thing] = reason
        self._count_crashes(wanted)

    def _scout(self, note: Note, share: Sequence[Placement]) -> None:
        follow(self.process)
        self.process, self.note = os.getpid(), note
        self._try_all(share)

    def _try_all(self, share: Sequence[Placement]) -> None:
        for placed in share:
            with contextlib.suppress(BuildError):
                self._verified(placed)

    def _thing(self, placed: Placement) -> Thing:
        return thing_of_dag(placed, self.fingerprint)

    def _is_verified(self, placed: Placement) -> bool:
        """Say whether this code has built a DAG from this spec in this state: a builder may fail only as it drains."""
        old = self.before.get(placed.spec.dag_id)
        if placed.checked == self.fingerprint and old is not None and old.state == placed.state:
            return True
        return self._thing(placed) in self.known.verified

    def _verified(self, placed: Placement) -> Placement:
        """Build a DAG and verify it, unless that was done with this code. Raises BuildError."""
        spec = placed.spec
        if self._is_verified(placed):
            return placed if placed.checked == self.fingerprint else placed._replace(checked=self.fingerprint)
        is_change = self.job.before is not None and not self._is_in_force(placed)
        is_over = is_change and self.used[spec.tenant] >= self.allowed
        if is_over or time.monotonic() >= self.job.deadline:
            self.rest.add(f"tenants/{spec.tenant}")
            raise NotTriedError
        thing = self._thing(placed)
        if thing not in self.known.culprits and (dag_ids := self.crashes.why_not_tried(spec.builder, spec.tenant)):
            raise BuildError(f"not tried: {spec.builder} crashed or hung for {some(dag_ids)}")
        limit = self.crashes.limit(spec.builder, self.settings.build_timeout)
        try:
            with self._at(thing, limit, BuildError), self._counted(spec.tenant if is_change else None):
                self._build(placed, limit)
        except TimeLimitExceededError as error:
            self.known.culprits[thing] = str(error)
            self.crashes.add(spec.builder, spec.tenant, spec.dag_id)
            raise BuildError(str(error)) from error
        self.papers.note_down(VERIFIED, thing)
        self.known.verified.add(thing)
        self.crashes.succeeded(spec.builder)
        return placed._replace(checked=self.fingerprint)

    def _is_in_force(self, placed: Placement) -> bool:
        """Say whether a DAG is in force with this configuration: it is tried again for new code, or as it drains."""
        old = self.before.get(placed.spec.dag_id)
        return old is not None and old.spec.hash == placed.spec.hash

    @contextlib.contextmanager
    def _counted(self, tenant: str | None) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.used[tenant] += time.monotonic() - began

    def _build(self, placed: Placement, limit: float) -> None:
        from .verify import verify_spec

        spec = placed.spec

        def renew() -> None:
            """Tell the parent that the time in which Airflow is imported is not the builder's."""
            self.note.put(self._thing(placed), limit)

        with time_limit(limit, f"building {spec.dag_id}", on_import=renew):
            definition = registry[spec.builder]
            dag = build_dag(definition, spec, draining=placed.state == DRAINING)
            verify_spec(dag, spec, definition.config, pools=self.job.pools)

    def _modules(self) -> Modules:
        """Return the modules of Airflow that each builder's own module names, as far as they can be imported."""
        if (known := self.known.modules.get(self.fingerprint)) is not None:
            return known
        found = {}
        for name, definition in registry.items():
            file = getattr(sys.modules.get(definition.cls.__module__), "__file__", None)
            found[name] = tuple(each for each in _airflow_imports(file) if self._can_import(each))
        return found

    def _can_import(self, module: str) -> bool:
        if module in sys.modules:
            return True
        limit = self.settings.import_timeout
        try:
            with self._at((IMPORT, module), limit, BuilderError), time_limit(limit, "the import"):
                importlib.import_module(module)
        except (Exception, TimeLimitExceededError):  # noqa: BLE001  # it may be there for another Airflow, or optional
            return False
        return True

    def _result(self, made: Release, outcome: Outcome) -> Result:
        """Return the result; where the code lies on this machine is in none of it."""
        here = f"{registry.root}/"
        problems = tuple(each._replace(message=each.message.replace(here, "./")) for each in made.problems)
        outcome = outcome._replace(again=outcome.again | self.rest)
        return Result(made._replace(problems=problems), self._modules(), outcome, is_whole=not self.rest)


def _fingerprint(code: str, loaded: Registry) -> str:
    content = (code, loaded.fingerprint(), __version__, *installed_airflow(tuple(sys.path)))
    return hashlib.sha256("\0".join(content).encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=2)
def installed_airflow(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return Airflow's distributions and their versions, the providers' too: what builds with one may not with another.

    By the names of their folders: reading what is in them takes a while. A process does it once, for its forks too.
    """
    found = (each.name for folder in path for each in Path(folder or ".").glob("apache_airflow*.dist-info"))
    return tuple(sorted(set(found)))


def _airflow_imports(file: str | None) -> list[str]:
    """Return the modules of Airflow that a file imports, anywhere in it."""
    if file is None or not Path(file).is_file():
        return []
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(file).read_bytes())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module)
    return sorted(each for each in found if each.startswith("airflow."))
