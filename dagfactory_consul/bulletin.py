"""The bulletin: the file by which all that is wrong stands among Airflow's import errors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from .layout import write_if_changed

BULLETIN = "problems.py"
_TEXT = '''"""Shows what is wrong with tenants' DAGs among Airflow's import errors.

Written by dagfactory_consul.
"""

from dagfactory_consul.errors import ProblemsError

PROBLEMS = {lines}

if PROBLEMS:
    raise ProblemsError("\\n".join([f"{{len(PROBLEMS)}} to mend; all else is in force", *PROBLEMS]))
'''


class Bulletin:
    """The problems' file on the processor's disk; it stands there without any, too.

    Airflow may show something else than it says: a write is lost on a parse that is under way (see `watch`), and all
    processors of a deployment write the same row of Airflow's database, be it with what they knew a while ago. So it
    is looked at what is shown, and the file touched until that agrees. Two processors that see different things, since
    only one of them reaches the store, show them in turn, at ever longer intervals.

    Args:
        folder: of the bundle's files.
        shown: says what Airflow shows as the import error of a file; None where it shows none.
        clock: seconds since the epoch.
    """

    PATIENCE: ClassVar[float] = 2.0
    """Seconds from a write until what is shown is a reason to touch; three times that for each touch after."""
    LONGEST: ClassVar[float] = 600.0
    """Seconds between two touches, at most."""
    INTERVAL: ClassVar[float] = 10.0
    """Seconds between two looks while what is shown agrees."""

    def __init__(
        self, folder: Path, shown: Callable[[str], str | None], clock: Callable[[], float] = time.time
    ) -> None:
        self.path = folder / BULLETIN
        self.clock = clock
        self._shown = shown
        self._lines: list[str] | None = None
        self._patience = self.PATIENCE
        self._next = 0.0
        """When to look at what is shown."""

    def write(self, lines: list[str]) -> None:
        """Bring the file to what the problems are, a line each. Raises OSError."""
        if lines == self._lines and self.path.exists():
            return
        listed = "[\n" + "".join(f"    {line!a},\n" for line in lines) + "]" if lines else "[]"
        write_if_changed(self.path, _TEXT.format(lines=listed))
        self._lines = list(lines)
        self._patience = self.PATIENCE
        self._next = self.clock() + self._patience

    def look(self) -> None:
        """Touch the file if Airflow shows something else by now. Raises what `shown` does."""
        now = self.clock()
        if self._lines is None or now < self._next <= now + self.LONGEST:  # the clock may be set back
            return
        if self._agrees(self._lines):
            self._next = now + self.INTERVAL
            return
        if self.path.exists():
            os.utime(self.path)
        self._patience = min(3 * self._patience, self.LONGEST)
        self._next = now + self._patience

    def _agrees(self, lines: list[str]) -> bool:
        shown = self._shown(BULLETIN)
        if shown is None or not lines:
            return shown is None and not lines
        return all(line in shown for line in lines)
