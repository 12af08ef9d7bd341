"""Import errors: what Airflow shows as those of a bundle's files, brought to what it should show."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from .layout import write_if_changed
from .unfound import Unfound
from .watch import touch

PROBLEMS = "problems.py"
_TEXT = '''"""Shows what is wrong with tenants' DAGs among Airflow's import errors.

Written by dagfactory_consul.
"""

from dagfactory_consul.errors import ProblemsError

PROBLEMS = {lines}

if PROBLEMS:
    raise ProblemsError("\\n".join(PROBLEMS))
'''


class _Wrong(NamedTuple):
    """A file of which Airflow does not show what it should."""

    patience: float
    """Seconds from the last touch until the next."""
    at: float
    """When to touch it."""


class ImportErrors:
    """Airflow's import errors of the files below one folder.

    One file raises all that is wrong; it stands there without any problem, too. Airflow may show something else than it
    says: a write is lost on a parse that is under way (see `watch`), and all processors of a deployment write the same
    row of Airflow's table, be it with what they knew a while ago. No other file is published before all of it was built
    and serialised, so what it fails by is passing: a time-out of a machine with too much to do. Airflow would take the
    file's DAGs for stale until it parses that file in its turn, which may be an hour later.

    So it is looked at what Airflow shows, and a file touched until that agrees. Two processors that see different
    things, since only one of them reaches the store, show them in turn, at ever longer intervals.

    Args:
        folder: of the bundle's files.
        shown: returns what Airflow shows, by file.
        missed: returns the DAGs in force that Airflow's list lacks, by file: a parse that was killed shows no error.
        pending: returns the DAGs that Airflow has not found since their file was written, by file.
        forget: makes Airflow forget what it shows of some files.
        clock: seconds since the epoch.
    """

    PATIENCE: ClassVar[float] = 2.0
    """Seconds from a write of the problems until what is shown is a reason to touch; three times that for each."""
    LONGEST: ClassVar[float] = 600.0
    """Seconds between two touches, at most."""
    INTERVAL: ClassVar[float] = 10.0
    """Seconds between two looks, at most."""
    SETTLED: ClassVar[float] = 60.0
    """Seconds after a write or a touch from which missed DAGs of a file are a reason to touch it: it has been parsed,
    or waits among many."""
    GONE: ClassVar[float] = 120.0
    """Seconds after which the error of a file is forgotten that is not there. Airflow forgets it when it lists files,
    which it does with a change; and another processor may already have a file that is not here yet."""

    def __init__(
        self,
        folder: Path,
        shown: Callable[[], Mapping[str, str]],
        missed: Callable[[], Mapping[str, Collection[str]]],
        pending: Callable[[], Mapping[str, Collection[str]]],
        forget: Callable[[Collection[str]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self._shown = shown
        self._missed = missed
        self._pending = pending
        self._forget = forget
        self._said: list[str] | None = None
        self._wrong: dict[str, _Wrong] = {}
        self._gone: dict[str, float] = {}
        """Since when Airflow has shown errors of files that are not there."""
        self._next = 0.0
        self._unfound = Unfound()

    def problems(self) -> list[str]:
        """Return a line for each file that Airflow has parsed without getting its DAGs, and without an error."""
        return self._unfound.problems()

    def write_problems(self, lines: list[str]) -> None:
        """Bring the file that raises the problems to what they are, a line each. Raises OSError."""
        said = [f"{len(lines)} to mend; all else is in force", *lines] if lines else []
        listed = "[\n" + "".join(f"    {line!a},\n" for line in said) + "]" if said else "[]"
        if not write_if_changed(self.folder / PROBLEMS, _TEXT.format(lines=listed)) and said == self._said:
            return
        self._said = said
        self._next = self.clock() + self.PATIENCE
        self._wrong[PROBLEMS] = _Wrong(self.PATIENCE, self._next)

    def look(self, *, may_forget: bool = True) -> None:
        """Do what there is to do by now. Raises what `shown`, `missed` and `forget` do.

        Args:
            may_forget: the files are those that the deployment has agreed on, so one that is not there is nowhere.
        """
        now = self.clock()
        if self._said is None or now < self._next <= now + self.INTERVAL:  # the clock may have been set back
            return
        shown, missed = self._shown(), self._missed()
        if may_forget:
            self._look_for_unfound(shown, missed, now)
        wrong = {file for file in shown if file != PROBLEMS and (self.folder / file).exists()}
        wrong |= {file for file in missed if not 0 <= now - self._written(file) < self.SETTLED}
        if not _shows(shown.get(PROBLEMS), self._said):
            wrong.add(PROBLEMS)
        for file in wrong:
            self._touch(file, now)
        # One that two processors show in turn is not wrong all the time.
        self._wrong = {file: each for file, each in self._wrong.items() if now - each.at < self.LONGEST}
        self._next = min([now + self.INTERVAL, *(each.at for file, each in self._wrong.items() if file in wrong)])
        gone = shown.keys() - wrong - {PROBLEMS} if may_forget else ()
        self._gone = {file: min(now, self._gone.get(file, now)) for file in gone}
        if forgotten := [file for file, since in self._gone.items() if now - since >= self.GONE]:
            self._forget(forgotten)

    def _look_for_unfound(self, shown: Collection[str], missed: Mapping[str, Collection[str]], now: float) -> None:
        pending = self._pending()
        silent = (missed.keys() | pending.keys()) - set(shown)
        self._unfound.look({file: {*missed.get(file, ()), *pending.get(file, ())} for file in silent}, now)

    def _touch(self, file: str, now: float) -> None:
        patience, at = self._wrong.get(file, _Wrong(self.PATIENCE, now))
        if now < at <= now + self.LONGEST:
            return
        touch(self.folder / file)
        patience = min(3 * patience, self.LONGEST)
        self._wrong[file] = _Wrong(patience, now + patience)

    def _written(self, file: str) -> float:
        """Return when a file was written or touched; the beginning of time where it is gone."""
        try:
            return (self.folder / file).stat().st_mtime
        except FileNotFoundError:
            return 0.0


def _shows(shown: str | None, said: list[str]) -> bool:
    """Say whether an error's traceback ends with what was said; nothing has to be shown where nothing was."""
    if shown is None or not said:
        return shown is None and not said
    return shown.rstrip().endswith("\n".join(said).rstrip())
