"""The store on real Consuls: with access rules, without a leader, killed and restarted, over TLS and a socket."""

from __future__ import annotations

import datetime as dt
import gc
import logging
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from dagfactory_consul.errors import (
    StoreDenied,
    StoreError,
    StoreFiltered,
    StoreLeaderless,
    StoreRejected,
    StoreUnreachable,
)
from dagfactory_consul.stores import Entry, open_store
from dagfactory_consul.stores.consul import ConsulStore
from dagfactory_consul.stores.consul_http import Consul, HTTPClient, Retry
from dagfactory_consul.stores.consul_settings import ConsulSettings, Secret
from demo.consul import ConsulAgent
from tests import proxy as bad
from tests.proxy import Proxy
from tests.waiting import wait_until

from .conftest import OpenConsul

# --- what is in Consul, and how it is read -------------------------------------------------------------------------


def put_raw(agent: ConsulAgent | tuple[str, int], key: str, value: bytes = b"") -> None:
    """Write as others do: the UI, `consul kv put`."""
    host, port = agent if isinstance(agent, tuple) else ("127.0.0.1", agent.port)
    httpx.put(f"http://{host}:{port}/v1/kv/{key}", content=value).raise_for_status()


def test_folders_and_empty_values(consul_agent: ConsulAgent, direct: ConsulStore) -> None:
    """Keys that end in a slash, as the UI makes for folders, are no entries; a key without a value is empty."""
    for key in ("", "tenants/", "tenants/acme"):
        put_raw(consul_agent, direct.prefix + key)
    assert [(entry.key, entry.value) for entry in direct.read().entries] == [("tenants/acme", b"")]


def test_siblings_are_not_read(consul_agent: ConsulAgent, direct: ConsulStore) -> None:
    """A key whose name only begins like the prefix does not belong to it."""
    put_raw(consul_agent, direct.prefix.rstrip("/") + "-other/x", b"1")
    put_raw(consul_agent, direct.prefix.rstrip("/"), b"1")
    assert direct.read().entries == ()


def test_names_are_quoted(direct: ConsulStore) -> None:
    """Whatever a key is made of, it comes back as it was."""
    keys = ["a b", "percent%20", "question?x=1", "hash#1", "plus+", "\u00e9t\u00e9/\u4e2d"]
    direct.put_many([(key, b"1") for key in keys])
    direct.put("alone?&%", b"2")
    assert [entry.key for entry in direct.read().entries] == sorted([*keys, "alone?&%"])
    assert direct.get("alone?&%") is not None


def test_emptied_prefix_is_an_answer(direct: ConsulStore, consul_agent: ConsulAgent) -> None:
    """A prefix that has been emptied is known to be empty, and has another mark."""
    direct.put_many([("_ready", b""), ("tenants/acme", b"{}")])
    before = direct.probe()
    httpx.delete(f"http://{consul_agent.address}/v1/kv/{direct.prefix}?recurse").raise_for_status()
    assert direct.read().entries == ()
    assert direct.read().mark == direct.probe() != before


def test_unrelated_writes_do_not_move_the_mark(direct: ConsulStore, consul_agent: ConsulAgent) -> None:
    """What changes elsewhere in Consul, and the same value written again, leaves the mark as it is."""
    direct.put("tenants/acme", b"{}")
    mark = direct.probe()
    put_raw(consul_agent, "elsewhere/" + direct.prefix, b"1")
    direct.put("tenants/acme", b"{}")
    assert direct.probe() == mark == direct.read().mark


@pytest.mark.timeout(60)
def test_a_change_is_waited_for(direct: ConsulStore, open_consul: OpenConsul, consul_agent: ConsulAgent) -> None:
    """A write ends the wait, elsewhere none does; what has changed already is not waited for."""
    direct.put("tenants/acme", b"{}")
    mark = direct.probe()
    assert mark is not None
    put_raw(consul_agent, "elsewhere/" + direct.prefix, b"1")
    began = time.monotonic()
    assert not direct.await_change(mark, 0.2)
    assert time.monotonic() - began >= 0.2
    waiting = threading.Thread(target=open_consul(consul_agent.port, timeout=60).await_change, args=(mark, 30.0))
    waiting.start()
    while waiting.is_alive() and direct.probe() == mark:
        direct.put("tenants/acme", b"[]")
    waiting.join(timeout=20)
    assert not waiting.is_alive()
    assert open_consul(consul_agent.port, timeout=60).await_change(mark, 30.0)


