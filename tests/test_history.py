"""What versions consist of, in a store and in the folder before it."""

from __future__ import annotations

import hashlib
import json
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagfactory_consul.errors import SnapshotError, StoreDenied, StoreUnreachable, VersionGoneError
from dagfactory_consul.history import History, part_of
from dagfactory_consul.keyed_file import dumps
from dagfactory_consul.manifest import Version, reference
from dagfactory_consul.stores import open_store
from dagfactory_consul.stores.base import Store
from dagfactory_consul.stores.memory import MemoryStore
from dagfactory_consul.stores.objects import ObjectStore
from dagfactory_consul.stores.replacing import replace_file
from demo.consul import ConsulAgent

STORES = ["memory", "folder", "objects", "objects on disk", "consul"]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path, consul_prefix: str) -> Iterator[Store]:
    """A place for a history, of each kind."""
    opened = _open(request, tmp_path, consul_prefix)
    yield opened
    opened.close()


def _open(request: pytest.FixtureRequest, tmp_path: Path, consul_prefix: str) -> Store:
    if request.param == "memory":
        return MemoryStore(tmp_path.name)
    if request.param == "folder":
        (tmp_path / "config").mkdir()
        return open_store(str(tmp_path / "config")).beside("history")
    if request.param == "objects":
        return ObjectStore(f"memory://bucket/{consul_prefix}")
    if request.param == "objects on disk":
        return open_store(f"local://{tmp_path}/objects")
    agent: ConsulAgent = request.getfixturevalue("consul_agent")
    return open_store(agent.url, prefix=consul_prefix).beside("history")


@pytest.fixture
def here(tmp_path: Path) -> History:
    """A history in memory, with a folder before it that is filled."""
    return History(lambda: MemoryStore(tmp_path.name), "tested", tmp_path / "cache", fill=True)


def elsewhere(history: History) -> History:
    """Return the same as a machine sees it that has nothing."""
    return History(lambda: history.store, history.deployment, None, fill=False)


def blobs(*data: bytes) -> dict[str, bytes]:
    return {reference(each): each for each in data}


def version(print_: str = "print", **files: str) -> Version:
    paths = {f"tenants/{name}.py": ref for name, ref in files.items()}
    return Version("", 5.0, paths, {"07": "ref"}, print_, "gone", "code", "blob", {"Job": ("airflow.a",)}).named()


V1, V2 = version(), version("other")


LARGE = random.Random(3).randbytes(2_000_000)  # noqa: S311  # only not to be packed
"""What cannot be packed into one key's value."""


def test_what_is_written_is_read_elsewhere(store: Store) -> None:
    """Contents of any size, and the version that they belong to, are found by a machine that has nothing."""
    known = blobs(b"", b"small", LARGE)
    History(lambda: store, "tested", None, fill=False).put(known, version(a="x"))
    other = History(lambda: store, "tested", None, fill=False)
    assert other.get(known) == known
    assert other.version(version(a="x").name) == version(a="x")
    assert other.version(V2.name) is None


def test_what_is_dropped_is_gone_with_all_its_parts(store: Store) -> None:
    """Dropping leaves no part behind, and touches neither what stays nor what another deployment keeps."""
    other = History(lambda: store, "other", None, fill=False)
    other.put(blobs(LARGE), version())
    history = History(lambda: store, "tested", None, fill=False)
    history.put(blobs(LARGE, b"stays"), version())
    history.put({}, V2)
    history.drop([V1.name], [reference(LARGE)])
    assert history.keys() == ({V2.name}, {reference(b"stays")})
    assert not [key for key in store.keys() if key.startswith("tested/") and ".part" in key]  # noqa: SIM118
    assert other.get([reference(LARGE)]) == blobs(LARGE)
    assert other.keys() == ({V1.name}, {reference(LARGE)})


def test_what_is_missing_is_an_error_that_says_so(here: History) -> None:
    """Contents that are neither here nor there are gone, which is another answer than a store's silence."""
    here.put(blobs(b"one"))
    with pytest.raises(VersionGoneError, match="and 1 others"):
        here.get([reference(b"one"), reference(b"two"), reference(b"three")])


