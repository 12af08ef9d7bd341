"""DAGs that Airflow has not found in their files although it shows no error of these: the lines that say so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar, NamedTuple

from .problems import some


class _Silent(NamedTuple):
    """A file of which Airflow shows neither all DAGs nor an error."""

    dags: frozenset[str]
    since: float
    """When that was first seen."""
    heard: float
    """When Airflow was last seen to find DAGs that were missed for as long as these: it is still at work on them."""


class Unfound:
    """Files that Airflow has parsed in vain, as far as its database tells.

    A parse that is killed, that takes too long or whose result Airflow cannot read leaves nothing there: neither a DAG
    nor an error. So a file counts as parsed in vain when its DAGs have been missed for a while in which Airflow has not
    found any other that was missed for as long. A first load of thousands of files is not taken for a failure by that.
    """

    SILENCE: ClassVar[float] = 35.0
    """Seconds for which a file's DAGs are missed before it is a problem. With the 10 s between two looks, and a write
    that Airflow is given the first seconds to find, this is within a minute."""
    FILES: ClassVar[int] = 20
    """Files that are named, at most."""

    def __init__(self) -> None:
        self._silent: dict[str, _Silent] = {}
        self._reported: dict[str, frozenset[str]] = {}

    def look(self, unfound: Mapping[str, Collection[str]], now: float) -> None:
        """Take note of what is missed now: DAG ids by file."""
        found = [each.since for file, each in self._silent.items() if each.dags.difference(unfound.get(file, ()))]
        earliest = min(found, default=float("inf"))
        self._silent = {
            file: self._next(self._silent.get(file), frozenset(dags), earliest, now) for file, dags in unfound.items()
        }
        self._reported = {file: each.dags for file, each in self._silent.items() if now - each.heard >= self.SILENCE}

    def problems(self) -> list[str]:
        """Return a line for each file that was parsed in vain. All processors of a deployment say the same."""
        lines = [
            f"DAG file {file}: Airflow has found neither {some(sorted(dags))} in it nor an error, so its parse ends "
            "early (no memory, no time) or its result is lost: look for the file in the DAG processor's log. The file "
            "is parsed again by itself, at ever longer intervals"
            for file, dags in sorted(self._reported.items())
        ]
        more = len(lines) - self.FILES
        return [*lines[: self.FILES], *([f"DAG files: {more:,} more were parsed in vain"] if more > 0 else [])]

    def _next(self, before: _Silent | None, dags: frozenset[str], earliest: float, now: float) -> _Silent:
        if before is None:
            return _Silent(dags, now, now)
        since = min(before.since, now)  # the clock may have been set back
        return _Silent(dags, since, now if earliest <= since else min(before.heard, now))