@pytest.mark.timeout(20)
def test_an_absent_prefix_is_waited_for(direct: ConsulStore) -> None:
    """What is not there has a mark to wait with, too."""
    mark = direct.probe()
    assert mark is not None
    assert mark.endswith(":absent")
    assert not direct.await_change(mark, 0.05)
    direct.put("tenants/acme", b"{}")
    assert direct.await_change(mark, 1.0)


def test_keys_without_a_marker(direct: ConsulStore, open_consul: OpenConsul, proxy: Proxy) -> None:
    """Keys are listed without their values, folders and siblings; where no marker is, one request asks for it."""
    direct.put_many([("tenants/acme", b"x" * 1000), ("a b?/\u00e9", b"1")])
    for key in (direct.prefix + "folder/", direct.prefix.rstrip("/") + "-history/v1"):
        put_raw(proxy.target, key)
    assert open_consul(proxy.port).keys() == ["a b?/\u00e9", "tenants/acme"]
    lines = [exchange.line for exchange in proxy.exchanges]
    assert lines == [f"GET /v1/kv/{direct.prefix}?keys=1&stale=1", f"GET /v1/kv/{direct.prefix}_ready?stale=1"]


def test_swap_goes_by_the_index(direct: ConsulStore) -> None:
    """An entry that was changed and changed back is another one; one that Consul has not given is never there."""
    direct.put("head", b"1")
    read = direct.get("head")
    direct.put("head", b"2")
    direct.put("head", b"1")
    assert not direct.swap("head", b"3", read)
    assert not direct.swap("new", b"3", Entry("new", b"1"))
    assert direct.keys() == ["head"]


def test_large_values_travel_with_small_ones(direct: ConsulStore, consul_agent: ConsulAgent) -> None:
    """Values that do not fit one transaction are written all the same, in few requests."""
    sizes = [400_000, 10, 200_000, 200_000, 524_288, 10, 10]
    with Proxy(("127.0.0.1", consul_agent.port)) as proxy:
        through = ConsulStore(ConsulSettings(port=proxy.port), prefix=direct.prefix)
        through.put_many([(f"t{number}", b"x" * size) for number, size in enumerate(sizes)])
        through.close()
        assert len(proxy.exchanges) <= 6
    assert [len(entry.value) for entry in direct.read().entries] == sizes


def test_value_over_another_limit(open_consul: OpenConsul, proxy: Proxy) -> None:
    """Where Consul's own limit is lower than ours, its refusal is final and says so."""
    proxy.behaviour = bad.answers(413, "Request body(524288 bytes) too large, max size: 1000 bytes.")
    with pytest.raises(StoreRejected, match="too large"):
        open_consul(proxy.port).put("large", b"x" * 524_288)
    assert len(proxy.exchanges) == 1


