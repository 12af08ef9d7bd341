"""Scouts: processes that go ahead of a trial, each with a share of the work, one for each core.

What one has done it has written down; one that crashes or hangs is no loss: whoever sent it comes to the same place.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from .note import Note

GRACE = 1.0
"""Seconds over its limit after which a scout is ended."""

Work = TypeVar("Work")

_POLL = 0.005


def cores() -> int:
    """Return how many cores this process may use; no more than four, which share the memory of one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, count)


class Scouts(Generic[Work]):
    """Processes at work.

    Args:
        do: does a share of the work, and notes what it is at. Whatever it raises ends that scout alone.
    """

    def __init__(self, do: Callable[[Note, Sequence[Work]], None]) -> None:
        self._do = do
        self._notes: dict[int, Note] = {}

    def send(self, shares: Sequence[Sequence[Work]]) -> None:
        """Start one scout for each share."""
        for share in shares:
            note = Note()
            pid = os.fork()
            if pid == 0:
                try:
                    self._do(note, share)
                finally:
                    os._exit(0)
            self._notes[pid] = note

    def wait(self, alive: Callable[[], None]) -> None:
        """Return when all have ended; those that hang are ended. `alive` is called meanwhile."""
        while self._notes:
            alive()
            for pid, note in list(self._notes.items()):
                if note.overdue(GRACE):
                    os.kill(pid, signal.SIGKILL)
                if _has_ended(pid):
                    del self._notes[pid]
            time.sleep(_POLL)


def _has_ended(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):  # a builder has asked for it
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True
