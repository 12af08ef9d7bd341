"""The store of objects: on real files, in fsspec's own memory, and on filesystems that fail."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dagfactory_consul.errors import (
    SettingsError,
    StoreDenied,
    StoreError,
    StoreRejected,
    StoreUnreachable,
)
from dagfactory_consul.stores import Store, open_store
from dagfactory_consul.stores.base import MAX_VALUE_BYTES
from dagfactory_consul.stores.objects import ObjectStore
from tests.waiting import wait_until


class FailingFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A filesystem with buckets, of which one operation may do something else."""

    protocol = "failing"
    instead: Callable[[], object] | None = None
    failing = ""
    ends: ClassVar[list[int | None]] = []
    """Where each reading of an object was to end."""

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        self._maybe("ls")
        return super().ls(path, detail=detail, **kwargs)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> Any:
        self._maybe("cat_file")
        FailingFileSystem.ends.append(end)
        return super().cat_file(path, start, end, **kwargs)

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> Any:
        self._maybe("pipe_file")
        return super().pipe_file(path, value, **kwargs)

    def rm_file(self, path: str) -> None:
        self._maybe("rm_file")
        super().rm_file(path)

    def _maybe(self, operation: str) -> None:
        if FailingFileSystem.instead is not None and FailingFileSystem.failing in {"", operation}:
            FailingFileSystem.instead()


fsspec.register_implementation("failing", FailingFileSystem, clobber=True)


def raises(exc: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise exc

    return act


@pytest.fixture
def on_disk(tmp_path: Path) -> Store:
    """A store in a folder, with two entries."""
    store = open_store(f"local://{tmp_path}/config")
    store.put_many([("_ready", b""), ("tenants/acme", b"{}")])
    return store


@pytest.fixture
def failing(consul_prefix: str) -> Iterator[ObjectStore]:
    """A store with two entries on the filesystem that fails as a test says."""
    store = ObjectStore(f"failing://bucket/{consul_prefix}", timeout=0.3)
    store.put_many([("_ready", b""), ("tenants/acme", b"{}")])
    yield store
    FailingFileSystem.instead, FailingFileSystem.failing = None, ""
    store.close()


def acts(store: Store) -> list[Callable[[], object]]:
    """Return all that a store does."""
    return [
        store.read,
        store.probe,
        store.keys,
        lambda: store.get("x"),
        lambda: store.get_many(["x", "tenants/acme"]),
        lambda: store.put("x", b""),
        lambda: store.swap("x", b"", None),
        lambda: store.delete("x"),
    ]


def test_objects_are_files_of_those_names(on_disk: Store, tmp_path: Path) -> None:
    """An entry is an object named by its key, as it is; nothing else is left in the folder."""
    files = [path.relative_to(tmp_path).as_posix() for path in (tmp_path / "config").rglob("*") if path.is_file()]
    assert sorted(files) == ["config/_ready", "config/tenants/acme"]
    assert on_disk.keys() == ["_ready", "tenants/acme"]


def test_what_is_being_written_is_no_entry(on_disk: Store, tmp_path: Path) -> None:
    """A file that somebody is about to put in its place, or has left there, is not read."""
    (tmp_path / "config" / "tenants" / ".abc123.tmp").write_bytes(b"hal")
    assert on_disk.keys() == ["_ready", "tenants/acme"]


def test_folders_are_no_entries(on_disk: Store) -> None:
    """A folder is no object, and one under a key's name is none."""
    assert on_disk.get("tenants") is None
    on_disk.delete("tenants/acme")
    assert on_disk.keys() == ["_ready"]


def test_names_that_look_like_patterns(on_disk: Store) -> None:
    """A key with a `*` in it names one object, not those that match."""
    keys = ["tenants/*", "tenants/a[c]me", "tenants/acm?"]
    on_disk.put_many([(key, key.encode()) for key in keys])
    assert {key: entry.value for key, entry in on_disk.get_many(keys).items()} == {key: key.encode() for key in keys}
    assert on_disk.keys() == sorted(["_ready", "tenants/acme", *keys])


def test_change_by_others_is_seen(on_disk: Store, tmp_path: Path) -> None:
    """What another process writes moves the mark and is read, whatever was listed before."""
    mark = on_disk.probe()
    (tmp_path / "config" / "tenants" / "new").write_bytes(b"{}")
    assert on_disk.probe() != mark
    assert on_disk.keys() == ["_ready", "tenants/acme", "tenants/new"]


def test_more_than_one_batch(failing: ObjectStore) -> None:
    """More objects than one batch are all written and all read."""
    entries = {f"blobs/{number:03}": b"%d" % number for number in range(250)}
    failing.put_many(entries.items())
    found = failing.get_many(entries)
    assert {key: entry.value for key, entry in found.items()} == entries
    assert len(failing.read().entries) == 252


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError("Access Denied"), StoreDenied),
        (ConnectionResetError("broken"), StoreUnreachable),
        (TimeoutError("of the driver"), StoreUnreachable),
        (KeyError("a driver's own fault"), StoreUnreachable),
    ],
)
def test_failures_are_ours(failing: ObjectStore, error: Exception, kind: type[StoreError]) -> None:
    """Whatever a driver raises is a store's error, never an entry that is missing."""
    FailingFileSystem.instead = raises(error)
    for act in acts(failing):
        with pytest.raises(kind):
            act()


