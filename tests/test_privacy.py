"""What is written of a document that was refused, on a machine's disk and into the stores."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagfactory_consul.stores.base import Store
from tests.bundles import Site
from tests.deployment import shown

SECRET = "hunter2-hunter2"  # noqa: S105  # nobody's


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A deployment with two tenants of one DAG each."""
    site = Site(tmp_path)
    site.tenant("acme", "zenith")
    return site


def on_disk(folder: Path) -> Iterator[bytes]:
    return (path.read_bytes() for path in folder.rglob("*") if path.is_file())


def in_store(store: Store) -> Iterator[bytes]:
    """Yield all that a store holds, unpacked where it is packed."""
    for key in store.keys():  # noqa: SIM118  # a store is no mapping
        entry = store.get(key)
        assert entry is not None
        number, _, packed = entry.value.partition(b"\n")
        yield zlib.decompress(packed) if number.isdigit() else entry.value


@pytest.mark.parametrize("document", [{"dags": {"Job": {"password": SECRET}}}, f'{{"password": "{SECRET}"'.encode()])
def test_a_refused_text_is_written_nowhere(site: Site, document: object) -> None:
    """A secret, or a text that cannot be read, is in no file, history or status; the last good DAG stays."""
    one = site.machine().settle()
    site.put("tenants/acme", document)
    one.settle()
    assert any("tenants/acme" in line for line in one.processor.problems())
    assert shown(one.bag().dags["acme__job"]) == "10 v1"
    written = [*on_disk(one.disk), *in_store(site.store("history")), *in_store(site.store("runtime"))]
    assert len(written) > 10
    assert not [each for each in written if SECRET.encode() in each]
    site.tenant("acme", limit=20)
    assert shown(one.settle().dags()["acme__job"]) == "20 v1"
