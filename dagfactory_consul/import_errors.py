"""Import errors: what Airflow shows as those of a bundle's files, brought to what it should show."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from .layout import write_if_changed

PROBLEMS = "problems.py"
_TEXT = '''"""Shows what is wrong with tenants' DAGs among Airflow's import errors.

Written by dagfactory_consul.
"""

from dagfactory_consul.errors import ProblemsError

PROBLEMS = {lines}

if PROBLEMS:
    raise ProblemsError("\\n".join([f"{{len(PROBLEMS)}} to mend; all else is in force", *PROBLEMS]))
'''


class _Wrong(NamedTuple):
    """A file of which Airflow does not show what it should."""

    patience: float = 0.0
    """Seconds from the last touch until the next."""
    at: float = 0.0
    """When to touch it."""


class ImportErrors:
    """Airflow's import errors of the files below one folder.

    One file raises all that is wrong; it stands there without any problem, too. Airflow may show something else than it
    says: a write is lost on a parse that is under way (see `watch`), and all processors of a deployment write the same
    row of Airflow's table, be it with what they knew a while ago. No other file is published before all of it was built
    and serialised, so what it fails by is passing: a time-out of a machine with too much to do. Airflow would show it,
    and take the file's DAGs for stale, until it parses that file in its turn, which may be an hour later.

    So the table is looked at, and a file touched until what is shown agrees. Two processors that see different things,
    since only one of them reaches the store, show them in turn, at ever longer intervals.

    Args:
        folder: of the bundle's files.
        shown: returns what Airflow shows, by file.
        forget: makes Airflow forget what it shows of some files.
        clock: seconds since the epoch.
    """

    PATIENCE: ClassVar[float] = 2.0
    """Seconds from a write of the problems until what is shown is a reason to touch; three times that for each."""
    LONGEST: ClassVar[float] = 600.0
    """Seconds between two touches, at most."""
    INTERVAL: ClassVar[float] = 10.0
    """Seconds between two looks, at most."""
    GONE: ClassVar[float] = 120.0
    """Seconds after which the error of a file is forgotten that is not there. Airflow forgets it when it lists files,
    which it does with a change; and another processor may already have a file that is not here yet."""

    def __init__(
        self,
        folder: Path,
        shown: Callable[[], Mapping[str, str]],
        forget: Callable[[Collection[str]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self._shown = shown
        self._forget = forget
        self._problems: list[str] | None = None
        self._wrong: dict[str, _Wrong] = {}
        self._gone: dict[str, float] = {}
        """Since when Airflow has shown errors of files that are not there."""
        self._next = 0.0

    def write_problems(self, lines: list[str]) -> None:
        """Bring the file that raises the problems to what they are, a line each. Raises OSError."""
        if lines == self._problems and (self.folder / PROBLEMS).exists():
            return
        listed = "[\n" + "".join(f"    {line!a},\n" for line in lines) + "]" if lines else "[]"
        write_if_changed(self.folder / PROBLEMS, _TEXT.format(lines=listed))
        self._problems = list(lines)
        self._next = self.clock() + self.PATIENCE
        self._wrong[PROBLEMS] = _Wrong(self.PATIENCE, self._next)

    def look(self) -> None:
        """Do what there is to do by now. Raises what `shown` and `forget` do."""
        now = self.clock()
        if self._problems is None or now < self._next <= now + self.LONGEST:  # the clock may have been set back
            return
        shown = self._shown()
        wrong = {file for file in shown if file != PROBLEMS and (self.folder / file).exists()}
        if not _says(shown.get(PROBLEMS), self._problems):
            wrong.add(PROBLEMS)
        for file in wrong:
            self._touch(file, now)
        # One that two processors show in turn is not wrong all the time.
        self._wrong = {file: each for file, each in self._wrong.items() if now - each.at < self.LONGEST}
        self._next = min([now + self.INTERVAL, *(each.at for file, each in self._wrong.items() if file in wrong)])
        self._gone = {file: self._gone.get(file, now) for file in shown.keys() - wrong - {PROBLEMS}}
        if forgotten := [file for file, since in self._gone.items() if now - since >= self.GONE]:
            self._forget(forgotten)

    def _touch(self, file: str, now: float) -> None:
        patience, at = self._wrong.get(file, _Wrong(self.PATIENCE))
        if now < at <= now + self.LONGEST:
            return
        with contextlib.suppress(FileNotFoundError):  # somebody has deleted it
            os.utime(self.folder / file)
        patience = min(3 * patience, self.LONGEST)
        self._wrong[file] = _Wrong(patience, now + patience)


def _says(shown: str | None, lines: list[str]) -> bool:
    if shown is None or not lines:
        return shown is None and not lines
    return all(line in shown for line in lines)