def test_a_store_that_does_not_answer(here: History) -> None:
    """What is on this machine is read without the store; what is not is an error of the store's."""
    here.put(blobs(b"one"), version())
    here.store.failure = StoreUnreachable("asleep", store="x")  # type: ignore[attr-defined]
    assert here.get([reference(b"one")]) == blobs(b"one")
    assert here.version(V1.name) == V1
    with pytest.raises(StoreUnreachable):
        here.get([reference(b"two")])
    with pytest.raises(StoreUnreachable):
        here.version(V2.name)


@pytest.mark.parametrize("damaged", [b"", b"nonsense", b"1\nnonsense", b"7\n", b"99999999\n", b"9" * 5_000])
def test_damaged_contents_are_never_handed_out(here: History, damaged: bytes) -> None:
    """Contents whose hash is not their name are an error, or gone where a part of them is."""
    here.store.put(f"tested/blobs/{reference(b'one')}", damaged)
    with pytest.raises((SnapshotError, VersionGoneError)):
        here.get([reference(b"one")])


def test_other_contents_under_a_name_are_never_handed_out(here: History) -> None:
    """A store that gives whole, valid contents of another name has damaged them."""
    elsewhere(here).put({reference(b"one"): b"two"})
    with pytest.raises(SnapshotError, match="damaged"):
        here.get([reference(b"one")])


def test_a_part_that_is_missing(here: History) -> None:
    """Contents that lack a part are gone."""
    elsewhere(here).put(blobs(LARGE))
    here.store.delete(f"tested/blobs/{reference(LARGE)}.part2")
    with pytest.raises(VersionGoneError):
        here.get([reference(LARGE)])


def test_a_damaged_folder_is_read_over(here: History, tmp_path: Path) -> None:
    """What is damaged on this machine is had from the store, and is whole here afterwards."""
    here.put(blobs(b"one"), version())
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file():
            path.write_bytes(b"{")
    assert here.get([reference(b"one")]) == blobs(b"one")
    assert here.version(V1.name) == V1
    assert (tmp_path / "cache/blobs" / reference(b"one")).read_bytes() == b"one"


@pytest.mark.parametrize("written", ['{"name": "v1"}', "[]", "no json"])
def test_a_version_of_another_format_is_an_error_of_ours(here: History, written: str) -> None:
    """A record that this package cannot read is named, and is no failure of the whole process."""
    here.store.put("tested/versions/v1", b"1\n" + zlib.compress(written.encode()))
    with pytest.raises(SnapshotError, match="versions/v1"):
        here.version("v1")


FORGERIES = [
    {"files": {"tenants/acme.py": "forged"}},
    {"places": {"07": "forged"}},
    {"fingerprint": "forged"},
    {"gone": "forged"},
    {"code": "forged"},
    {"code_blob": "forged"},
    {"modules": {"Job": ("forged",)}},
    {"format": 1},
]


@pytest.mark.parametrize("forged", FORGERIES)
def test_a_record_that_was_changed_in_the_store_is_refused(here: History, forged: dict[str, Any]) -> None:
    """Whoever may write to the history changes nothing of what a version is: the error names version and store."""
    elsewhere(here).put({}, V1._replace(**forged))
    with pytest.raises(SnapshotError, match=rf"memory://.*tested/versions/{V1.name} is not version {V1.name}"):
        here.version(V1.name)


def test_another_version_under_a_versions_name_is_refused(here: History) -> None:
    """A whole, valid record of another version does not pass for the one that is asked for."""
    elsewhere(here).put({}, V2._replace(name=V1.name))
    with pytest.raises(SnapshotError, match=V2.name):
        here.version(V1.name)


@pytest.mark.parametrize(
    "path", ["../x.py", "/etc/x.py", "tenants/../x.py", "code/x.py", "tenants/a.py\0", "shards/1.py"]
)
def test_a_file_that_no_bundle_has_is_refused(here: History, path: str) -> None:
    """Only tenants' own files and shared ones are files of a version, even where its name is right."""
    bad = V1._replace(files={path: "ref"}).named()
    elsewhere(here).put({}, bad)
    with pytest.raises(SnapshotError, match="is no file of a bundle"):
        here.version(bad.name)