def test_part_that_cannot_be_listed(failing: ObjectStore) -> None:
    """A folder whose listing fails is a failed listing, never a shorter one."""
    calls: list[int] = []

    def second_fails() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise PermissionError("tenants/ may not be listed")

    FailingFileSystem.instead, FailingFileSystem.failing = second_fails, "ls"
    with pytest.raises(StoreDenied, match="may not be listed"):
        failing.read()


def test_gone_since_it_was_listed(failing: ObjectStore) -> None:
    """An object that goes between the listing and its reading is left out; the others are read."""
    FailingFileSystem.failing = "cat_file"
    FailingFileSystem.instead = lambda: FailingFileSystem.store.pop(f"{failing._filesystem._root}/tenants/acme", None)
    assert [entry.key for entry in failing.read().entries] == ["_ready"]


def test_missing_bucket_is_unreachable() -> None:
    """A bucket that does not exist is unreachable, for every operation, and is not made."""
    store = ObjectStore("failing://nobody/config", timeout=5)
    FailingFileSystem.instead = raises(FileNotFoundError("NoSuchBucket"))
    try:
        for act in acts(store):
            with pytest.raises(StoreUnreachable, match="there is no bucket"):
                act()
    finally:
        FailingFileSystem.instead = None


def test_driver_that_hangs(failing: ObjectStore) -> None:
    """A driver that does not answer is given up in time; whoever asks on piles up no threads."""
    gate = threading.Event()
    FailingFileSystem.instead = gate.wait
    before = threading.active_count()
    try:
        for _ in range(8):
            with pytest.raises(StoreUnreachable, match=r"within 0\.3 s|without an answer"):
                failing.probe()
        assert threading.active_count() <= before + 4
    finally:
        gate.set()
    wait_until(lambda: threading.active_count() <= before)
    FailingFileSystem.instead = None
    assert failing.keys() == ["_ready", "tenants/acme"]


def test_errors_show_no_signatures(failing: ObjectStore) -> None:
    """What stands after the path of a URL in a driver's error is not shown: it may be a signature."""
    FailingFileSystem.instead = raises(OSError("400 for\n https://host/bucket/x?sig=s3cr3t&se=1 today"))
    with pytest.raises(StoreUnreachable, match=r"OSError: 400 for https://host/bucket/x\?… today") as caught:
        failing.probe()
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_filesystem_is_made_anew_after_a_fork(on_disk: Store) -> None:
    """A forked process opens its own filesystem, since most of them do not work in another process."""
    assert isinstance(on_disk, ObjectStore)
    on_disk.probe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            parents = on_disk._filesystem._process
            code = 0 if on_disk.keys() and on_disk._filesystem._process not in {0, parents} else 2
        finally:
            os._exit(code)  # a forked test must not go on as a second run of all tests
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_connection_of_airflow(tmp_path: Path) -> None:
    """With a connection's id before the bucket, the filesystem is the one of Airflow's provider."""
    store = open_store(f"local://my_connection@{tmp_path}/config")
    assert isinstance(store, ObjectStore)
    store.put("tenants/acme", b"{}")
    assert (tmp_path / "config" / "tenants" / "acme").read_bytes() == b"{}"
    assert store._filesystem.conn_id == "my_connection"


