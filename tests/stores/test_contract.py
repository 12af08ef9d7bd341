"""What every store promises, whatever it is made of."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dagfactory_consul.errors import StoreRejected, StoreUnreachable
from dagfactory_consul.stores import Store, open_store
from dagfactory_consul.stores.base import MAX_VALUE_BYTES
from dagfactory_consul.stores.chain import ChainStore
from dagfactory_consul.stores.memory import MemoryStore
from dagfactory_consul.stores.objects import ObjectStore
from demo.consul import ConsulAgent

WRITABLE = ["memory", "files", "consul", "chain", "fallback", "objects", "objects on disk"]
ATOMIC = ["memory", "files", "consul", "chain", "fallback"]
"""Those whose swaps exclude each other."""
ENTRIES = {
    "_ready": b"true",
    "defaults": b'{"retries":2}',
    "flags/process-messages": b"true",
    "tenants/acme": b'{"enabled":true}',
    "tenants/zenith": b'{"enabled":false}',
}

Fill = Callable[[dict[str, bytes]], Store]


@pytest.fixture
def store(request: pytest.FixtureRequest, kind: str, tmp_path: Path, consul_prefix: str) -> Iterator[Store]:
    """An empty store of each kind."""
    opened = _open(request, kind, tmp_path, consul_prefix)
    yield opened
    opened.close()


def _open(request: pytest.FixtureRequest, kind: str, tmp_path: Path, consul_prefix: str) -> Store:
    if kind == "memory":
        return open_store(f"memory://{tmp_path.name}", prefix=consul_prefix)
    if kind == "files":
        (tmp_path / "config").mkdir()
        return open_store(str(tmp_path / "config"))
    if kind == "objects":
        return ObjectStore(f"memory://bucket/{consul_prefix}")  # fsspec's memory, as open_store's is our own
    if kind == "objects on disk":
        return open_store(f"local://{tmp_path}/objects")
    agent: ConsulAgent = request.getfixturevalue("consul_agent")
    consul = open_store(agent.url, prefix=consul_prefix)
    if kind == "chain":
        consul = ChainStore([consul, MemoryStore("never asked")])
    elif kind == "fallback":
        consul = ChainStore([_WriteOnly(consul), consul])
    return consul


@pytest.fixture
def fill(request: pytest.FixtureRequest, kind: str, monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Make a store of each kind hold these entries, the read-only ones too."""

    def into_store(entries: dict[str, bytes]) -> Store:
        store: Store = request.getfixturevalue("store")
        for entry in store.read().entries:
            store.delete(entry.key)
        store.put_many(entries.items())
        return store

    def into_variable(entries: dict[str, bytes]) -> Store:
        tree: dict[str, Any] = {}
        for key, value in entries.items():
            *parts, last = key.split("/")
            (tree.setdefault(parts[0], {}) if parts else tree)[last] = json.loads(value)
        monkeypatch.setenv("AIRFLOW_VAR_CONTRACT", json.dumps(tree))
        return open_store("variable://contract")

    return into_variable if kind == "variable" else into_store


class _Unlimited(ConsulAgent):
    """A Consul whose operator has raised the limit of a value, as `limits.kv_max_value_size` does."""

    def _config(self) -> dict[str, Any]:
        return {**super()._config(), "limits": {"kv_max_value_size": 2_000_000}}


@pytest.fixture
def overfill(request: pytest.FixtureRequest, kind: str, tmp_path: Path, consul_prefix: str) -> Iterator[Fill]:
    """Make a store of each kind hold entries that it would not take."""
    started: list[_Unlimited] = []
    opened: list[Store] = []

    def by_another_way(entries: dict[str, bytes]) -> Store:
        if kind == "variable":
            fill: Fill = request.getfixturevalue("fill")
            return fill(entries)
        if kind in ("files", "objects on disk"):
            store: Store = request.getfixturevalue("store")
            root = tmp_path / ("config" if kind == "files" else "objects")
            for key, value in entries.items():
                (root / key).parent.mkdir(exist_ok=True, parents=True)
                (root / key).write_bytes(value)
            return store
        if kind in ("memory", "objects"):
            store = request.getfixturevalue("store")
        else:
            started.append(_Unlimited(request.getfixturevalue("consul_program")).start())
            store = open_store(started[0].url, prefix=consul_prefix)
            opened.append(store)
        with pytest.MonkeyPatch.context() as patch:  # the writer knows no limit
            patch.setattr(store, "check_size", lambda *_: None)
            store.put_many(entries.items())
        if kind == "chain":
            return ChainStore([store, MemoryStore("never asked")])
        return ChainStore([_WriteOnly(store), store]) if kind == "fallback" else store

    yield by_another_way
    for store in opened:
        store.close()
    for agent in started:
        agent.stop()