@pytest.mark.parametrize("field", [{"at": "soon"}, {"files": ["a"]}, {"code": 5}, {"modules": {"Job": 3}}, {"x": 1}])
def test_a_record_of_other_types_is_an_error_of_ours(here: History, field: dict[str, Any]) -> None:
    """Types are checked when a record is read, and not where a value is used."""
    record = json.dumps({**V1._asdict(), **field})
    here.store.put(f"tested/versions/{V1.name}", b"1\n" + zlib.compress(record.encode()))
    with pytest.raises(SnapshotError, match=V1.name):
        here.version(V1.name)


FORMER = {
    "at": 5.0,
    "files": {"tenants/acme.py": "ref"},
    "places": {"07": "ref"},
    "fingerprint": "print",
    "state": "state",
    "code": None,
    "code_blob": None,
    "modules": {"Job": ["airflow.a"]},
}
"""As the package wrote it before records bore the number of their format."""


def put_former(here: History, **changed: Any) -> str:
    """Write such a record, and return its name."""
    named = [FORMER["files"], FORMER["places"], FORMER["fingerprint"], FORMER["code"]]
    name = hashlib.sha256(dumps(named).encode()).hexdigest()[:16]
    here.store.put(
        f"tested/versions/{name}", b"1\n" + zlib.compress(dumps({**FORMER, "name": name, **changed}).encode())
    )
    return name


def test_a_version_of_the_former_format_is_read(here: History) -> None:
    """Runs that began before an upgrade end as they began; their version's name is checked as it was made."""
    found = here.version(put_former(here))
    assert found is not None
    assert (found.is_former, found.files, found.gone) == (True, FORMER["files"], None)
    assert here.version(found.name) == found


def test_a_changed_version_of_the_former_format_is_refused(here: History) -> None:
    """The former names bind what they cover."""
    name = put_former(here, files={"tenants/acme.py": "forged"})
    with pytest.raises(SnapshotError, match=name):
        here.version(name)


def test_the_versions_of_this_machine(here: History, tmp_path: Path) -> None:
    """Those in the folder are listed, without what cannot be read."""
    here.put({}, V1)
    here.put_locally({}, V2)
    (tmp_path / "cache/versions/v3").write_bytes(b"damaged")
    assert sorted(each.name for each in here.versions_here()) == sorted([V1.name, V2.name])


def test_what_is_put_locally_stands_here_alone(here: History) -> None:
    """Without the right to write, this machine has it all the same."""
    here.put_locally(blobs(b"one"), version())
    assert here.get([reference(b"one")]) == blobs(b"one")
    assert elsewhere(here).keys() == (set(), set())


def test_a_store_that_refuses_leaves_no_version_without_its_contents(here: History) -> None:
    """Contents come first: a version that can be read has all that it consists of."""
    here.store.failure = StoreDenied("no", store="x")  # type: ignore[attr-defined]
    with pytest.raises(StoreDenied):
        here.put(blobs(b"one"), version())
    here.store.failure = None  # type: ignore[attr-defined]
    assert elsewhere(here).keys() == (set(), set())


def test_a_worker_fills_no_folder(here: History, tmp_path: Path) -> None:
    """Who only reads leaves the folder as it is: another user's processor owns it."""
    elsewhere(here).put(blobs(b"one"))
    reader = History(lambda: here.store, "tested", tmp_path / "none", fill=False)
    reader.get([reference(b"one")])
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written_costs_nothing(here: History, tmp_path: Path) -> None:
    """A disk that is full, or a file in the way, is no reason not to publish: the store has it."""
    (tmp_path / "cache").write_text("in the way")
    here.put(blobs(b"one"), version())
    assert elsewhere(here).get([reference(b"one")]) == blobs(b"one")


def test_one_change_touches_one_part() -> None:
    """Keys are spread over few parts, each always in the same one, whatever their letters."""
    parts = {part_of(f"tenant{number}__job\udc80") for number in range(2000)}
    assert len(parts) == 64


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A reader sees the old file or the new one, of the mode that was asked for, and nothing is left over."""
    replace_file(tmp_path / "a/b", b"old")
    replace_file(tmp_path / "a/b", b"new", modified_ns=1_000)
    assert (tmp_path / "a/b").read_bytes() == b"new"
    assert (tmp_path / "a/b").stat().st_mtime_ns == 1_000
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o644
    replace_file(tmp_path / "a/b", b"new", mode=0o640)
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
