"""The culprits: what has crashed or hung in a preflight, so that it is not tried again with each change of others."""

from __future__ import annotations

from typing import Any, NamedTuple

from .job import DAG, DOCUMENTS, Job, thing_of_document
from .note import Thing

REMEMBERED = 600.0
"""Seconds for which a thing that has crashed or hung is not tried again, unless it changes."""
INTERVAL = 60.0
"""Seconds between two things that are forgotten although a job may try them again."""


class _Culprit(NamedTuple):
    reason: str
    since: float
    """In seconds since the epoch."""


class Culprits:
    """What has crashed or hung, how, and since when that is known."""

    def __init__(self) -> None:
        self._known: dict[Thing, _Culprit] = {}
        self._forgot = float("-inf")

    def __contains__(self, thing: object) -> bool:
        return thing in self._known

    def add(self, thing: Thing, reason: str, now: float) -> None:
        """Note that a thing has crashed or hung."""
        self._known[thing] = _Culprit(reason, now)

    def reasons(self) -> dict[Thing, str]:
        """Say how each has failed."""
        return {thing: each.reason for thing, each in self._known.items()}

    def to_json(self) -> list[list[Any]]:
        """Return all that is known as JSON, from which `from_json` makes an equal one."""
        return [[thing, *each] for thing, each in self._known.items()]

    @classmethod
    def from_json(cls, content: list[list[Any]]) -> Culprits:
        """Return what another process has known. Raises TypeError, ValueError: it cannot be read."""
        made = cls()
        made._known = {tuple(thing): _Culprit(*each) for thing, *each in content}
        return made

    def forget(self, job: Job) -> None:
        """Forget what has failed long ago: a thing that hangs today may not tomorrow.

        Of the things that this job may try one a minute: each that hangs again takes its whole limit from everybody.
        """
        old = [thing for thing, each in self._known.items() if not 0 <= job.now - each.since < REMEMBERED]
        latest = {_name(thing): thing for thing in self._known}
        wanted = [thing for thing in old if latest[_name(thing)] == thing and _may_try(thing, job)]
        for thing in set(old).difference(wanted):
            del self._known[thing]
        if wanted and not 0 <= job.now - self._forgot < INTERVAL:
            self._forgot = job.now
            del self._known[min(wanted, key=lambda thing: self._known[thing].since)]


def _name(thing: Thing) -> Thing:
    """Return what a thing shares with its other versions: of a DAG those with another configuration or code."""
    return thing[:1] + thing[2:4] if thing[0] == DAG else thing


def _may_try(thing: Thing, job: Job) -> bool:
    """Say whether a job may try a thing again: a document only if it has not changed."""
    if thing[0] not in DOCUMENTS:
        return True
    key = thing[2]
    return key in job.snapshot and thing_of_document(job.snapshot, key, thing[1]) == thing
