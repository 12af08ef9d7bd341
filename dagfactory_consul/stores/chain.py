"""Several stores of which the first that can be reached answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from ..errors import SettingsError, StoreError, StoreLeaderless, StoreUnreachable
from .base import Entry, Reading, Store

log = logging.getLogger(__name__)

T = TypeVar("T")


class ChainStore(Store):
    """A store made of others. The next one is asked when the one before cannot be reached or has no leader.

    Any other failure ends the search: a store that denies, hides or refuses is a fault that somebody must see, and an
    answer without entries is an answer. Writes go to the first store, and fail where it fails: a value that is written
    to another one would be gone as soon as the first is back.

    Each store takes its own time, one after the other.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        if not stores:
            raise SettingsError("a chain needs at least one store")
        self.stores = tuple(stores)
        self.url = ",".join(store.url for store in self.stores)

    def read(self) -> Reading:
        """Read the first store that can be reached; the reading's source says which one it was."""
        number, reading = self._first(lambda store: store.read())
        mark = None if reading.mark is None else f"{number}:{reading.mark}"
        return replace(reading, mark=mark)

    def probe(self) -> str | None:
        """Return the mark of the first store that can be reached, with its place: another store is a change."""
        number, mark = self._first(lambda store: store.probe())
        return None if mark is None else f"{number}:{mark}"

    def await_change(self, mark: str, seconds: float) -> bool:
        """Wait for the store that the mark is of."""
        number, _, rest = mark.partition(":")
        return self.stores[int(number)].await_change(rest, seconds)

    def get(self, key: str) -> Entry | None:
        return self._first(lambda store: store.get(key))[1]

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Read all of them from the first store that can be reached."""
        wanted = list(keys)
        return self._first(lambda store: store.get_many(wanted))[1]

    def keys(self) -> list[str]:
        return self._first(lambda store: store.keys())[1]

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        self.stores[0].put_many(items)

    def swap(self, key: str, value: bytes, expected: Entry | None) -> bool:
        """Swap in the first store; what another one gave, while the first was away, is not what the first one has."""
        return self.stores[0].swap(key, value, expected)

    def delete(self, key: str) -> None:
        self.stores[0].delete(key)

    def beside(self, name: str) -> ChainStore:
        return ChainStore([store.beside(name) for store in self.stores])

    def close(self) -> None:
        for store in self.stores:
            store.close()

    def _first(self, ask: Callable[[Store], T]) -> tuple[int, T]:
        """Return the place and the answer of the first store that can be reached.

        Raises:
            StoreUnreachable: none can; the message has each one's reason.
        """
        failures: list[StoreError] = []
        for number, store in enumerate(self.stores):
            try:
                return number, ask(store)
            except (StoreUnreachable, StoreLeaderless) as exc:
                log.info("%s; asking the next store", exc)
                failures.append(exc)
        reasons = "; ".join(str(failure) for failure in failures)
        raise StoreUnreachable(f"no store of the chain can be reached: {reasons}", store=self.url) from failures[-1]