def test_connection_without_its_provider() -> None:
    """A connection for a scheme that no installed provider serves says what to install."""
    with pytest.raises(StoreRejected, match=r"apache-airflow-providers-amazon\[s3fs\]"):
        ObjectStore("failing://my_connection@bucket/config").read()


def test_opening_reaches_for_nothing() -> None:
    """To open a store, or the one beside it, makes no filesystem: it comes with the first use."""
    store = ObjectStore("failing://bucket/config")
    beside = store.beside("history")
    assert beside.url == "failing://bucket/config-history"
    assert (store._filesystem._opened, beside._filesystem._opened) == (None, None)


def test_missing_driver() -> None:
    """A scheme whose driver is not installed is a wrong setting, which says what to install."""
    fsspec.register_implementation("nodriver", "no_such_driver.FS", errtxt="Install no-such-driver", clobber=True)
    with pytest.raises(SettingsError, match="nodriver:// cannot be opened: Install no-such-driver"):
        open_store("nodriver://bucket/config")


@pytest.mark.parametrize("url", ["local://", "dropbox://bucket", "local:///x?y=1", "local:///x#y"])
def test_urls_that_name_no_folder(url: str) -> None:
    """An object storage's URL is a folder in a bucket and nothing else."""
    with pytest.raises(SettingsError, match="a folder in a bucket and nothing else"):
        open_store(url)


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/x", "local://u:p@/x"])
def test_urls_hold_no_credentials(url: str) -> None:
    """A name before the bucket is a connection's id; with a password it is refused, and not shown."""
    with pytest.raises(SettingsError, match="must not hold credentials") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://consul:8500/x", "https://consul:8501/x", "s33://bucket/x", "nothing://x/y"])
def test_kinds_that_are_no_storage(url: str) -> None:
    """An unknown kind is an error, and so is a Consul's plain address, which fsspec would read as pages."""
    with pytest.raises(SettingsError, match="no store is of the kind"):
        open_store(url)


def test_no_object_is_read_beyond_the_limit(failing: ObjectStore) -> None:
    """An object that is larger than it was when it was listed is read up to the limit; one alone, likewise."""
    whole = f"{failing._filesystem._root}/tenants/acme"
    FailingFileSystem.failing = "cat_file"
    FailingFileSystem.instead = lambda: FailingFileSystem().pipe_file(whole, b"x" * 9_000_000)
    FailingFileSystem.ends.clear()
    assert "524,289 bytes" in failing.read().unreadable["tenants/acme"]
    with pytest.raises(StoreRejected, match="tenants/acme has"):
        failing.get("tenants/acme")
    assert set(FailingFileSystem.ends) == {MAX_VALUE_BYTES + 1}


def test_object_that_may_not_be_read(failing: ObjectStore) -> None:
    """An object that these credentials may not read is the problem of its own entry, unless it is so for all."""
    failing.put("tenants/evil", b"{}")
    calls: list[int] = []

    def second_fails() -> None:
        calls.append(1)
        if len(calls) % 2 == 0:
            raise PermissionError("AccessDenied")

    FailingFileSystem.instead, FailingFileSystem.failing = second_fails, "cat_file"
    reading = failing.read()
    assert (len(reading.entries), len(reading.unreadable)) == (2, 1)
    FailingFileSystem.instead = raises(PermissionError("AccessDenied"))
    with pytest.raises(StoreDenied, match="none of its objects"):
        failing.read()


def test_part_of_an_empty_object(failing: ObjectStore) -> None:
    """S3 refuses to read a part of an empty object: that is an empty value all the same."""
    FailingFileSystem.instead, FailingFileSystem.failing = raises(OSError("InvalidRange")), "cat_file"
    entry = failing.get("_ready")
    assert entry is not None
    assert entry.value == b""
    with pytest.raises(StoreUnreachable, match="InvalidRange"):
        failing.get("tenants/acme")


def test_files_that_are_none(on_disk: Store, tmp_path: Path) -> None:
    """Where objects are files, a pipe and a link that leads out are problems of their own entries."""
    tenants = tmp_path / "config" / "tenants"
    os.mkfifo(tenants / "pipe")
    (tmp_path / "secret").write_text("hunter2")
    (tenants / "link").symlink_to(tmp_path / "secret")
    reading = on_disk.read()
    assert [entry.key for entry in reading.entries] == ["_ready", "tenants/acme"]
    assert set(reading.unreadable) == {"tenants/pipe", "tenants/link"}
