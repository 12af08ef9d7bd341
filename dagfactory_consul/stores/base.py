"""What a store is: a place that holds entries under one prefix, and can be read in one go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ..errors import StoreRejected

MAX_VALUE_BYTES = 524_288
"""The largest value, in bytes. Consul's own limit, held by every store so that data can move between them."""

MAX_READING_BYTES = 268_435_456
"""The most bytes that one read takes into memory, all values together: 256 MiB."""

FOLDERS = ("tenants", "flags", "projects")
"""The parts of the layout whose members are entries of their own."""

READY = "_ready"
"""The key that marks a data set as complete. While it is missing after it was once there, nothing may vanish."""


class Entry(NamedTuple):
    """One key and its value, as stored."""

    key: str
    """Relative to the store's prefix, without a leading slash: `tenants/acme`."""
    value: bytes
    index: int = 0  # type: ignore[assignment]  # nobody misses tuple.index
    """A number that grows when this entry changes (Consul's ModifyIndex); 0 where a store keeps none."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All entries under the prefix at one moment, sorted by key."""

    entries: tuple[Entry, ...]
    mark: str | None = None
    """What `probe` returns as long as nothing has changed since; None where a store cannot tell."""
    source: str = ""
    """The address of the store that answered, for humans: a chain names the one of its links that did."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """The entries that exist and whose values cannot be had, by key: why, for humans. Each is the problem of its own
    document; a key that is no document's names the file that nobody can use."""

    @classmethod
    def of(cls, entries: Iterable[Entry], *, mark: str | None, source: str) -> Reading:
        """Take over entries, sorted by key; those over the limit become unreadable."""
        found = tuple(entries)
        large = {entry.key: too_large(len(entry.value)) for entry in found if len(entry.value) > MAX_VALUE_BYTES}
        if large:
            found = tuple(entry for entry in found if entry.key not in large)
        return cls(found, mark, source, large)


def too_large(size: int) -> str:
    """Say that a value has too many bytes."""
    return f"has {size:,} bytes; a value ends at {MAX_VALUE_BYTES:,}: split the document"


def not_read(sizes: Mapping[str, int]) -> dict[str, str]:
    """Return the largest values, which are left unread where all together would take too much memory, and why."""
    found = {}
    left = MAX_READING_BYTES
    for key in sorted(sizes, key=lambda each: sizes[each]):
        left -= sizes[key]
        if left < 0:
            found[key] = f"is not read: all values together may have {MAX_READING_BYTES:,} bytes, and it is a large one"
    return found


class Store(ABC):
    """A place that holds entries under one prefix.

    A backend holds only what is its own: caching, fallback and the last known good copy are written once, in
    `client`. Every method may raise `StoreError`, and answers or raises within `timeout` seconds in total; one that is
    about many entries (`get_many`, `put_many`), within that for each part that goes by itself.
    """

    url: str
    """The address for humans, never with credentials."""

    @abstractmethod
    def read(self) -> Reading:
        """Read every entry under the prefix. No entries means that there are none, never that they cannot be seen.

        Raises:
            StoreUnreachable, StoreLeaderless, StoreDenied, StoreFiltered: as their names say.
        """

    def probe(self) -> str | None:
        """Return the present change mark, cheaply; None where the store cannot tell without a full read."""
        return None

    def await_change(self, mark: str, seconds: float) -> bool:
        """Wait until the mark is another than this one, but no longer than that; say whether it is.

        A store that cannot wait returns False at once.
        """
        return False

    def get(self, key: str) -> Entry | None:
        """Read one entry; None means that it is known not to exist.

        Raises:
            StoreRejected: it exists and cannot be read: it is too large, say.
        """
        reading = self.read()
        if key in reading.unreadable:
            raise self.unreadable(key, reading.unreadable[key])
        return next((entry for entry in reading.entries if entry.key == key), None)

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Read several entries, each with its own time-out; those that do not exist are left out."""
        found = {key: self.get(key) for key in keys}
        return {key: entry for key, entry in found.items() if entry is not None}

    def keys(self) -> list[str]:
        """List all keys, sorted, without reading their values where the store can do that. Raises as `read` does.

        Entries that cannot be read are among them.
        """
        reading = self.read()
        return sorted([*(entry.key for entry in reading.entries), *reading.unreadable])

    def put(self, key: str, value: bytes) -> None:
        """Write one entry, atomically. Raises StoreRejected where the store is read-only or the value too large."""
        self.put_many([(key, value)])

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Write several entries; each one is atomic, and as many of them together as the store can."""
        raise StoreRejected("cannot be written through this package", store=self.url)

    def swap(self, key: str, value: bytes, expected: Entry | None) -> bool:
        """Write one entry if it is still the expected one.

        Args:
            key: the entry's.
            value: what it is to be.
            expected: as this store has given it; None for an entry that does not exist.

        Returns:
            whether it was written; False where the entry is another by now.

        Raises:
            StoreUnreachable, StoreLeaderless: the answer was lost, and the write may have been done or not, or be done
                yet: read again, and go by what is there.
            StoreRejected: the store is read-only, or the value too large.
        """
        raise StoreRejected("cannot be written through this package", store=self.url)

    def delete(self, key: str) -> None:
        """Remove one entry; one that does not exist is no error."""
        raise StoreRejected("cannot be written through this package", store=self.url)

    @abstractmethod
    def beside(self, name: str) -> Store:
        """Return a store of the same kind and place whose prefix is `<prefix>-<name>/`, outside what this one reads."""

    def close(self) -> None:  # noqa: B027  # most stores hold nothing
        """Give back connections. A closed store is not used again."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def check_size(self, key: str, value: bytes) -> None:
        """Refuse a value over the limit, before it is sent anywhere."""
        if len(value) > MAX_VALUE_BYTES:
            raise self.unreadable(key, too_large(len(value)))

    def checked(self, entry: Entry | None) -> Entry | None:
        """Return an entry that was read alone. Raises StoreRejected where it is over the limit."""
        if entry is not None:
            self.check_size(entry.key, entry.value)
        return entry

    def unreadable(self, key: str, reason: str) -> StoreRejected:
        """Return the error for one entry that exists and cannot be used."""
        return StoreRejected(f"{key} {reason}", store=self.url)


class StoreUser:
    """What needs a store only at times: it is opened when it is first asked for, and closed only if it was.

    Args:
        store: opens it.
    """

    def __init__(self, store: Callable[[], Store]) -> None:
        self._open_store = store

    @cached_property
    def store(self) -> Store:
        """The store, opened."""
        return self._open_store()

    def close(self) -> None:
        """Give back connections, if there are any."""
        if "store" in self.__dict__:
            self.store.close()
