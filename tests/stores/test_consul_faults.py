"""What becomes of a read when the network, a gateway or Consul itself has a bad day."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable, Iterator

import pytest

from dagfactory_consul.errors import (
    StoreDenied,
    StoreError,
    StoreFiltered,
    StoreLeaderless,
    StoreRejected,
    StoreUnreachable,
)
from dagfactory_consul.stores import Reading
from dagfactory_consul.stores.base import MAX_VALUE_BYTES
from dagfactory_consul.stores.consul import ConsulStore
from tests import proxy as bad
from tests.proxy import Behaviour, Proxy

from .conftest import OpenConsul

TIMEOUT = 0.5


@pytest.fixture
def filled(direct: ConsulStore) -> Reading:
    """What really stands in Consul."""
    direct.put_many([("_ready", b""), ("tenants/acme", b'{"enabled":true}'), ("tenants/zenith", b"{}" * 500)])
    return direct.read()


@pytest.fixture
def store(filled: Reading, open_consul: OpenConsul, proxy: Proxy) -> ConsulStore:
    """A store that reaches Consul through the proxy."""
    assert filled.entries
    return open_consul(proxy.port, timeout=TIMEOUT)


def is_recursive(line: str) -> bool:
    return "recurse" in line


def is_stale(line: str) -> bool:
    return "stale" in line


def failure_of(store: ConsulStore) -> tuple[StoreError, float]:
    """Read, and return the failure with the seconds that it took."""
    start = time.monotonic()
    with pytest.raises(StoreError) as caught:
        store.read()
    return caught.value, time.monotonic() - start


def test_one_request_reads_all(store: ConsulStore, proxy: Proxy, filled: Reading) -> None:
    """A reading is one recursive request, however many keys there are."""
    assert store.read().entries == filled.entries
    assert [exchange.line for exchange in proxy.exchanges] == [f"GET /v1/kv/{store.prefix}?recurse=1&stale=1"]


def test_refused(store: ConsulStore, proxy: Proxy) -> None:
    """A refused connection is an unreachable store, tried again until the deadline and no longer."""
    proxy.refuse()
    failure, seconds = failure_of(store)
    assert isinstance(failure, StoreUnreachable)
    assert seconds < TIMEOUT + 0.2


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(bad.hangs, id="hangs"),
        pytest.param(bad.dribbles(0.05), id="slow headers"),
        pytest.param(bad.dribbles_body(0.05), id="slow body"),
    ],
)
def test_slow(store: ConsulStore, proxy: Proxy, behaviour: Behaviour) -> None:
    """A server that says nothing, or a byte now and then, is given up at the deadline."""
    proxy.behaviour = behaviour
    failure, seconds = failure_of(store)
    assert isinstance(failure, StoreUnreachable)
    assert seconds < TIMEOUT + 0.2


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(bad.cuts(0), id="nothing"),
        pytest.param(bad.cuts(30), id="half the headers"),
        pytest.param(bad.cuts(600), id="half the body"),
        pytest.param(bad.with_body(b'[{"Key": "tenants/ac'), id="half the JSON"),
        pytest.param(bad.with_body(b"<html>Welcome</html>"), id="a page"),
        pytest.param(bad.with_body(b'{"Key": 1}'), id="other JSON"),
        pytest.param(bad.with_body(b'[{"Key": "of-another/x", "Value": "", "ModifyIndex": 1}]'), id="another prefix"),
        pytest.param(bad.with_body(b"\xff\xfe\x00"), id="no text"),
        pytest.param(bad.answers(200, "[]"), id="no index"),
        pytest.param(bad.answers(302, "", Location="http://127.0.0.1:1/"), id="elsewhere"),
    ],
)
def test_half_an_answer(store: ConsulStore, proxy: Proxy, behaviour: Behaviour) -> None:
    """What is not a whole answer of Consul's is an unreachable store, never a shorter list."""
    proxy.behaviour = behaviour
    failure, seconds = failure_of(store)
    assert isinstance(failure, StoreUnreachable)
    assert seconds < TIMEOUT + 0.2