def test_nothing_is_imported_before_the_first_use() -> None:
    """To open a store costs neither an HTTP client nor a connection: they come with the first read."""
    code = (
        "import sys; from dagfactory_consul.stores import open_store; open_store('consul://127.0.0.1:1');"
        "sys.exit(', '.join({'httpx', 'consul', 'requests', 'airflow'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# --- access rules --------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(consul_with_acls: ConsulAgent, open_consul: OpenConsul) -> ConsulStore:
    """A filled store with the token that may do everything, on a Consul that refuses by default."""
    store = open_consul(consul_with_acls.port, token=consul_with_acls.token)
    store.put_many([("_ready", b""), ("flags/x", b"true"), ("tenants/acme", b"{}")])
    return store


WithRules = Callable[[str], ConsulStore]


@pytest.fixture
def with_rules(guarded: ConsulStore, consul_with_acls: ConsulAgent, open_consul: OpenConsul) -> WithRules:
    """Open the guarded store with a new token that has these rules; `%` stands for its prefix."""

    def open_limited(rules: str) -> ConsulStore:
        token = consul_with_acls.make_token(rules.replace("%", guarded.prefix))
        return open_consul(consul_with_acls.port, token=token)

    return open_limited


def test_token_that_may_read(with_rules: WithRules, guarded: ConsulStore) -> None:
    """A token that may read the whole prefix reads it, and needs no other right."""
    store = with_rules('key_prefix "%" { policy = "read" }')
    assert store.read().entries == guarded.read().entries
    assert store.probe() == guarded.probe()


@pytest.mark.parametrize("rules", ['key_prefix "other/" { policy = "read" }', 'key_prefix "%" { policy = "deny" }'])
def test_token_that_may_read_nothing(with_rules: WithRules, rules: str) -> None:
    """Consul answers 404 to a token without rights: that is a denied store, never an empty one."""
    store = with_rules(rules)
    for act in (store.read, store.keys):
        with pytest.raises(StoreDenied, match=r"key_prefix .* \{ policy = "):
            act()


@pytest.mark.usefixtures("guarded")
def test_without_a_token(consul_with_acls: ConsulAgent, open_consul: OpenConsul) -> None:
    """No token where one is needed is a denied store."""
    with pytest.raises(StoreDenied):
        open_consul(consul_with_acls.port).read()


@pytest.mark.usefixtures("guarded")
def test_unknown_token(consul_with_acls: ConsulAgent, open_consul: OpenConsul) -> None:
    """A token that Consul does not know, or no longer, is a denied store."""
    with pytest.raises(StoreDenied, match="ACL not found"):
        open_consul(consul_with_acls.port, token="7a7a7a7a-0000-0000-0000-000000000000").read()  # noqa: S106


def test_token_that_may_read_a_part(with_rules: WithRules) -> None:
    """Consul hides what a token may not see without a word: that is a filtered store, never a shorter list."""
    store = with_rules('key_prefix "%tenants/" { policy = "read" }')
    for act in (store.read, store.keys):
        with pytest.raises(StoreFiltered, match="access rules hide a part"):
            act()


def test_missing_marker_is_no_denial(with_rules: WithRules, guarded: ConsulStore) -> None:
    """Where the marker does not exist, and might be read, nothing is hidden."""
    guarded.delete("_ready")
    store = with_rules('key_prefix "%" { policy = "read" }')
    assert [entry.key for entry in store.read().entries] == store.keys() == ["flags/x", "tenants/acme"]


def test_empty_prefix_is_no_denial(with_rules: WithRules, guarded: ConsulStore) -> None:
    """A prefix that the token may read, and that is empty, is empty."""
    for entry in guarded.read().entries:
        guarded.delete(entry.key)
    store = with_rules('key_prefix "%" { policy = "read" }')
    assert (store.read().entries, store.keys()) == ((), [])


def test_single_key_that_may_not_be_read(with_rules: WithRules) -> None:
    """A key that the token may not see is denied, whether it exists or not."""
    store = with_rules('key_prefix "%tenants/" { policy = "read" }')
    for key in ("flags/x", "flags/none"):
        with pytest.raises(StoreDenied):
            store.get(key)


def test_token_that_may_not_write(with_rules: WithRules, guarded: ConsulStore) -> None:
    """A write without the right is denied, alone or in a transaction, and changes nothing."""
    store = with_rules('key_prefix "%" { policy = "read" }')
    before = guarded.read()
    writes: list[Callable[[], object]] = [
        lambda: store.put("tenants/acme", b"1"),
        lambda: store.put_many([("tenants/acme", b"1"), ("tenants/new", b"1")]),
        lambda: store.delete("tenants/acme"),
        lambda: store.swap("tenants/acme", b"1", store.get("tenants/acme")),
        lambda: store.swap("tenants/new", b"1", None),
    ]
    for write in writes:
        with pytest.raises(StoreDenied):
            write()
    assert guarded.read() == before


def test_lost_right_moves_the_mark(with_rules: WithRules, guarded: ConsulStore) -> None:
    """A token that has lost its rights sees another mark, so that the next read finds out."""
    assert with_rules('key_prefix "other/" { policy = "read" }').probe() != guarded.probe()


def test_environments_token_does_not_win(
    guarded: ConsulStore, consul_with_acls: ConsulAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A token file wins over CONSUL_HTTP_TOKEN in every request, though py-consul itself prefers the variable."""
    file = tmp_path / "token"
    file.write_text(consul_with_acls.token)
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "7a7a7a7a-0000-0000-0000-000000000000")
    store = open_store(f"{consul_with_acls.url}?token_file={file}", prefix=guarded.prefix)
    assert len(store.read().entries) == 3
    store.close()


def test_rotated_token_is_picked_up(guarded: ConsulStore, consul_with_acls: ConsulAgent, tmp_path: Path) -> None:
    """A token file that goes away denies, and that comes back with another token serves, without opening anew."""
    file = tmp_path / "token"
    store = ConsulStore(
        ConsulSettings(port=consul_with_acls.port, token=Secret(file=str(file))), prefix=guarded.prefix, timeout=0.5
    )
    with pytest.raises(StoreDenied, match=str(file)):
        store.read()
    file.write_text(consul_with_acls.token)
    assert len(store.read().entries) == 3
    store.close()


def test_py_consul_uses_our_transport(guarded: ConsulStore, consul_with_acls: ConsulAgent) -> None:
    """py-consul's own calls work over the transport, with the token of the settings and our errors."""
    settings = ConsulSettings(port=consul_with_acls.port, token=Secret(consul_with_acls.token))
    client = Consul(HTTPClient(settings, shown="consul://here"))
    index, row = client.kv.get(f"{guarded.prefix}flags/x")
    assert (int(index) > 0, row["Value"]) == (True, b"true")
    client.http.close()
    anonymous = Consul(HTTPClient(ConsulSettings(port=consul_with_acls.port), shown="consul://here"))
    with pytest.raises(StoreDenied):
        anonymous.kv.get(f"{guarded.prefix}flags/x")
    anonymous.http.close()


def test_py_consul_adds_no_token_of_its_own(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings without a token send none, though py-consul itself takes CONSUL_HTTP_TOKEN in every case."""
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "of-another-server")
    client = Consul(HTTPClient(ConsulSettings(port=proxy.port), shown="consul://here"))
    client.kv.get("x")
    client.http.close()
    assert "x-consul-token" not in proxy.exchanges[0].headers


# --- the token is nowhere ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("guarded")
def test_token_is_nowhere(
    consul_with_acls: ConsulAgent,
    open_consul: OpenConsul,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The token is in no log, error, traceback with all its variables, repr, output or URL, however a call ends."""
    for name in ("", "httpx", "httpcore", "dagfactory_consul"):  # Airflow sets some of them apart
        caplog.set_level(logging.DEBUG, logger=name or None)
    with Proxy(("127.0.0.1", consul_with_acls.port)) as proxy:
        token = consul_with_acls.make_token('key_prefix "none/" { policy = "read" }')
        caplog.clear()
        store = open_consul(proxy.port, token=token, timeout=0.3)
        shown = [repr(store), store.url, repr(store.settings), repr(store.beside("x"))]
        for behaviour in (bad.passes, bad.hangs, bad.cuts(50), bad.answers(500), bad.answers(400), bad.with_body(b"<")):
            proxy.behaviour = behaviour
            acts = store.read, store.probe, store.keys, lambda: store.get("x"), lambda: store.put("x", b"1")
            for act in (*acts, lambda: store.swap("x", b"1", None)):
                _collect(act, shown)
        proxy.refuse()
        _collect(store.read, shown)
        assert all(exchange.headers["x-consul-token"] == token for exchange in proxy.exchanges)
        assert not [exchange.line for exchange in proxy.exchanges if token in exchange.line]
    assert len(shown) > 20
    assert "/v1/kv/" in caplog.text
    assert not [text for text in [*shown, caplog.text, *capfd.readouterr()] if token in text]


def _collect(act: Callable[[], object], shown: list[str]) -> None:
    """Add all that an error of the call shows."""
    try:
        act()
    except StoreError as exc:
        shown.extend([str(exc), repr(exc), repr(exc.args), repr(vars(exc)), full_traceback(exc)])


def full_traceback(exc: BaseException) -> str:
    """Return a traceback with the variables of every frame but the test's own, its causes and its contexts."""
    assert exc.__traceback__ is not None
    below = exc.with_traceback(exc.__traceback__.tb_next)
    return "".join(traceback.TracebackException.from_exception(below, capture_locals=True).format())


@pytest.mark.parametrize("token", ["s3cr\nt-token", "s3cr\u00e9t-token", "s3cr t\x07"])
def test_token_that_cannot_travel(proxy: Proxy, open_consul: OpenConsul, token: str) -> None:
    """A token that fits no header is a denied store, said without it, and nothing is sent."""
    with pytest.raises(StoreDenied, match="no single line") as caught:
        open_consul(proxy.port, token=token).read()
    assert "s3cr" not in full_traceback(caught.value)
    assert proxy.exchanges == []


def test_login_goes_as_basic_authentication(proxy: Proxy, open_consul: OpenConsul) -> None:
    """CONSUL_HTTP_AUTH travels as HTTP basic authentication, beside the token."""
    open_consul(proxy.port, token="t0ken", login=Secret("user:pass:word")).probe()  # noqa: S106
    headers = proxy.exchanges[0].headers
    assert (headers["authorization"], headers["x-consul-token"]) == ("Basic dXNlcjpwYXNzOndvcmQ=", "t0ken")


def test_parameters_go_with_every_request(proxy: Proxy, open_consul: OpenConsul) -> None:
    """Datacenter, namespace and partition go with every request."""
    proxy.behaviour = bad.answers(404, X_Consul_Index="1")
    open_consul(proxy.port, dc="dc2", namespace="n", partition="p").probe()
    assert proxy.exchanges[0].line.endswith("?dc=dc2&ns=n&partition=p&keys=1&separator=%2F&stale=1")


def test_path_before_the_api(proxy: Proxy, open_consul: OpenConsul) -> None:
    """A gateway's path stands before /v1."""
    proxy.behaviour = bad.answers(404, X_Consul_Index="1")
    open_consul(proxy.port, path="/gateway/consul").probe()
    assert proxy.exchanges[0].line.startswith("GET /gateway/consul/v1/kv/")


# --- without a leader, killed, restarted ---------------------------------------------------------------------------


def test_server_that_never_had_a_leader(consul_program: Path) -> None:
    """A server that waits for its first leader is leaderless within the deadline, though it answers after 7 s only."""
    with ConsulAgent(consul_program, expect=3).started_alone() as agent:
        store = ConsulStore(ConsulSettings(port=agent.port), timeout=0.8)
        for act in (store.read, store.probe, lambda: store.put("a", b"1")):
            start = time.monotonic()
            with pytest.raises(StoreLeaderless):
                act()
            assert time.monotonic() - start < 1.0
        store.close()


@pytest.fixture(scope="module")
def orphan(consul_program: Path) -> Iterator[ConsulAgent]:
    """A server that holds data and has lost the other one of two, and so its leader."""
    with ConsulAgent(consul_program, expect=2).started_alone() as first:
        with ConsulAgent(consul_program, expect=2, join=(first,)) as second:
            first.wait_for_leader()
            store = ConsulStore(ConsulSettings(port=first.port))
            store.put_many([("_ready", b""), ("tenants/acme", b"{}")])
            store.close()
            # In its own copy, not only where the leader is.
            wait_until(lambda: _own_copy(first).text.count("dagfactory/") == 2)
            second.kill()
        wait_until(lambda: _own_copy(first).headers["X-Consul-KnownLeader"] == "false", 15)
        yield first


def _own_copy(agent: ConsulAgent) -> httpx.Response:
    return httpx.get(f"http://{agent.address}/v1/kv/dagfactory/?keys&stale")


def test_copy_without_a_leader_counts_while_fresh(orphan: ConsulAgent) -> None:
    """A server that has just lost its leader still serves its copy, as long as that is fresh enough."""
    store = ConsulStore(ConsulSettings(port=orphan.port, max_staleness=600))
    assert [entry.key for entry in store.read().entries] == ["_ready", "tenants/acme"]
    store.close()


def test_copy_without_a_leader_does_not_count_for_ever(orphan: ConsulAgent) -> None:
    """Past `max_staleness` the same server is leaderless, and says so at once."""
    store = ConsulStore(ConsulSettings(port=orphan.port, max_staleness=0.001))
    start = time.monotonic()
    with pytest.raises(StoreLeaderless, match="its copy is"):
        store.read()
    assert time.monotonic() - start < 0.5
    store.close()


def test_nothing_is_absent_without_a_leader(orphan: ConsulAgent) -> None:
    """Without a leader no prefix and no key is known to be absent."""
    store = ConsulStore(ConsulSettings(port=orphan.port, max_staleness=600), prefix="none")
    for act in (store.read, store.probe, lambda: store.get("x")):
        with pytest.raises(StoreLeaderless):
            act()
    store.close()


def test_killed_and_restarted(consul_program: Path) -> None:
    """A store outlives its server: unreachable while it is away, and the same entries when it is back."""
    with ConsulAgent(consul_program) as agent:
        store = ConsulStore(ConsulSettings(port=agent.port), timeout=0.4)
        store.put("tenants/acme", b"{}")
        before = store.read()
        agent.kill()
        with pytest.raises(StoreUnreachable):
            store.read()
        agent.start()
        assert store.read() == before
        store.close()


def test_connection_that_was_closed_meanwhile(consul_program: Path) -> None:
    """A held connection that its server has closed is made anew before it is used: a swap, sent once, succeeds."""
    with ConsulAgent(consul_program) as agent:
        store = ConsulStore(ConsulSettings(port=agent.port))
        assert store.swap("head", b"1", None)
        head = store.get("head")
        agent.restart()
        assert store.swap("head", b"2", head)
        store.close()


def test_nothing_grows(direct: ConsulStore, proxy: Proxy, open_consul: OpenConsul) -> None:
    """However often a store is asked, and its connection closed, it holds one connection, and no more memory."""
    through = open_consul(proxy.port)  # which closes each connection after its answer
    through.probe()
    files = _open_files()
    for _ in range(100):
        through.probe()
    assert _open_files() <= files + 1
    direct.put("head", b"1")
    before = _objects_after(direct, 10)
    assert _objects_after(direct, 500) < before + 100


def _objects_after(store: ConsulStore, count: int) -> int:
    """Return how many objects Python holds when a store has been asked that often."""
    for _ in range(count):
        store.probe()
        store.get("head")
        store.get("none")
    gc.collect()
    return len(gc.get_objects())


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_client_is_made_anew_after_a_fork(direct: ConsulStore) -> None:
    """A forked process does not speak over its parent's connection."""
    direct.put("tenants/acme", b"{}")
    parents = direct._http
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):  # a forked test must not go on as a second run of all tests
            code = 0 if all(direct.read().entries for _ in range(20)) and direct._http is not parents else 2
        os._exit(code)
    readings = [direct.read() for _ in range(20)]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert all(reading == readings[0] for reading in readings)
    assert direct._http is parents


# --- time, without waiting -----------------------------------------------------------------------------------------


class Clock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client_with(clock: Clock, *answers: httpx.Response, timeout: float = 10.0) -> HTTPClient:
    """Make a client whose server gives these answers, the last one for ever."""
    left = list(answers)

    def handle(_: httpx.Request) -> httpx.Response:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    return HTTPClient(
        ConsulSettings(),
        shown="consul://test",
        timeout=timeout,
        retry=Retry(first=0.1, longest=1.0, randomness=lambda: 1.0),
        transport=httpx.MockTransport(handle),
        clock=clock,
        sleep=clock.sleep,
    )


def test_pauses_double_up_to_a_limit() -> None:
    """The pause between two attempts doubles up to its limit, and the last one ends before the deadline."""
    clock = Clock()
    with pytest.raises(StoreUnreachable, match="answered 503"):
        client_with(clock, httpx.Response(503), timeout=5.0).get(lambda answer: answer, "/v1/kv/x")
    assert clock.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])
    assert clock.now < 1005.0