class _WriteOnly(Store):
    """A store that can be written and not read: so that a chain's next one answers, with the same entries."""

    def __init__(self, inner: Store) -> None:
        self.url = f"{inner.url}#write-only"
        self.put_many = inner.put_many  # type: ignore[method-assign]
        self.delete = inner.delete  # type: ignore[method-assign]
        self.swap = inner.swap  # type: ignore[method-assign]
        self._inner = inner

    def read(self) -> Any:
        raise StoreUnreachable("is asleep", store=self.url)

    probe = read

    def beside(self, name: str) -> Store:
        return _WriteOnly(self._inner.beside(name))

    def close(self) -> None:
        self._inner.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with every store that it is about."""
    if {"fill", "overfill"} & set(metafunc.fixturenames):
        metafunc.parametrize("kind", [*WRITABLE, "variable"])
    elif "store" in metafunc.fixturenames and "kind" not in _given(metafunc):
        metafunc.parametrize("kind", WRITABLE)


def _given(metafunc: pytest.Metafunc) -> list[str]:
    """Return what a test gives its own values for."""
    return [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]


def contents(store: Store) -> dict[str, bytes]:
    return {entry.key: entry.value for entry in store.read().entries}


def test_reads_what_it_holds(fill: Fill) -> None:
    """A reading holds every entry under its key, relative to the prefix, and sorted."""
    reading = fill(ENTRIES).read()
    assert [(entry.key, entry.value) for entry in reading.entries] == sorted(ENTRIES.items())


def test_empty_is_an_answer(fill: Fill) -> None:
    """A store that is known to hold nothing says so, and raises nothing."""
    assert fill({}).read().entries == ()


def test_gets_one_entry(fill: Fill) -> None:
    """One entry can be read alone; one that is known not to exist is None."""
    store = fill(ENTRIES)
    entry = store.get("tenants/acme")
    assert entry is not None
    assert (entry.key, entry.value) == ("tenants/acme", ENTRIES["tenants/acme"])
    assert store.get("tenants/nobody") is None


def test_lists_its_keys(fill: Fill) -> None:
    """The keys can be listed without their values, sorted; none is an answer."""
    assert fill(ENTRIES).keys() == sorted(ENTRIES)
    assert fill({}).keys() == []


def test_gets_many_entries(fill: Fill) -> None:
    """Several entries can be read by their keys; those that do not exist are left out."""
    found = fill(ENTRIES).get_many(iter(["tenants/acme", "tenants/nobody", "_ready"]))
    assert {key: entry.value for key, entry in found.items()} == {
        "tenants/acme": ENTRIES["tenants/acme"],
        "_ready": ENTRIES["_ready"],
    }
    assert all(entry.key == key for key, entry in found.items())


def test_reading_names_its_source(fill: Fill) -> None:
    """A reading says which store answered."""
    store = fill(ENTRIES)
    assert store.read().source in store.url


def test_mark_stays_while_nothing_changes(fill: Fill) -> None:
    """The mark of a reading is what a probe returns, as long as nothing has changed."""
    store = fill(ENTRIES)
    mark = store.read().mark
    assert mark is not None
    assert store.read().mark == mark
    assert store.probe() in {mark, None}


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param(ENTRIES | {"tenants/acme": b'{"enabled":null}'}, id="changed"),
        pytest.param(ENTRIES | {"tenants/new": b"{}"}, id="added"),
        pytest.param({key: value for key, value in ENTRIES.items() if key != "tenants/zenith"}, id="removed"),
        pytest.param({}, id="emptied"),
    ],
)
def test_mark_moves_with_every_change(fill: Fill, entries: dict[str, bytes]) -> None:
    """What is changed, added or removed gives another mark, to a reading and to a probe."""
    before = fill(ENTRIES).read().mark
    store = fill(entries)
    assert store.read().mark != before
    assert store.probe() != before


def test_put_replaces(store: Store) -> None:
    """Writing an entry again replaces its value, and its index grows, where the store keeps one."""
    store.put("tenants/acme", b'{"a":1}')
    first = store.get("tenants/acme")
    store.put("tenants/acme", b'{"a":2}')
    second = store.get("tenants/acme")
    assert first is not None
    assert second is not None
    assert second.value == b'{"a":2}'
    assert second.index > first.index or second.index == first.index == 0


def test_values_are_bytes(store: Store) -> None:
    """A value comes back byte for byte: empty, not text, or looking like something else."""
    values = {"empty": b"", "bytes": bytes(range(256)), "number": b" 1\n", "text": "tenants: [\u00e9]".encode()}
    store.put_many(values.items())
    assert contents(store) == values


def test_delete_removes(store: Store) -> None:
    """A deleted entry is gone, and to delete what is not there is no error."""
    store.put("tenants/acme", b"{}")
    store.delete("tenants/acme")
    store.delete("tenants/acme")
    assert contents(store) == {}


def test_writes_many(store: Store) -> None:
    """More entries than fit one transaction are all there afterwards."""
    entries = {f"tenants/t{number}": b"{}" * number for number in range(150)}
    store.put_many(entries.items())
    assert contents(store) == entries


def test_takes_values_up_to_the_limit(store: Store) -> None:
    """A value of 524,288 bytes is taken by every store; one more is refused, and nothing of the call is written."""
    store.put("large", b"x" * MAX_VALUE_BYTES)
    with pytest.raises(StoreRejected, match="524,289 bytes"):
        store.put_many([("tenants/large", b"x" * (MAX_VALUE_BYTES + 1))])
    with pytest.raises(StoreRejected, match="524,289 bytes"):
        store.swap("tenants/large", b"x" * (MAX_VALUE_BYTES + 1), None)
    assert [len(value) for value in contents(store).values()] == [MAX_VALUE_BYTES]


def test_one_value_over_the_limit(overfill: Fill, kind: str) -> None:
    """A value over the limit, written past this package, is one entry that cannot be read; the others are."""
    store = overfill({**ENTRIES, "tenants/evil": b'"' + b"x" * MAX_VALUE_BYTES + b'"'})
    reading = store.read()
    assert [entry.key for entry in reading.entries] == sorted(ENTRIES), kind
    assert list(reading.unreadable) == ["tenants/evil"]
    assert "524,290 bytes; a value ends at 524,288" in reading.unreadable["tenants/evil"]
    assert store.keys() == sorted([*ENTRIES, "tenants/evil"])
    for act in (lambda: store.get("tenants/evil"), lambda: store.get_many(["tenants/acme", "tenants/evil"])):
        with pytest.raises(StoreRejected, match=r"tenants/evil has 524,2(89|90) bytes"):
            act()
    assert store.get("tenants/acme") is not None


def test_swap_writes_what_is_still_there(store: Store) -> None:
    """A swap writes an entry that is still the expected one, or still missing, and says so."""
    assert store.swap("head", b"1", None)
    assert store.swap("head", b"2", store.get("head"))
    assert contents(store) == {"head": b"2"}


def test_swap_leaves_what_has_changed(store: Store) -> None:
    """A swap of an entry that has changed, gone or come since it was read writes nothing, and says so."""
    store.put("head", b"1")
    read = store.get("head")
    store.put("head", b"2")
    assert not store.swap("head", b"3", read)
    assert not store.swap("head", b"3", None)
    assert contents(store) == {"head": b"2"}
    store.delete("head")
    assert not store.swap("head", b"3", read)
    assert contents(store) == {}


@pytest.mark.parametrize("kind", ATOMIC)
def test_swaps_exclude_each_other(store: Store) -> None:
    """Of several swaps of the same entry one is done: a number that several count up loses no count."""
    store.put("head", b"0")

    def count() -> None:
        done = 0
        while done < 10:
            head = store.get("head")
            assert head is not None
            done += store.swap("head", b"%d" % (int(head.value) + 1), head)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(store) == {"head": b"40"}


def test_place_beside_is_empty_at_first(store: Store) -> None:
    """A place beside that nothing has been written to is known to hold nothing."""
    beside = store.beside("history")
    assert (beside.keys(), beside.read().entries, beside.get("v1")) == ([], (), None)
    assert beside.swap("v1", b"1", None)
    assert beside.keys() == ["v1"]
    beside.close()


def test_beside_is_another_place(store: Store) -> None:
    """What stands beside the prefix is not read with it, nor the other way round."""
    store.put("tenants/acme", b"{}")
    beside = store.beside("history")
    beside.put("v1", b"1")
    assert list(contents(store)) == ["tenants/acme"]
    assert list(contents(beside)) == ["v1"]
    beside.close()


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "tenants/../../x", "tenants//x", "tenants/", "a\0b", "a\nb"]
)
def test_refuses_keys_that_are_no_paths(store: Store, key: str) -> None:
    """A key that is no plain relative path is neither written nor deleted nor read."""
    acts: list[Callable[[], object]] = [
        lambda: store.put(key, b"x"),
        lambda: store.delete(key),
        lambda: store.get(key),
        lambda: store.get_many([key]),
        lambda: store.swap(key, b"x", None),
    ]
    for act in acts:
        with pytest.raises(StoreRejected, match="cannot be a key"):
            act()


def test_variable_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that this package does not write says so, whichever way one tries."""
    monkeypatch.setenv("AIRFLOW_VAR_CONTRACT", "{}")
    store = open_store("variable://contract")
    acts: list[Callable[[], object]] = [
        lambda: store.put("a", b"1"),
        lambda: store.put_many([("a", b"1")]),
        lambda: store.delete("a"),
        lambda: store.swap("a", b"1", None),
    ]
    for act in acts:
        with pytest.raises(StoreRejected, match="cannot be written"):
            act()