@pytest.mark.parametrize("field", ['"Value": "!!"', '"Value": "YQ"', '"Value": 7', '"Volue": ""'])
def test_values_that_are_none(store: ConsulStore, proxy: Proxy, field: str) -> None:
    """A value that is not what Consul writes is an unreachable store, never an entry."""
    row = f'[{{"Key": "{store.prefix}tenants/acme", {field}, "ModifyIndex": 1}}]'
    proxy.behaviour = bad.with_body(row.encode())
    assert isinstance(failure_of(store)[0], StoreUnreachable)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_servers_errors_are_tried_again(store: ConsulStore, proxy: Proxy, filled: Reading, status: int) -> None:
    """A server's error, or its wish to be left alone, is tried again; if it stays so, the store is unreachable."""
    proxy.behaviour = bad.in_turn(bad.answers(status), bad.answers(status), bad.passes)
    assert store.read().entries == filled.entries
    proxy.behaviour = bad.answers(status, "rpc error: no path")
    failure, seconds = failure_of(store)
    assert isinstance(failure, StoreUnreachable)
    assert f"{status}: rpc error" in str(failure)
    assert seconds < TIMEOUT + 0.2


def test_transport_errors_are_tried_again(store: ConsulStore, proxy: Proxy, filled: Reading) -> None:
    """A connection that breaks is made anew."""
    proxy.behaviour = bad.in_turn(bad.cuts(0), bad.cuts(100), bad.passes)
    assert store.read().entries == filled.entries


@pytest.mark.parametrize(
    ("status", "kind"), [(400, StoreRejected), (403, StoreDenied), (401, StoreDenied), (413, StoreRejected)]
)
def test_refusals_fail_at_once(store: ConsulStore, proxy: Proxy, status: int, kind: type[StoreError]) -> None:
    """What cannot succeed is not tried again: one request, one error."""
    proxy.behaviour = bad.answers(status, "reason")
    failure, _ = failure_of(store)
    assert type(failure) is kind
    assert len(proxy.exchanges) == 1


def test_retry_after_is_heard(store: ConsulStore, proxy: Proxy) -> None:
    """A server that asks for more time than there is left is not asked again."""
    proxy.behaviour = bad.answers(429, "slow down", Retry_After="60")
    failure, seconds = failure_of(store)
    assert isinstance(failure, StoreUnreachable)
    assert sum(is_recursive(exchange.line) for exchange in proxy.exchanges) == 1
    assert seconds < TIMEOUT / 2


def test_no_leader(store: ConsulStore, proxy: Proxy) -> None:
    """A server's error that is about the leader is told apart from one that is not."""
    proxy.behaviour = bad.answers(500, "No cluster leader")
    assert isinstance(failure_of(store)[0], StoreLeaderless)


def test_index_that_goes_backwards(store: ConsulStore, proxy: Proxy, filled: Reading) -> None:
    """An index below the last one, as after a restored backup, is another mark, and the entries are read."""
    proxy.behaviour = bad.with_headers(X_Consul_Index="3")
    assert store.probe() == "3" != filled.mark
    assert store.read() == Reading(filled.entries, mark="3", source=store.url)


def test_access_rules_that_consul_admits(store: ConsulStore, proxy: Proxy) -> None:
    """Where Consul says that it has filtered its answer, nothing is read, whole as it may look."""
    proxy.behaviour = bad.with_headers(X_Consul_Results_Filtered_By_ACLs="true")
    failure, _ = failure_of(store)
    assert isinstance(failure, StoreFiltered)
    assert f'key_prefix "{store.prefix}"' in str(failure)


def test_old_copy_is_not_believed(store: ConsulStore, proxy: Proxy, filled: Reading) -> None:
    """A server that has not heard from the leader for too long is passed over: the leader is asked."""
    proxy.behaviour = bad.when(is_stale, bad.with_headers(X_Consul_LastContact="10001"))
    assert store.read().entries == filled.entries
    assert [exchange.line.partition("recurse=1")[2] for exchange in proxy.exchanges] == ["&stale=1", "&consistent=1"]