def test_pauses_differ() -> None:
    """Two clients that fail together do not come back together: a pause is somewhere in the upper half of its time."""
    pauses = [Retry(first=0.1, randomness=random.Random(seed).random).pause(0) for seed in range(50)]  # noqa: S311
    assert len(set(pauses)) == 50
    assert all(0.05 <= pause <= 0.1 for pause in pauses)


def test_retry_after_is_kept() -> None:
    """A pause that the server asks for is kept, where the deadline allows it."""
    clock = Clock()
    answers = httpx.Response(429, headers={"Retry-After": "3"}), httpx.Response(200, content=b"ok")
    assert client_with(clock, *answers).get(lambda answer: answer.body, "/v1/kv/x") == "ok"
    assert clock.slept == [3.0]


def test_comparing_writes_are_not_repeated() -> None:
    """A write that compares first is sent once: a repeat would meet what it wrote itself."""
    for params in ({"cas": "7"}, {"acquire": "session"}):
        clock = Clock()
        with pytest.raises(StoreUnreachable):
            client_with(clock, httpx.Response(500)).put(lambda answer: answer, "/v1/kv/x", params=params, data=b"1")
        assert clock.slept == []


def test_close_ends_a_wait() -> None:
    """A client that is closed while it waits between two attempts waits no longer."""
    client = HTTPClient(
        ConsulSettings(),
        shown="",
        timeout=60.0,
        retry=Retry(first=50.0, longest=50.0),
        transport=httpx.MockTransport(lambda _: httpx.Response(503)),
    )
    done = threading.Event()

    def ask() -> None:
        with suppress(StoreError, RuntimeError):  # httpx says RuntimeError to a request after its close
            client.get(lambda answer: answer, "/v1/kv/x")
        done.set()

    threading.Thread(target=ask, daemon=True).start()
    client.close()
    assert done.wait(5)


