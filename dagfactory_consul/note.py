"""A note in memory that two processes share: what the other one is at, since when, and how long that may take."""

from __future__ import annotations

import json
import mmap
import struct
import time

Thing = tuple[str, ...]
"""What a process is at: a kind, and what tells it from others of the kind."""

_HEAD = struct.Struct("ddI")
_SIZE = 1 << 16
_MIDDLE = _SIZE // 2


class Note:
    """Written by a child process, read by its parent: no file that could be closed, no lock that could be kept."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)

    def clear(self) -> None:
        """Forget all."""
        self.put(("nothing",), 0.0)
        self.fail("")

    def put(self, thing: Thing, limit: float) -> None:
        """Note what is begun now, and how many seconds it may take; 0 for any number."""
        text = json.dumps(thing).encode()[: _MIDDLE - _HEAD.size]
        self._memory[_HEAD.size : _HEAD.size + len(text)] = text
        _HEAD.pack_into(self._memory, 0, time.monotonic(), limit, len(text))

    def fail(self, error: str) -> None:
        """Note what has gone wrong; the end of it, if it is long."""
        text = error.encode(errors="replace")[-(_MIDDLE - _HEAD.size) :]
        self._memory[_MIDDLE + _HEAD.size : _MIDDLE + _HEAD.size + len(text)] = text
        _HEAD.pack_into(self._memory, _MIDDLE, 0.0, 0.0, len(text))

    def overdue(self, grace: float) -> float:
        """Return the limit that has passed by more than `grace` seconds; 0 if none has."""
        began, limit, _ = _HEAD.unpack_from(self._memory, 0)
        return limit if 0 < limit < time.monotonic() - began - grace else 0.0

    @property
    def thing(self) -> Thing:
        """What was begun last. For when nobody writes any more."""
        length = _HEAD.unpack_from(self._memory, 0)[2]
        try:
            return tuple(json.loads(self._memory[_HEAD.size : _HEAD.size + length]))
        except ValueError:  # the process was killed in the midst of writing it
            return ("nothing",)

    @property
    def error(self) -> str:
        """What has gone wrong; empty if nothing is known."""
        length = _HEAD.unpack_from(self._memory, _MIDDLE)[2]
        return self._memory[_MIDDLE + _HEAD.size : _MIDDLE + _HEAD.size + length].decode(errors="replace")
