"""The head: what the processors of one deployment have agreed on, in one key beside the polled prefix.

It is written by compare-and-set: whoever loses takes over what the other one wrote. So there is no leader to lose.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from .keyed_file import dumps
from .stores.base import Entry, Store, StoreUser
from .stores.replacing import replace_file

FORMAT = 1


class Head(NamedTuple):
    """What is in force in a deployment."""

    sequence: int
    """Counts what was agreed on: after a restore of the store the lower one is the older one."""
    version: str
    """Of the bundle."""
    state: str
    """The reference of what belongs to the version and is not in its files (see `state`)."""
    snapshot: str
    """The reference of what is to be said about the snapshot that it was made from (see `snapshot.about`)."""
    documents: Mapping[str, str]
    """The references of that snapshot's documents, in parts."""
    at: float
    """When it was agreed on, in seconds since the epoch."""
    by: str
    """Which processor has written it: host, process, and what tells it from any other."""
    bundle: str
    """The name of the bundle whose head it is."""

    def to_bytes(self) -> bytes:
        return dumps({"format": FORMAT, **self._asdict()}).encode()

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """Read it. Raises ValueError: it is of another format, or damaged."""
        fields = json.loads(data)
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
            raise ValueError(f"the deployment's head is not of format {FORMAT}")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"the deployment's head cannot be read: {error}") from error


class Heads(StoreUser):
    """Reads and writes the head of one deployment, in the store and in a file on this machine.

    Args:
        store: opens the store beside the polled prefix, when it is first needed.
        deployment: whose head.
        path: of the file with what this machine has applied.
    """

    def __init__(self, store: Callable[[], Store], deployment: str, path: Path) -> None:
        super().__init__(store)
        self.key = f"{deployment}/head"
        self.path = path

    def read(self) -> Entry | None:
        """Return the head as the store has it; None where there is none. Raises StoreError."""
        return self.store.get(self.key)

    def swap(self, head: Head, expected: Entry | None) -> bool:
        """Agree on a head, unless another one was agreed on since `expected` was read. Raises StoreError."""
        return self.store.swap(self.key, head.to_bytes(), expected)

    def applied(self) -> Head | None:
        """Return what this machine has applied; None if that is nothing, or cannot be read."""
        try:
            return Head.of_bytes(self.path.read_bytes())
        except (OSError, ValueError):
            return None

    def apply(self, head: Head) -> None:
        """Note what this machine has applied. Raises OSError."""
        replace_file(self.path, head.to_bytes(), durable=False)


def this_processor() -> str:
    """Return the host and the process, for humans."""
    import socket  # a worker needs none

    return f"{socket.gethostname()}:{os.getpid()}"