# --- TLS and Unix sockets ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority of our own (ca.pem) and a server's certificate for server.dc1.consul (server.pem)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder = tmp_path_factory.mktemp("tls")
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])

    def certificate(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(ca_name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=1))
        return builder.not_valid_after(now + dt.timedelta(days=1))

    ca = certificate(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server.dc1.consul")])
    server = certificate(name, key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.DNSName("server.dc1.consul")]), critical=False
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (folder / "server.pem").write_bytes(server.sign(ca_key, hashes.SHA256()).public_bytes(pem) + private)
    return folder


@pytest.fixture
def tls_proxy(consul_agent: ConsulAgent, authority: Path) -> Iterator[Proxy]:
    """A proxy that speaks TLS, before the Consul that lets everybody do everything."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "server.pem")
    with Proxy(("127.0.0.1", consul_agent.port), tls=context) as proxy:
        yield proxy


def test_tls_with_the_right_authority(tls_proxy: Proxy, authority: Path, open_consul: OpenConsul) -> None:
    """A certificate of the named authority, for the named server, is trusted."""
    for ca in ({"ca_file": str(authority / "ca.pem")}, {"ca_path": str(authority)}):
        store = open_consul(tls_proxy.port, scheme="https", tls_server_name="server.dc1.consul", **ca)
        assert store.read().entries == ()


@pytest.mark.parametrize("trusted", [{}, {"ca_file": "ca.pem"}], ids=["unknown authority", "wrong name"])
def test_tls_is_verified(tls_proxy: Proxy, authority: Path, open_consul: OpenConsul, trusted: dict[str, str]) -> None:
    """A certificate of an unknown authority, or for another name, is refused at once, and no token is sent."""
    files = {name: str(authority / file) for name, file in trusted.items()}
    start = time.monotonic()
    with pytest.raises(StoreUnreachable, match=r"certificate is not trusted .*CONSUL_CACERT"):
        open_consul(tls_proxy.port, scheme="https", token="t0ken", timeout=5.0, **files).read()  # noqa: S106
    assert time.monotonic() - start < 2
    assert tls_proxy.exchanges == []


def test_tls_unverified(tls_proxy: Proxy, open_consul: OpenConsul) -> None:
    """Verification is off where it has been switched off."""
    assert open_consul(tls_proxy.port, scheme="https", verify=False).read().entries == ()


def test_tls_server_that_hangs(open_consul: OpenConsul) -> None:
    """A server that never ends its TLS handshake is given up at the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(StoreUnreachable):
            open_consul(silent.getsockname()[1], scheme="https", timeout=0.5).read()
        assert time.monotonic() - start < 0.7


def test_unix_socket(consul_program: Path, tmp_path: Path) -> None:
    """A Consul that listens on a Unix socket is read through it."""
    place = tmp_path / "consul.sock"
    with ConsulAgent(consul_program, unix_socket=place):
        store = open_store(f"consul+unix://{place}")
        store.put("tenants/acme", b"{}")
        assert len(store.read().entries) == 1
        store.close()
