"""The entries under one prefix of Consul's key/value store."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult

from ..errors import (
    SettingsError,
    StoreDenied,
    StoreError,
    StoreFiltered,
    StoreLeaderless,
    StoreRejected,
    StoreUnreachable,
)
from .base import READY, Entry, Reading, Store
from .consul_answer import Answer, decode_keys, decode_rows
from .consul_settings import ConsulSettings
from .keys import check_key

if TYPE_CHECKING:
    from .consul_http import HTTPClient

T = TypeVar("T")

TRANSACTION_OPERATIONS = 64
"""Consul's limit, up to 1.13."""
TRANSACTION_BYTES = 500_000
"""What one transaction's request may hold: Consul's limit is 524,288, of the request and not of the values."""
DIAGNOSIS = 0.15
"""The share of an operation's time that is kept for asking why there was no answer."""


class ConsulStore(Store):
    """Entries in Consul, read in one request.

    Reads ask any server for its own copy (`?stale`), which needs no leader and spares it. A copy counts when its server
    has heard from the leader within `max_staleness`; else the leader is asked. Nothing is taken as absent because it
    was not in an answer: with access rules, and during elections, Consul's lists come back short or empty.

    The connection, and the libraries for it, are made at the first use.

    Args:
        settings: where Consul is; an Airflow connection is looked up at the first use.
        prefix: under which the entries stand, with its trailing slash: without it, siblings would match too.
        timeout: seconds for one operation, with all its requests and their retries.
        connect: makes the HTTP client of settings, `shown`, `timeout` and `clock`; one with real sockets unless given.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        settings: ConsulSettings,
        *,
        prefix: str = "dagfactory/",
        timeout: float = 2.0,
        connect: Callable[..., HTTPClient] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.prefix = prefix.strip("/") + "/"
        self.timeout = timeout
        self.url = f"{settings.shown}/{self.prefix}" + (f"?dc={settings.dc}" if settings.dc else "")
        self._connect = connect or _client
        self._clock = clock
        self._client: HTTPClient | None = None
        self._process = 0
        self._max_staleness = settings.max_staleness

    @classmethod
    def from_url(cls, url: SplitResult, *, prefix: str, timeout: float) -> ConsulStore:
        """Open what a `consul://` URL names. Raises SettingsError where it cannot be understood."""
        return cls(ConsulSettings.from_url(url), prefix=prefix, timeout=timeout)

    def read(self) -> Reading:
        with self._operation() as deadline:
            answer = self._whole({"recurse": "1"}, deadline)
            entries = self._entries(answer)
            if answer.found and not any(entry.key == READY for entry in entries):
                self._confirm_visible(deadline)
        return Reading.of(entries, mark=self._mark(answer), source=self.url)

    def keys(self) -> list[str]:
        with self._operation() as deadline:
            answer = self._whole({"keys": "1"}, deadline)
            keys = self._names(answer)
            if answer.found and READY not in keys:
                self._confirm_visible(deadline)
        return keys

    def probe(self) -> str | None:
        """Return the prefix's index, which every change under it moves, a delete too. It costs the same at any size."""
        return self._index({})

    def await_change(self, mark: str, seconds: float) -> bool:
        """Ask for the index by a blocking query. Consul may take a sixteenth longer.

        See https://developer.hashicorp.com/consul/api-docs/features/blocking
        """
        index, wait = mark.partition(":")[0], min(seconds, self.timeout / 2)
        return self._index({"index": index, "wait": f"{wait * 1000:.0f}ms"}) != mark

    def get(self, key: str) -> Entry | None:
        check_key(key, store=self.url)
        with self._operation() as deadline:
            answer = self._fetch(self.prefix + key, {}, deadline)
            if not answer.found:
                # A server's own copy may lack what has just been written through another one.
                answer = self._fetch(self.prefix + key, {}, deadline, consistent=True)
            return self.checked(next(iter(self._entries(answer)), None))

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Write in transactions, as few as Consul's limits allow; a value too large for one goes by itself.

        Each has its own time-out: some thousand entries, as a first publication has, take longer than one.
        """
        wanted = list(items)
        for key, value in wanted:
            check_key(key, store=self.url)
            self.check_size(key, value)
        for batch in self._batches(wanted):
            with self._operation() as deadline:
                self._write(batch, deadline)

    def swap(self, key: str, value: bytes, expected: Entry | None) -> bool:
        """Write with Consul's own compare-and-set, which goes by the entry's index. It is sent once, never again."""
        check_key(key, store=self.url)
        self.check_size(key, value)
        if expected is not None and expected.index < 1:  # another store's: to Consul 0 would mean "is not there"
            return False
        cas = {"cas": str(expected.index if expected else 0)}
        with self._operation() as deadline:
            return self._http.put(self._said, self._path(key), params=cas, data=value, deadline=deadline) == "true"

    def delete(self, key: str) -> None:
        check_key(key, store=self.url)
        with self._operation() as deadline:
            self._http.delete(self._said, self._path(key), deadline=deadline)

    def beside(self, name: str) -> ConsulStore:
        prefix = f"{self.prefix.rstrip('/')}-{name}/"
        return ConsulStore(self.settings, prefix=prefix, timeout=self.timeout, connect=self._connect, clock=self._clock)

    def close(self) -> None:
        if self._client is not None and self._process == os.getpid():
            self._client.close()
        self._client = None

    def _index(self, params: dict[str, str]) -> str:
        """Ask for the prefix's index alone: for the names at its top."""
        with self._operation() as deadline:
            return self._mark(self._fetch(self.prefix, {"keys": "1", "separator": "/", **params}, deadline))

    def _whole(self, params: dict[str, str], deadline: float) -> Answer:
        """Ask for all that is under the prefix; an answer that is empty, or said to be a part, is not taken as it is.

        Raises:
            StoreFiltered: Consul says that access rules hide a part.
        """
        answer = self._fetch(self.prefix, params, deadline)
        if not answer.found or answer.body.strip() == b"[]":
            answer = self._confirm_absent(params, deadline)
        if answer.is_filtered():
            raise self._filtered("Consul says so")
        return answer

    def _fetch(self, key: str, params: dict[str, str], deadline: float, *, consistent: bool = False) -> Answer:
        """Read from a copy that is fresh enough, else from the leader.

        Raises:
            StoreLeaderless: the copy is too old or came back blank, and there is no leader to ask.
        """
        if not consistent:
            answer = self._ask(key, {**params, "stale": "1"}, deadline)
            if answer.seconds_behind <= self._max_staleness and (answer.found or answer.has_leader):
                return answer
            if not answer.has_leader:
                # To ask for an absent leader takes 7 s; and during elections lists have come back blank.
                raise StoreLeaderless(
                    f"knows no leader, and its copy is {answer.seconds_behind:,.1f} s old: "
                    f"{self._max_staleness:g} s may pass, and a list that is empty is not believed",
                    store=self.url,
                )
        return self._ask(key, {**params, "consistent": "1"}, deadline)

    def _ask(self, key: str, params: dict[str, str], deadline: float) -> Answer:
        path = f"/v1/kv/{key}"
        return self._http.get(Answer.of, path, params=list(params.items()), raw=True, deadline=deadline)

    def _confirm_absent(self, params: dict[str, str], deadline: float) -> Answer:
        """Ask again after a 404, which stands for an empty prefix and for one that the token may not see.

        Only the read of a single key is refused with 403, whether the key exists or not.
        """
        try:
            marker = self._ask(self.prefix + READY, {"consistent": "1"}, deadline)
        except StoreDenied as exc:
            raise StoreDenied(f"{self._wanted()}: its {READY} may not be read", store=self.url) from exc
        answer = self._fetch(self.prefix, params, deadline, consistent=True)
        if marker.found and not answer.found:
            raise StoreUnreachable(f"contradicts itself: {READY} exists, and nothing is there", store=self.url)
        return answer

    def _confirm_visible(self, deadline: float) -> None:
        """Ask for the marker, where a list lacks it: hidden means that the list is only a part."""
        try:
            self._fetch(self.prefix + READY, {}, deadline)
        except StoreDenied as exc:
            raise self._filtered(f"its {READY} may not be read") from exc

    def _filtered(self, how: str) -> StoreFiltered:
        return StoreFiltered(f"access rules hide a part of it: {how}; {self._wanted()}", store=self.url)

    def _wanted(self) -> str:
        return f'the token must have `key_prefix "{self.prefix}" {{ policy = "read" }}`'

    def _mark(self, answer: Answer) -> str:
        index = answer.index
        if index is None:
            raise StoreUnreachable("sent no X-Consul-Index: is it a Consul?", store=self.url)
        # An emptied prefix keeps its index where a token has lost its rights: that must be looked at.
        return index if answer.found else f"{index}:absent"

    def _entries(self, answer: Answer) -> list[Entry]:
        """Read Consul's list."""
        if not answer.found:
            return []
        rows = self._decoded(decode_rows, answer)
        # Sorted, so that what stands between two keys of this prefix is of this prefix too.
        self._check_prefix(row.Key for row in (*rows[:1], *rows[-1:]))
        skip = len(self.prefix)
        return [Entry(row.Key[skip:], row.Value or b"", row.ModifyIndex) for row in rows]

    def _names(self, answer: Answer) -> list[str]:
        """Read Consul's list of keys alone, as `_entries` reads the one with their values."""
        if not answer.found:
            return []
        names = self._decoded(decode_keys, answer)
        self._check_prefix((*names[:1], *names[-1:]))
        skip = len(self.prefix)
        return [name[skip:] for name in names]

    def _decoded(self, decode: Callable[[bytes], list[T]], answer: Answer) -> list[T]:
        try:
            return decode(answer.body)
        except ValueError as exc:
            # A gateway's page, or half an answer that ended well: another one may be whole.
            raise StoreUnreachable(f"sent what is not Consul's JSON ({exc!r})", store=self.url) from exc

    def _check_prefix(self, names: Iterable[str]) -> None:
        if not all(name.startswith(self.prefix) for name in names):
            raise StoreUnreachable(f"sent keys that are not under {self.prefix}", store=self.url)

    def _said(self, answer: Any) -> str:
        """Return what Consul says to a write: the transport has raised what was refused, save for 404."""
        text: str = answer.body.strip()
        if answer.code == 404 or not (text in {"true", "false"} or text.startswith("{")):
            raise StoreUnreachable("does not answer a write as Consul does: is the address right?", store=self.url)
        return text

    def _batches(self, items: list[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
        """Split what is to be written into transactions that Consul takes."""
        batch: list[tuple[str, bytes]] = []
        size = 0
        for key, value in items:
            # Base64 in JSON, where a letter of a key may take six, with the names of the fields around.
            length = 100 + 6 * len(self.prefix + key) + (len(value) + 2) // 3 * 4
            if batch and (size + length > TRANSACTION_BYTES or len(batch) == TRANSACTION_OPERATIONS):
                yield batch
                batch, size = [], 0
            batch.append((key, value))
            size += length
        if batch:
            yield batch

    def _write(self, batch: list[tuple[str, bytes]], deadline: float) -> None:
        if len(batch) == 1:
            key, value = batch[0]
            self._http.put(self._said, self._path(key), data=value, deadline=deadline)
            return
        operations = [
            {"KV": {"Verb": "set", "Key": self.prefix + key, "Value": base64.b64encode(value).decode("ascii")}}
            for key, value in batch
        ]
        self._http.put(self._said, "/v1/txn", data=json.dumps(operations), deadline=deadline)

    def _path(self, key: str) -> str:
        return f"/v1/kv/{self.prefix}{key}"

    @contextmanager
    def _operation(self) -> Iterator[float]:
        """Give the deadline of one operation, and tell a store without a leader from one that cannot be reached."""
        end = self._clock() + self.timeout
        try:
            yield end - DIAGNOSIS * self.timeout
        except StoreUnreachable:
            # A server that has never had a leader says nothing for 7 s, but answers this at once.
            if self._leader_is_missing(end):
                raise StoreLeaderless("knows no leader", store=self.url) from None
            raise

    def _leader_is_missing(self, deadline: float) -> bool:
        try:
            return bool(
                self._http.get(lambda answer: answer.body.strip() == '""', "/v1/status/leader", deadline=deadline)
            )
        except StoreError:
            return False

    @property
    def _http(self) -> HTTPClient:
        """The client, made at the first use in this process: sockets are not shared across a fork."""
        if self._client is None or self._process != os.getpid():
            try:
                settings = self.settings.resolve()
                self._max_staleness = settings.max_staleness
                self._client = self._connect(settings, shown=self.url, timeout=self.timeout, clock=self._clock)
            except LookupError as exc:
                raise StoreUnreachable(str(exc), store=self.url) from None
            except PermissionError as exc:  # a secrets backend's
                raise StoreDenied(f"its connection may not be read: {exc}", store=self.url) from None
            except SettingsError as exc:
                raise StoreRejected(str(exc), store=self.url) from exc
            self._process = os.getpid()
        return self._client


def _client(settings: ConsulSettings, *, shown: str, timeout: float, clock: Callable[[], float]) -> HTTPClient:
    """Connect by real sockets, through py-consul."""
    from .consul_http import Consul, HTTPClient  # the drivers take a third of a second to import

    return Consul(HTTPClient(settings, shown=shown, timeout=timeout, clock=clock)).http
