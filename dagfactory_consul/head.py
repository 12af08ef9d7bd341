"""The head: what the processors of one deployment have agreed on, in one key beside the polled prefix.

It is written by compare-and-set: whoever loses takes over what the other one wrote. So there is no leader to lose.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from . import folders
from .keyed_file import dumps
from .manifest import object_of, values_of
from .stores.base import Entry, Store, StoreUser
from .stores.replacing import replace_file

if TYPE_CHECKING:
    from .signature import Signer

FORMAT = 2
"""Format 1, of this package before heads were signed, is read."""


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

    def to_bytes(self, signature: str | None = None) -> bytes:
        return dumps({"format": FORMAT, "signature": signature, **self._asdict()}).encode()

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """Read it. Raises ValueError: it is of another format, or damaged; the message names the field."""
        fields = object_of(data)
        if (kind := fields.pop("format", None)) not in (1, FORMAT):
            raise ValueError(f"the deployment's head is of format {kind!a:.40}, and this package reads 1 and {FORMAT}")
        fields.pop("signature", None)
        try:
            return msgspec.convert(values_of(fields, cls._fields), cls)
        except msgspec.ValidationError as error:
            raise ValueError(f"the deployment's head cannot be read: {_named(str(error), cls._fields)}") from error
        except ValueError as error:
            raise ValueError(f"the deployment's head cannot be read: {error}") from error


def _named(text: str, names: tuple[str, ...]) -> str:
    """Put the names of fields in the place of msgspec's numbers: `$[0]` is `sequence`."""
    for number, name in enumerate(names):
        text = text.replace(f"$[{number}]", name)
    return text


class Heads(StoreUser):
    """Reads and writes the head of one deployment, in the store and in a file on this machine.

    Args:
        store: opens the store beside the polled prefix, when it is first needed.
        deployment: whose head.
        path: of the file with what this machine has applied.
        signer: returns what signs heads, when that is first needed; without it nothing is signed.
    """

    def __init__(
        self, store: Callable[[], Store], deployment: str, path: Path, signer: Callable[[], Signer] | None = None
    ) -> None:
        super().__init__(store)
        self._make_signer = signer
        self.key = f"{deployment}/head"
        self.path = path

    @cached_property
    def signer(self) -> Signer:
        """What signs heads."""
        from .signature import Signer  # a worker needs none

        return self._make_signer() if self._make_signer is not None else Signer()

    def read(self) -> Entry | None:
        """Return the head as the store has it; None where there is none. Raises StoreError."""
        return self.store.get(self.key)

    def swap(self, head: Head, expected: Entry | None) -> bool:
        """Agree on a head, unless another one was agreed on since `expected` was read. Raises StoreError."""
        return self.store.swap(self.key, self._to_bytes(head), expected)

    def is_signed(self, entry: Entry, head: Head) -> bool:
        """Say whether a head in the store was signed for this deployment, with a key of this Airflow."""
        return self.signer.is_good(self._signed(head), object_of(entry.value).get("signature"))

    def has_signed(self) -> bool:
        """Say whether what this machine has applied bears a signature: this machine has had a key before."""
        try:
            return object_of(self.path.read_bytes()).get("signature") is not None
        except (OSError, ValueError):
            return False

    def _to_bytes(self, head: Head) -> bytes:
        return head.to_bytes(self.signer.sign(self._signed(head)))

    def _signed(self, head: Head) -> bytes:
        # With the key's name, so that the head of one deployment is no head of another one.
        return self.key.encode() + b"\0" + head.to_bytes()

    def applied(self) -> Head | None:
        """Return what this machine has applied; None if that is nothing, or cannot be read."""
        try:
            return Head.of_bytes(self.path.read_bytes())
        except (OSError, ValueError):
            return None

    def apply(self, head: Head) -> None:
        """Note what this machine has applied. Raises OSError."""
        replace_file(self.path, self._to_bytes(head), durable=False, mode=folders.FILE)


def this_processor() -> str:
    """Return the host and the process, for humans."""
    import socket  # a worker needs none

    return f"{socket.gethostname()}:{os.getpid()}"
