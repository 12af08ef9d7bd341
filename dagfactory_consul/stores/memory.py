"""A store in the memory of this process: for tests, and for trying things out."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import SplitResult

from ..errors import StoreError
from .base import Entry, Reading, Store
from .keys import check_key


@dataclass(slots=True)
class _Place:
    """What all stores of one address share."""

    entries: dict[str, Entry] = field(default_factory=dict)
    changes: int = 0
    """How many writes and deletes there have been: never used twice, as the entries' own indexes would be."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while something is written, or all is read."""

    def __deepcopy__(self, _memo: object) -> _Place:
        return self  # a copy of a store stands at the same place


class MemoryStore(Store):
    """Entries in a dictionary. All stores of one name and prefix in a process share theirs."""

    _places: ClassVar[dict[str, _Place]] = {}

    def __init__(self, name: str = "", *, prefix: str = "dagfactory/") -> None:
        self.name = name
        self.prefix = prefix
        self.url = f"memory://{name}/{prefix}"
        self.failure: StoreError | None = None
        """What every operation raises, while it is set."""
        self._place = self._places.setdefault(self.url, _Place())

    @classmethod
    def from_url(cls, url: SplitResult, *, prefix: str, timeout: float) -> MemoryStore:
        return cls(url.netloc, prefix=prefix)

    def read(self) -> Reading:
        self._fail_if_told()
        with self._place.lock:
            entries = sorted(self._place.entries.values())
            return Reading.of(entries, mark=str(self._place.changes), source=self.url)

    def probe(self) -> str | None:
        self._fail_if_told()
        return str(self._place.changes)

    def get(self, key: str) -> Entry | None:
        self._fail_if_told()
        check_key(key, store=self.url)
        return self.checked(self._place.entries.get(key))

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        self._fail_if_told()
        wanted = list(items)
        for key, value in wanted:
            check_key(key, store=self.url)
            self.check_size(key, value)
        with self._place.lock:
            for key, value in wanted:
                self._write(key, value)

    def swap(self, key: str, value: bytes, expected: Entry | None) -> bool:
        self._fail_if_told()
        check_key(key, store=self.url)
        self.check_size(key, value)
        with self._place.lock:
            if self._place.entries.get(key) != expected:
                return False
            self._write(key, value)
            return True

    def delete(self, key: str) -> None:
        self._fail_if_told()
        check_key(key, store=self.url)
        with self._place.lock:
            if self._place.entries.pop(key, None) is not None:
                self._place.changes += 1

    def beside(self, name: str) -> MemoryStore:
        return MemoryStore(self.name, prefix=f"{self.prefix.rstrip('/')}-{name}/")

    def _write(self, key: str, value: bytes) -> None:
        self._place.changes += 1
        self._place.entries[key] = Entry(key, value, self._place.changes)

    def _fail_if_told(self) -> None:
        if self.failure is not None:
            raise self.failure
