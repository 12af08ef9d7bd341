"""The store that is a chain of others."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from dagfactory_consul.errors import (
    SettingsError,
    StoreDenied,
    StoreError,
    StoreFiltered,
    StoreLeaderless,
    StoreRejected,
    StoreUnreachable,
)
from dagfactory_consul.stores import open_store
from dagfactory_consul.stores.chain import ChainStore
from dagfactory_consul.stores.memory import MemoryStore


@pytest.fixture
def stores(consul_prefix: str) -> tuple[MemoryStore, MemoryStore]:
    """Two stores that hold different things."""
    first, second = MemoryStore("first", prefix=consul_prefix), MemoryStore("second", prefix=consul_prefix)
    first.put("tenants/acme", b"1")
    second.put("tenants/acme", b"2")
    return first, second


@pytest.mark.parametrize("kind", [StoreUnreachable, StoreLeaderless])
def test_next_answers(stores: tuple[MemoryStore, MemoryStore], kind: type[StoreError]) -> None:
    """Where the first store cannot be reached, or has no leader, the second one answers, and is named."""
    chain = ChainStore(stores)
    stores[0].failure = kind("away", store="first")
    reading = chain.read()
    entry = chain.get("tenants/acme")
    assert (reading.entries[0].value, reading.source) == (b"2", stores[1].url)
    assert entry is not None
    assert entry.value == b"2"
    assert chain.get_many(iter(["tenants/acme"])) == {"tenants/acme": entry}
    assert chain.keys() == ["tenants/acme"]


@pytest.mark.parametrize("kind", [StoreDenied, StoreFiltered, StoreRejected])
def test_faults_are_loud(stores: tuple[MemoryStore, MemoryStore], kind: type[StoreError]) -> None:
    """A store that denies, filters or refuses is a fault to be seen: the next one is not asked."""
    stores[0].failure = kind("no", store="first")
    chain = ChainStore(stores)
    gets = lambda: chain.get("tenants/acme"), lambda: chain.get_many(["tenants/acme"])
    for act in (chain.read, chain.probe, chain.keys, *gets):
        with pytest.raises(kind, match="no"):
            act()


def test_empty_is_an_answer(consul_prefix: str, stores: tuple[MemoryStore, MemoryStore]) -> None:
    """A first store that is empty has answered."""
    chain = ChainStore([MemoryStore("empty", prefix=consul_prefix), stores[1]])
    assert chain.read().entries == ()
    assert chain.get("tenants/acme") is None


def test_another_link_is_another_mark(consul_prefix: str) -> None:
    """Two links with equal marks of their own have different ones in the chain."""
    links = [MemoryStore(name, prefix=consul_prefix) for name in ("one", "two")]
    for link in links:
        link.put("x", b"1")
    chain = ChainStore(links)
    marks = [chain.probe(), chain.read().mark]
    links[0].failure = StoreUnreachable("away", store="one")
    marks += [chain.probe(), chain.read().mark]
    assert marks[0] == marks[1] != marks[2] == marks[3]


def test_the_link_that_answered_is_waited_for(consul_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the link that a reading came from is waited for, by that link's own mark."""
    links = [MemoryStore(name, prefix=consul_prefix) for name in ("one", "two")]
    wait = Mock(return_value=True)
    monkeypatch.setattr(links[1], "await_change", wait)
    links[0].failure = StoreUnreachable("away", store="one")
    chain = ChainStore(links)
    mark = chain.read().mark
    assert mark is not None
    assert chain.await_change(mark, 0.5)
    wait.assert_called_once_with(links[1].read().mark, 0.5)


def test_nobody_answers(stores: tuple[MemoryStore, MemoryStore]) -> None:
    """Where no store can be reached, the error has every store's reason."""
    for store, reason in zip(stores, ("cable", "fire"), strict=True):
        store.failure = StoreUnreachable(reason, store=store.url)
    with pytest.raises(StoreUnreachable, match=r"first.*cable.*second.*fire"):
        ChainStore(stores).read()


def test_writes_go_to_the_first(stores: tuple[MemoryStore, MemoryStore]) -> None:
    """Writes go to the first store alone, and fail where it fails: a swap, too, which knows what others gave."""
    chain = ChainStore(stores)
    chain.put("flags/x", b"true")
    chain.delete("tenants/acme")
    assert [entry.key for entry in stores[0].read().entries] == ["flags/x"]
    stores[0].failure = StoreUnreachable("away", store="first")
    with pytest.raises(StoreUnreachable):
        chain.put("flags/y", b"true")
    of_another = chain.get("tenants/acme")
    stores[0].failure = None
    stores[0].put("tenants/acme", b"2")
    assert not chain.swap("tenants/acme", b"3", of_another)
    assert [entry.key for entry in stores[1].read().entries] == ["tenants/acme"]


def test_opened_by_a_list(consul_prefix: str) -> None:
    """Several URLs, in a list or with commas between, are a chain in that order."""
    for urls in ("memory://a, memory://b", ["memory://a", "memory://b"]):
        chain = open_store(urls, prefix=consul_prefix)
        assert isinstance(chain, ChainStore)
        assert [store.url for store in chain.stores] == [f"memory://{name}/{consul_prefix}" for name in "ab"]


def test_needs_a_store() -> None:
    """A chain of nothing is an error."""
    with pytest.raises(SettingsError, match="at least one"):
        ChainStore([])
