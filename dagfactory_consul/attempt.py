"""The last attempt to refresh the snapshot, by whichever process: what back-off and task starts go by."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

PARSES_HERE = 600.0
"""Seconds after its last refresh by a parse that a machine counts as one with a DAG processor (or ten TTLs)."""
MAX_BACKOFF = 60.0
"""Seconds between two attempts at a store that fails, at most (or the TTL, where that is longer)."""


class Attempt(NamedTuple):
    """The last attempt to refresh, by whichever process."""

    at: float = 0.0
    """Seconds since the epoch."""
    failures: int = 0
    """How many attempts have failed in a row."""
    error: str | None = None
    good_at: float = 0.0
    """When the store last answered, in seconds since the epoch: how old what is known may be at most."""
    by_parse: bool = False
    """Whether a parse made it, as opposed to a task start."""

    def parses_here(self, now: float, ttl: float) -> bool:
        """Say whether parses on this machine keep the snapshot fresh, so that task starts need not."""
        return self.by_parse and now - self.at < max(PARSES_HERE, 10 * ttl)

    def is_due(self, now: float, ttl: float, *, longest: float = MAX_BACKOFF) -> bool:
        """Say whether the next attempt is due: the TTL has passed, or after failures a back-off, at most `longest`."""
        wait = ttl
        if self.failures:
            wait = min(max(ttl, longest), max(ttl, 1.0) * 2 ** min(self.failures - 1, 16))
        passed = now - self.at
        return passed >= wait or passed < 0  # below zero: the clock was set back

    @classmethod
    def load(cls, folder: Path) -> Attempt:
        """Read the last attempt; one at the beginning of time where nothing is known."""
        try:
            return cls(**json.loads((folder / "attempt.json").read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, folder: Path) -> None:
        """Keep this as the last attempt, atomically."""
        new = folder / f".attempt.{os.getpid()}.new"
        with contextlib.suppress(OSError):  # a disk that is full: then the next parse asks the store again
            new.write_text(json.dumps(self._asdict()))
            new.replace(folder / "attempt.json")