def test_copy_of_a_moment_ago_is_believed(store: ConsulStore, proxy: Proxy, filled: Reading) -> None:
    """A copy that is fresh enough counts, even while a new leader is elected."""
    proxy.behaviour = bad.with_headers(X_Consul_LastContact="9999", X_Consul_KnownLeader="false")
    assert store.read().entries == filled.entries
    assert len(proxy.exchanges) == 1


def test_old_copy_without_a_leader(store: ConsulStore, proxy: Proxy) -> None:
    """An old copy, and no leader to ask, is a leaderless store, at once."""
    proxy.behaviour = bad.with_headers(X_Consul_LastContact="10001", X_Consul_KnownLeader="false")
    failure, seconds = failure_of(store)
    assert isinstance(failure, StoreLeaderless)
    assert seconds < TIMEOUT / 2


def test_blank_copy_without_a_leader(store: ConsulStore, proxy: Proxy) -> None:
    """An empty list during an election is a leaderless store, never "no entries"."""
    headers = {"X_Consul_LastContact": "20", "X_Consul_KnownLeader": "false", "X_Consul_Index": "5"}
    proxy.behaviour = bad.answers(404, **headers)
    assert isinstance(failure_of(store)[0], StoreLeaderless)


def test_blank_copy_is_asked_again(store: ConsulStore, proxy: Proxy, filled: Reading) -> None:
    """An empty list of a server's own copy is believed only when the leader says the same."""
    proxy.behaviour = bad.when(is_stale, bad.answers(404, X_Consul_Index="5"))
    assert store.read().entries == filled.entries


def test_list_without_rows(store: ConsulStore, proxy: Proxy, filled: Reading) -> None:
    """A list without rows, which Consul does not send, is no more believed than a 404."""
    proxy.behaviour = bad.when(is_stale, bad.with_body(b"[]"))
    assert store.read().entries == filled.entries


@pytest.mark.parametrize("body", [b'["of-another/x"]', b'["', b"<html>", b"[1]", b'[{"Key": "x"}]', b"null"])
def test_lists_of_keys_that_are_none(store: ConsulStore, proxy: Proxy, body: bytes) -> None:
    """What is not a whole list of this prefix's keys is an unreachable store, never a shorter list."""
    proxy.behaviour = bad.with_body(body)
    with pytest.raises(StoreUnreachable):
        store.keys()


def test_blank_list_of_keys_is_asked_again(store: ConsulStore, proxy: Proxy, filled: Reading) -> None:
    """An empty list of keys is believed only when the leader says the same, and never while the marker is there."""
    proxy.behaviour = bad.when(is_stale, bad.answers(404, X_Consul_Index="5"))
    assert store.keys() == [entry.key for entry in filled.entries]
    proxy.behaviour = bad.when(lambda line: "keys" in line, bad.answers(404, X_Consul_Index="5"))
    with pytest.raises(StoreUnreachable, match="contradicts itself"):
        store.keys()


def test_keys_that_consul_admits_to_hide(store: ConsulStore, proxy: Proxy) -> None:
    """Where Consul says that it has filtered its list of keys, there is no list."""
    proxy.behaviour = bad.with_headers(X_Consul_Results_Filtered_By_ACLs="true")
    with pytest.raises(StoreFiltered, match="Consul says so"):
        store.keys()


def test_key_that_a_copy_lacks(store: ConsulStore, proxy: Proxy) -> None:
    """A key that is not in a server's own copy is asked of the leader: it may have been written a moment ago."""
    proxy.behaviour = bad.when(is_stale, bad.answers(404, X_Consul_Index="5"))
    entry = store.get("tenants/acme")
    assert entry is not None
    assert entry.value == b'{"enabled":true}'


@pytest.mark.parametrize("behaviour", [bad.cuts(0), bad.cuts(40), bad.with_body(b"<html>")])
def test_swap_whose_answer_is_lost(store: ConsulStore, direct: ConsulStore, proxy: Proxy, behaviour: Behaviour) -> None:
    """A swap whose answer does not come is an unreachable store, though it may be done; it is not sent again."""
    proxy.behaviour = bad.when(lambda line: line.startswith("PUT"), behaviour)
    with pytest.raises(StoreUnreachable):
        store.swap("head", b"1", None)
    assert sum(exchange.line.startswith("PUT") for exchange in proxy.exchanges) == 1
    head = direct.get("head")
    assert head is not None
    assert head.value == b"1"


