"""The store that is a folder of files."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from pathlib import Path

import pytest

from dagfactory_consul.errors import SettingsError, StoreDenied, StoreRejected, StoreUnreachable
from dagfactory_consul.stores import open_store
from dagfactory_consul.stores.files import FileStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like those that people write by hand."""
    config = tmp_path / "config"
    for name, text in {
        "_ready": "",
        "defaults.yaml": "retries: 2\n",
        "flags/process-messages.json": "true",
        "tenants/acme.yaml": "enabled: true\n",
        "tenants/zenith.yml": "enabled: false\n",
    }.items():
        (config / name).parent.mkdir(parents=True, exist_ok=True)
        (config / name).write_text(text)
    return config


def keys(folder: Path) -> list[str]:
    return [entry.key for entry in FileStore(folder).read().entries]


KEYS = ["_ready", "defaults", "flags/process-messages", "tenants/acme", "tenants/zenith"]


def test_keys_are_paths_without_endings(folder: Path) -> None:
    """A key is the path without .yaml, .yml or .json, and the value is the file's bytes."""
    entries = {entry.key: entry.value for entry in FileStore(folder).read().entries}
    assert list(entries) == KEYS
    assert entries["tenants/acme"] == b"enabled: true\n"


def test_other_endings_belong_to_the_key(folder: Path) -> None:
    """A name with a dot in it is no ending: v1.2 stays v1.2."""
    (folder / "tenants" / "v1.2").write_text("")
    (folder / "tenants" / "v1.3.yaml").write_text("")
    assert {"tenants/v1.2", "tenants/v1.3"} <= set(keys(folder))


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.yaml",
        ".git/config.yaml",
        "tenants/.acme.yaml.swp",
        "tenants/acme.yaml~",
        "tenants/#acme.yaml#",
        "x.bak",
        "y.tmp",
    ],
)
def test_what_editors_leave_is_no_entry(folder: Path, name: str) -> None:
    """Hidden files, backups and swap files are no entries, and move no mark."""
    before = FileStore(folder).probe()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    assert keys(folder) == KEYS
    assert FileStore(folder).probe() == before


def test_two_files_for_one_key(folder: Path) -> None:
    """Two files that stand for one key are an error that names both, whichever way the key is asked for."""
    (folder / "tenants" / "acme.json").write_text("{}")
    store = FileStore(folder)
    for act in (store.read, store.probe, lambda: store.get("tenants/acme"), lambda: store.put("tenants/acme", b"")):
        with pytest.raises(StoreRejected) as caught:
            act()
        assert "tenants/acme.json" in str(caught.value)
        assert "tenants/acme.yaml" in str(caught.value)


def test_missing_folder_is_unreachable(tmp_path: Path) -> None:
    """A folder that does not exist is a volume that is not mounted: unreachable, never empty."""
    store = FileStore(tmp_path / "none")
    for act in (store.read, store.probe, lambda: store.get("x")):
        with pytest.raises(StoreUnreachable, match="does not exist: is it mounted"):
            act()


def test_place_beside_a_missing_folder(tmp_path: Path) -> None:
    """A place beside is empty until it is written to, but only beside a folder that is there."""
    store = FileStore(tmp_path / "none")
    beside = store.beside("history")
    with pytest.raises(StoreUnreachable, match="does not exist: is it mounted"):
        beside.keys()
    store.put("tenants/acme", b"{}")
    assert beside.keys() == beside.beside("old").keys() == []


def test_file_instead_of_a_folder(folder: Path) -> None:
    """A file where a folder should be is unreachable, too."""
    with pytest.raises(StoreUnreachable, match="is no folder"):
        FileStore(folder / "_ready").read()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_unreadable_is_denied(folder: Path) -> None:
    """What the system does not let us read is denied, never left out."""
    (folder / "tenants" / "acme.yaml").chmod(0)
    child = os.fork()
    if child == 0:
        os._exit(_denied_without_rights(folder))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _denied_without_rights(folder: Path) -> int:
    """Read in a process without root's rights, which no mode stops; return 0 where that is denied."""
    try:
        for parent in (folder, *folder.parents[:3]):
            parent.chmod(0o755)
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        FileStore(folder).read()
    except StoreDenied as exc:
        return 0 if "acme.yaml" in str(exc) else 2
    except BaseException:  # noqa: BLE001  # a forked test must not go on as a second run of all tests
        return 3
    return 1


def test_config_map(tmp_path: Path) -> None:
    """A mounted ConfigMap is made of links: its entries are read, its ..data folders are not, and an update shows."""
    mount = tmp_path / "mount"
    for number, text in ((1, "enabled: true"), (2, "enabled: false")):
        (mount / f"..2026_{number}" / "tenants").mkdir(parents=True)
        (mount / f"..2026_{number}" / "tenants" / "acme.yaml").write_text(text)
        os.utime(mount / f"..2026_{number}" / "tenants" / "acme.yaml", ns=(number, number))
    (mount / "..data").symlink_to("..2026_1")
    (mount / "tenants").symlink_to("..data/tenants")
    store = FileStore(mount)
    before = store.read()
    (mount / "..new").symlink_to("..2026_2")
    (mount / "..new").replace(mount / "..data")
    after = store.read()
    assert [entry.key for entry in (*before.entries, *after.entries)] == ["tenants/acme", "tenants/acme"]
    assert after.entries[0].value == b"enabled: false"
    assert before.mark != after.mark


