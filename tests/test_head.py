"""What the processors of one deployment have agreed on, in the store and on a machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dagfactory_consul.head import Head, Heads
from dagfactory_consul.stores import open_store
from dagfactory_consul.stores.base import Store
from dagfactory_consul.stores.memory import MemoryStore
from demo.consul import ConsulAgent

HEAD = Head(1, "v1", "state", "snapshot", {"00": "ref", "01": "other"}, 5.0, "host:1", "tenants")


@pytest.fixture(params=["memory", "folder", "consul"])
def store(request: pytest.FixtureRequest, tmp_path: Path, consul_prefix: str) -> Iterator[Store]:
    """A place whose swaps exclude each other, of each kind."""
    opened = _open(request, tmp_path, consul_prefix)
    yield opened
    opened.close()


def _open(request: pytest.FixtureRequest, tmp_path: Path, consul_prefix: str) -> Store:
    if request.param == "memory":
        return MemoryStore(tmp_path.name)
    if request.param == "folder":
        (tmp_path / "config").mkdir()
        return open_store(str(tmp_path / "config")).beside("runtime")
    agent: ConsulAgent = request.getfixturevalue("consul_agent")
    return open_store(agent.url, prefix=consul_prefix).beside("runtime")


def test_one_of_two_wins(store: Store, tmp_path: Path) -> None:
    """Of two that have read the same, one is agreed on; the other one reads what that is."""
    one, other = (Heads(lambda: store, "tested", tmp_path / name) for name in ("one", "other"))
    assert one.read() is None
    assert one.swap(HEAD, None)
    assert not other.swap(HEAD._replace(by="host:2"), None)
    entry = other.read()
    assert entry is not None
    assert Head.of_bytes(entry.value) == HEAD
    assert other.swap(HEAD._replace(sequence=2), entry)
    assert not one.swap(HEAD._replace(sequence=2, by="host:1"), entry)


def test_deployments_do_not_see_each_other(store: Store, tmp_path: Path) -> None:
    """Each has a head of its own beside the same prefix."""
    Heads(lambda: store, "one", tmp_path / "one").swap(HEAD, None)
    assert Heads(lambda: store, "other", tmp_path / "other").read() is None


def test_what_was_applied_is_read_again(tmp_path: Path) -> None:
    """A machine notes what it has applied; until then, and where it is damaged, that is nothing."""
    heads = Heads(lambda: MemoryStore(tmp_path.name), "tested", tmp_path / "base/head.json")
    assert heads.applied() is None
    heads.apply(HEAD)
    assert heads.applied() == HEAD
    heads.path.write_bytes(HEAD.to_bytes()[:-4])
    assert heads.applied() is None


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"format": 2}', HEAD.to_bytes().replace(b'"sequence":1', b'"other":1'), b"\xff\xfe"],
)
def test_what_cannot_be_read_is_one_kind_of_error(data: bytes) -> None:
    """Whatever a head is that nobody can read, it is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011  # its text is json's, or ours
        Head.of_bytes(data)


def test_equal_heads_are_equal_bytes() -> None:
    """What is compared and set is compared as bytes."""
    turned = HEAD._replace(documents={"01": "other", "00": "ref"})
    assert turned.to_bytes() == HEAD.to_bytes()
    assert Head.of_bytes(HEAD.to_bytes()) == HEAD