def test_many_writes_to_a_slow_server(store: ConsulStore, direct: ConsulStore, proxy: Proxy) -> None:
    """Each transaction has the whole time-out: that many take longer than one is no failure."""

    def slow(exchange: bad.Exchange) -> Iterator[bytes]:
        exchange.wait(TIMEOUT / 3)
        yield exchange.forward()

    proxy.behaviour = slow
    start = time.monotonic()
    store.put_many([(f"blobs/{number}", b"x") for number in range(64 * 4)])
    assert time.monotonic() - start > TIMEOUT
    assert len(direct.keys()) == 64 * 4 + 3


def test_write_that_nobody_takes(store: ConsulStore, proxy: Proxy) -> None:
    """A gateway that knows no such path answers 404, to a write too: it is not written, and says so."""
    proxy.behaviour = bad.answers(404, "no such route")
    acts: list[Callable[[], object]] = [
        lambda: store.put("x", b"1"),
        lambda: store.put_many([("x", b"1"), ("y", b"1")]),
        lambda: store.swap("x", b"1", None),
        lambda: store.delete("x"),
    ]
    for act in acts:
        with pytest.raises(StoreUnreachable, match="is the address right"):
            act()


def test_contradiction(store: ConsulStore, proxy: Proxy) -> None:
    """A prefix that is empty while its marker exists is not believed."""
    proxy.behaviour = bad.when(is_recursive, bad.answers(404, X_Consul_Index="5"))
    failure, _ = failure_of(store)
    assert isinstance(failure, StoreUnreachable)
    assert "contradicts itself" in str(failure)


def test_recovers(store: ConsulStore, proxy: Proxy, filled: Reading) -> None:
    """A store that has failed answers as soon as its server does."""
    proxy.behaviour = bad.hangs
    failure_of(store)
    proxy.behaviour = bad.passes
    assert store.read().entries == filled.entries


def test_gateway_that_repeats_the_token(proxy: Proxy, open_consul: OpenConsul) -> None:
    """A gateway's error page that repeats the request's headers does not bring the token into our error."""
    token = "5e1f-secret-token-0d2c"  # noqa: S105  # it opens nothing
    proxy.behaviour = bad.answers(400, f"Bad request: X-Consul-Token: {token}")
    failure, _ = failure_of(open_consul(proxy.port, token=token))
    assert proxy.exchanges[0].headers["x-consul-token"] == token
    assert token not in str(failure)
    assert "***" in str(failure)


@pytest.mark.parametrize("number", ["9" * 5000, "-1", "1e3", "nan", "", "\u00b2", "0x10", str(2**63)])
@pytest.mark.parametrize("header", ["X_Consul_LastContact", "X_Consul_Index"])
def test_headers_that_are_no_numbers(store: ConsulStore, proxy: Proxy, header: str, number: str) -> None:
    """A number that Consul cannot have written is an answer that does not count, whichever way the store is asked."""
    proxy.behaviour = bad.with_headers(**{header: number})
    acts: list[Callable[[], object]] = [store.read, store.probe, lambda: store.await_change("1", 0.1)]
    for act in acts if header == "X_Consul_Index" else []:
        with pytest.raises(StoreUnreachable, match="no X-Consul-Index"):
            act()
    if header == "X_Consul_LastContact":  # the leader is asked instead, and its own word is taken
        assert store.read().entries
        assert not is_stale(proxy.exchanges[-1].line)


@pytest.mark.parametrize("index", ["-1", "9" * 5000, str(2**64), "1.5", '"1"', "null"])
def test_indexes_of_rows_that_are_none(store: ConsulStore, proxy: Proxy, index: str) -> None:
    """A row whose index is none of 64 bits is an unreachable store."""
    row = f'[{{"Key": "{store.prefix}tenants/acme", "Value": "e30=", "ModifyIndex": {index}}}]'
    proxy.behaviour = bad.with_body(row.encode())
    assert isinstance(failure_of(store)[0], StoreUnreachable)