def test_links_in_a_circle_and_to_nothing(folder: Path) -> None:
    """A link to a folder above, or to nothing, is no entry and no endless loop."""
    (folder / "tenants" / "again").symlink_to(folder)
    (folder / "tenants" / "gone.yaml").symlink_to(folder / "nowhere")
    assert keys(folder) == KEYS


def test_special_files_are_no_entries(folder: Path) -> None:
    """A pipe, whose reader would wait for ever, is no entry."""
    os.mkfifo(folder / "tenants" / "pipe.yaml")
    assert keys(folder) == KEYS
    assert FileStore(folder).get("tenants/pipe") is None


def test_names_that_are_no_text(folder: Path) -> None:
    """A file whose name is not text is an error that names it."""
    (folder / os.fsdecode(b"tenants/\xff.yaml")).write_text("")
    with pytest.raises(StoreRejected, match="cannot be printed"):
        FileStore(folder).read()


def test_same_size_and_content_of_another_time(folder: Path) -> None:
    """A change that leaves the size as it is moves the mark; so does a new ending, which is read differently."""
    store = FileStore(folder)
    marks = [store.probe()]
    os.utime(folder / "tenants" / "acme.yaml", ns=(1, 1))
    marks.append(store.probe())
    (folder / "tenants" / "acme.yaml").rename(folder / "tenants" / "acme.json")
    marks.append(store.probe())
    assert len(set(marks)) == 3


def test_writes_where_the_entry_is(folder: Path) -> None:
    """An entry that exists is written into its file, whatever its ending; a new one gets the ending of its content."""
    store = FileStore(folder)
    store.put_many([("tenants/zenith", b"a: 1"), ("tenants/new", b'{"a": 1}'), ("flags/f", b"true"), ("_x", b"")])
    assert (folder / "tenants" / "zenith.yml").read_text() == "a: 1"
    assert [name for name in ("tenants/new.json", "flags/f.yaml", "_x") if not (folder / name).is_file()] == []


def test_writes_files_that_others_may_read(folder: Path) -> None:
    """A written file has the mode 0644, and nothing is left beside it."""
    old = os.umask(0o077)
    try:
        FileStore(folder).put("tenants/acme", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((folder / "tenants" / "acme.yaml").stat().st_mode) == 0o644
    assert sorted(each.name for each in (folder / "tenants").iterdir()) == ["acme.yaml", "zenith.yml"]


def test_reader_never_sees_half_a_file(folder: Path) -> None:
    """A reader sees the old value or the new one while an entry is written again and again."""
    store = FileStore(folder)
    values = [letter * 200_000 for letter in (b"a", b"b")]
    store.put("tenants/acme", values[0])
    done = threading.Event()

    def write() -> None:
        for number in range(30):
            store.put("tenants/acme", values[number % 2])
        done.set()

    threading.Thread(target=write, daemon=True).start()
    seen = {FileStore(folder).get("tenants/acme") for _ in iter(done.is_set, True)}
    assert {entry.value for entry in seen if entry} <= set(values)


def test_failed_write_leaves_the_old_value(folder: Path) -> None:
    """A write that fails half-way leaves the entry as it was, and no litter."""
    (folder / "tenants" / "blocked.yaml").mkdir()
    with pytest.raises(StoreUnreachable):
        FileStore(folder).put("tenants/blocked", b"x")
    assert sorted(each.name for each in (folder / "tenants").iterdir()) == ["acme.yaml", "blocked.yaml", "zenith.yml"]


@pytest.mark.parametrize("key", ["tenants/.hidden", "tenants/x~", "#x", "tenants/acme.yaml", "a\\b", "t" * 300])
def test_keys_that_would_not_come_back(folder: Path, key: str) -> None:
    """A key whose file would not be read again under it is refused."""
    with pytest.raises(StoreRejected):
        FileStore(folder).put(key, b"x")
    assert keys(folder) == KEYS


def test_swap_waits_for_another_no_longer_than_it_may(folder: Path) -> None:
    """A swap waits for the one that holds the lock, and gives up when that holds it too long; a read waits for none."""
    store = FileStore(folder)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        threading.Timer(0.1, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        assert store.swap("head", b"1", None)
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StoreUnreachable, match=r"\.lock has been locked"):
            store.swap("head", b"2", store.get("head"))
        assert [entry.value for entry in store.read().entries if entry.key == "head"] == [b"1"]


def test_makes_the_folder(tmp_path: Path) -> None:
    """The first write makes the folder."""
    store = FileStore(tmp_path / "new")
    store.put("tenants/acme", b"{}")
    assert [entry.key for entry in store.read().entries] == ["tenants/acme"]


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path, a relative one, file:// and a quoted one name the same folder."""
    folder = tmp_path / "my config"
    folder.mkdir()
    (folder / "_ready").touch()
    monkeypatch.chdir(tmp_path)
    for url in (str(folder), "my config", f"file://{folder}", f"file://{tmp_path}/my%20config"):
        assert [entry.key for entry in open_store(url).read().entries] == ["_ready"]


@pytest.mark.parametrize("url", ["file://", "file:///x?mode=r"])
def test_urls_that_name_no_folder(url: str) -> None:
    """A file:// URL without a folder, or with more than one, is an error."""
    with pytest.raises(SettingsError, match="file://"):
        open_store(url)
