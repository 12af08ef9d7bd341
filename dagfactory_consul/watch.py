"""The watch: sees that Airflow has found what was written into DAG files, and touches those that it has missed.

Airflow parses a file again whose time is younger than the end of its last parse. One that is edited while it is being
parsed has an older time, so the edit would be lost. And a parse that was under way, of this processor or of another
one that has not followed yet, may find a DAG once more as it was: in the file that it has left, or in a former version.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from .occupancy import Parsed


class _Watched(NamedTuple):
    dags: tuple[str, ...]
    since: float
    """When the file was written."""
    former: Collection[str]
    """The bundle's versions in which it said something else."""
    recalls: int
    """How often it was touched because its DAGs were found in one of those."""
    touched: float | None
    """When it was last touched after that; when it was written, for a file that no parse can have been reading."""
    patience: float
    """Seconds from the last touch after which DAGs that were not found are a reason to touch again."""


class Watch:
    """Watches the files below one folder.

    Args:
        folder: of the files.
        parsed: says where, and when, Airflow has last found each of some DAGs.
        clock: seconds since the epoch.
    """

    SECONDS: ClassVar[float] = 60.0
    """How long a file is watched after it was written, at least: its DAGs may be found as they were once more."""
    LONGEST: ClassVar[float] = 3600.0
    """How long it is watched if Airflow does not find all that it says."""
    DAGS_A_SECOND: ClassVar[int] = 500
    """How many DAGs are asked for in a second, at most: a first load writes thousands, and Airflow waits meanwhile."""
    PATIENCE: ClassVar[float] = 3.0
    """Seconds after which DAGs that were not found are a reason to touch; three times that for each touch after."""
    RECALLS: ClassVar[int] = 3
    """How often a former version is a reason to touch: a processor that cannot follow may show it again and again."""

    def __init__(
        self,
        folder: Path,
        parsed: Callable[[Collection[str]], Mapping[str, Parsed]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.at_rest = True
        """Whether Airflow had surely found all that was written when it was last looked at."""
        self.pending: Mapping[str, Collection[str]] = {}
        """The DAGs that Airflow had not found since their file was written, by file, when it was last looked at."""
        self._parsed = parsed
        self._watched: dict[str, _Watched] = {}
        self._looked = self._pause = 0.0

    def add(self, path: str, dags: Collection[str], *, is_new: bool, former: Collection[str] = ()) -> None:
        """Watch a file that was just written, until Airflow has surely found what it says.

        Args:
            path: below the folder.
            dags: that it gives.
            is_new: it was not there before, so no parse can have been reading it.
            former: the bundle's versions in which it said something else, or was not there.
        """
        now = self.clock()
        self.at_rest = False
        self._watched[path] = _Watched(tuple(dags), now, former, 0, now if is_new else None, self.PATIENCE)

    def keep(self, files: Mapping[str, Collection[str]]) -> None:
        """Go on watching only these files, and what they give by now: DAGs may have left without a new time."""
        self._watched = {
            path: each._replace(dags=tuple(files[path])) for path, each in self._watched.items() if path in files
        }

    def look(self, in_force: Collection[str] = ()) -> None:
        """Look what Airflow has found by now, and touch what it may have missed. Raises what `parsed` does.

        Args:
            in_force: the bundle's versions that are no former ones any more: what returns bears its old name.
        """
        now = self.clock()
        if not self._watched:
            self.pending = {}
        if not self._watched or 0 <= now - self._looked < self._pause:
            return
        dags = [dag_id for each in self._watched.values() for dag_id in each.dags]
        self._looked, self._pause = now, len(dags) / self.DAGS_A_SECOND
        found = self._parsed(dags)
        self.at_rest = True
        self.pending = {path: lost for path, each in self._watched.items() if (lost := _not_found(path, each, found))}
        for path, each in list(self._watched.items()):
            is_sure = each.touched is not None and len(_since(each.touched, each, found)) == len(each.dags)
            self.at_rest &= is_sure
            is_former = self._is_former(each, found, in_force)
            if is_former or self._is_missed(path, each, found, now):
                touch(self.folder / path)
                recalls = each.recalls + is_former
                self._watched[path] = each._replace(touched=now, patience=3 * each.patience, recalls=recalls)
            if not 0 <= now - each.since < (self.SECONDS if is_sure else self.LONGEST):
                del self._watched[path]

    def _is_former(self, each: _Watched, found: Mapping[str, Parsed], in_force: Collection[str]) -> bool:
        """Say whether a parse that ended after the last touch has found a DAG as it was before."""
        if each.touched is None or each.recalls >= self.RECALLS:
            return False
        versions = {one.version for one in _since(each.touched, each, found)}
        return any(version in each.former and version not in in_force for version in versions)

    def _is_missed(self, path: str, each: _Watched, found: Mapping[str, Parsed], now: float) -> bool:
        if each.touched is None:
            # A parse has ended that may have begun before the write, or there was none at all.
            return bool(_since(each.since, each, found)) or now - each.since >= each.patience
        surely = _since(each.touched, each, found)
        if any(one.file != path for one in surely):
            return True
        return len(surely) < len(each.dags) and now - each.touched >= each.patience


def touch(path: Path) -> None:
    """Have Airflow parse a file again, unless it is gone."""
    with contextlib.suppress(FileNotFoundError):  # somebody has deleted it
        os.utime(path)


def _since(moment: float, each: _Watched, found: Mapping[str, Parsed]) -> list[Parsed]:
    """Return where the file's DAGs were found after that."""
    return [one for dag_id in each.dags if (one := found.get(dag_id)) is not None and one.at > moment]


def _not_found(path: str, each: _Watched, found: Mapping[str, Parsed]) -> list[str]:
    """Return the file's DAGs that were not found in it since it was written."""
    return [
        dag_id for dag_id in each.dags if (one := found.get(dag_id)) is None or one.at <= each.since or one.file != path
    ]