def test_packed_answer_is_refused_unread(store: ConsulStore, proxy: Proxy) -> None:
    """A packed answer, which was not asked for, is not unpacked: few bytes of it may become gigabytes."""
    bomb = gzip.compress(b" " * 50_000_000)
    proxy.behaviour = bad.with_headers(Content_Encoding="gzip", Content_Length=str(len(bomb)))
    assert "packed answer" in str(failure_of(store)[0])
    assert {exchange.headers["accept-encoding"] for exchange in proxy.exchanges} == {"identity"}


def test_flood_is_not_read_to_its_end(open_consul: OpenConsul, proxy: Proxy) -> None:
    """An answer without an end is given up at `max_bytes`, and not asked for again."""
    sent: list[int] = []

    def floods(_: bad.Exchange) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nConnection: close\r\n\r\n["
        while True:
            sent.append(65536)
            yield b" " * 65536

    proxy.behaviour = bad.when(is_recursive, floods)
    failure, _ = failure_of(open_consul(proxy.port, max_bytes=1_000_000, timeout=20.0))
    assert "more than 1,000,000 bytes (max_bytes)" in str(failure)
    assert sum(sent) < 20_000_000  # the sockets' buffers hold some
    assert sum(is_recursive(exchange.line) for exchange in proxy.exchanges) == 1


def test_a_document_over_the_limit_is_one_documents_problem(store: ConsulStore, proxy: Proxy) -> None:
    """A value that a Consul with other limits holds is unreadable, and its neighbours are read."""
    large = base64.b64encode(b"x" * (MAX_VALUE_BYTES + 1)).decode()
    rows = [
        {"Key": f"{store.prefix}tenants/{name}", "Value": value, "ModifyIndex": 1}
        for name, value in (("acme", "e30="), ("evil", large))
    ]
    proxy.behaviour = bad.with_body(json.dumps(rows).encode())
    reading = store.read()
    assert [entry.key for entry in reading.entries] == ["tenants/acme"]
    assert "524,289 bytes" in reading.unreadable["tenants/evil"]


def test_a_refusal_cannot_steer_a_terminal(store: ConsulStore, proxy: Proxy) -> None:
    """What a server says in a refusal is shown without its control characters."""
    proxy.behaviour = bad.answers(400, "no\x1b[2J\r\n\x07\u202eway")
    said = str(failure_of(store)[0])
    assert said.isprintable()
    assert "no" in said


@pytest.mark.parametrize("status", ["HTTP/1.1 99999999999 x", "HTTP/1.1 -1 x", "HTTP/1.1 2\x000 x", "HTTP/9.9 200 OK"])
def test_lines_that_are_no_status(store: ConsulStore, proxy: Proxy, status: str) -> None:
    """A first line that is none of HTTP's is an unreachable store."""
    proxy.behaviour = lambda _: iter([f"{status}\r\nContent-Length: 2\r\n\r\n[]".encode()])
    assert isinstance(failure_of(store)[0], StoreUnreachable)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"X-Consul-Index: \xff\xfe", id="no text"),
        pytest.param(b"X-Consul-Index: 5\r\nX-Consul-Index: 6", id="twice"),
        pytest.param(b"Content-Length: 99999999999999999999999", id="a length beyond all"),
        pytest.param(b"Content-Length: -5", id="a length below nothing"),
        pytest.param(b"Transfer-Encoding: weird", id="another transfer"),
        pytest.param(b"X: " + b"a" * 1_000_000, id="a header of a megabyte"),
        pytest.param(b"a\x00b: c", id="NUL in a name"),
        pytest.param(b"X-Consul-Index: 5\r\nContent-Encoding: \xff", id="an encoding that is no text"),
    ],
)
def test_headers_that_nobody_writes(store: ConsulStore, proxy: Proxy, line: bytes) -> None:
    """Strange headers are an answer that does not count, never an exception of the driver's."""
    proxy.behaviour = lambda _: iter([b"HTTP/1.1 200 OK\r\n" + line + b"\r\nConnection: close\r\n\r\n[]"])
    assert isinstance(failure_of(store)[0], StoreUnreachable)
