"""The job of a preflight: what is to be tried, what is known before, and the names of what may fail."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .guard import DEFAULTS as DEFAULTS_KEY
from .note import Thing
from .papers import Modules
from .release import Placement, Release
from .replan import InForce, Outcome
from .snapshot import FLAGS, Snapshot

MODULE, IMPORT, DAG = "module", "import", "dag"
DOCUMENTS = TENANT, FLAG, DEFAULTS = "tenant", "flag", "defaults"
"""The kinds of things that are users' code, or run it. Each of them can harm only itself."""


class Job(NamedTuple):
    """What is to be tried."""

    snapshot: Snapshot
    before: Release | None
    """What is in force: `checked` of its placements says with which code they were verified."""
    unfinished: Mapping[str, bool]
    """Whether a DAG that drains has unfinished runs, by its id; not in it: not known."""
    now: float
    """Seconds since the epoch."""
    sources: tuple[str, ...]
    """Where the builders are: modules, or absolute folders and files below `root`."""
    root: Path
    """Where this version of the builders' code lies."""
    code: str
    """The fingerprint of the code below `root`, "" if there is none."""
    pools: frozenset[str] | None = None
    """The names of Airflow's pools; None where they cannot be known."""
    deadline: float = math.inf
    """When to try no more DAGs, by the monotonic clock: those that were not stay as they were."""


class Known(NamedTuple):
    """What earlier trials have shown."""

    culprits: dict[Thing, str]
    """What crashed or hung, and how: it is not tried again."""
    verified: set[Thing]
    """The DAGs that were verified, besides those that the deployed release says to be."""
    planned: Planned | None
    """The plan from which the deployed release was made, if that is known."""
    modules: Mapping[str, Modules]
    """What results have said of the builders' modules, by the code's fingerprint."""
    pool: float
    """Seconds that documents may take together before each of them may take very little."""

    def in_force(self, job: Job, fingerprint: str) -> InForce | None:
        """Return what the plan may be carried over from; None if it is not known what that was planned from."""
        if job.before is None or self.planned is None:
            return None
        # The problems may have been found with another code than the deployed one.
        outcome = self.planned.outcome if self.planned.fingerprint == fingerprint else None
        return InForce(job.before, self.planned.snapshot, outcome)


class Planned(NamedTuple):
    """A plan that was made."""

    snapshot: Snapshot
    """What it was made from."""
    fingerprint: str
    """Of the builders' code that it was made with."""
    outcome: Outcome | None
    """What it had wrong."""


def thing_of_document(snapshot: Snapshot, key: str, fingerprint: str) -> Thing:
    """Return the name of working out a document of a snapshot with some code."""
    kind = DEFAULTS if key == DEFAULTS_KEY else FLAG if key.startswith(FLAGS) else TENANT
    return (kind, fingerprint, key, f"{zlib.crc32(snapshot.lines[key].encode()):08x}")


def thing_of_dag(placed: Placement, fingerprint: str) -> Thing:
    """Return the name of building a DAG with some code."""
    return (DAG, fingerprint, placed.spec.builder, placed.spec.dag_id, placed.spec.hash, placed.state)
