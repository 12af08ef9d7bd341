"""The store that is a folder of files."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dagfactory_consul.errors import SettingsError, StoreRejected, StoreUnreachable
from dagfactory_consul.stores import open_store
from dagfactory_consul.stores.base import MAX_READING_BYTES
from dagfactory_consul.stores.files import FileStore
from dagfactory_consul.stores.folder import read_value


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
    """Two files of one key are the problem of that key, which names both; nobody may write what it would be."""
    (folder / "tenants" / "acme.json").write_text("{}")
    store = FileStore(folder)
    reading = store.read()
    assert [entry.key for entry in reading.entries] == [key for key in KEYS if key != "tenants/acme"]
    assert "tenants/acme.json and tenants/acme.yaml" in reading.unreadable["tenants/acme"]
    assert store.probe() == reading.mark
    acts: list[Callable[[], object]] = [lambda: store.get("tenants/acme"), lambda: store.put("tenants/acme", b"")]
    for act in acts:
        with pytest.raises(StoreRejected, match=r"tenants/acme\.yaml and tenants/acme\.json both stand for"):
            act()


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


def test_file_that_may_not_be_read(folder: Path) -> None:
    """A file that the system does not let us read is the problem of its own entry, until that changes."""
    (folder / "tenants" / "acme.yaml").chmod(0)
    assert as_nobody(folder, "print(sorted(store.read().unreadable.items()), len(store.read().entries))") == (
        "[('tenants/acme', 'cannot be read: Permission denied')] 4"
    )
    mark = FileStore(folder).probe()
    (folder / "tenants" / "acme.yaml").chmod(0o644)
    assert FileStore(folder).probe() != mark


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tenants", "StoreDenied"),  # all tenants would be gone
        ("", "StoreDenied"),
        ("tenants/deep", "[('tenants/deep/', 'cannot be listed: Permission denied')]"),
        ("lost+found", "[('lost+found/', 'cannot be listed: Permission denied')]"),
    ],
)
def test_folder_that_may_not_be_listed(folder: Path, name: str, said: str) -> None:
    """A folder that may not be listed is a problem of its own, unless documents would be gone with it."""
    (folder / name).mkdir(exist_ok=True)
    (folder / name).chmod(0)
    try:
        code = """
try:
    print(sorted(store.read().unreadable.items()))
except Exception as exc:
    print(type(exc).__name__)
"""
        assert as_nobody(folder, code) == said
    finally:
        (folder / name).chmod(0o755)


def as_nobody(folder: Path, code: str) -> str:
    """Run code with `store`, as a user without rights, and return what it prints."""
    for parent in (folder, *folder.parents[:3]):
        if parent.stat().st_mode & 0o777:
            parent.chmod(0o755)
    start = "import os\nfrom dagfactory_consul.stores.files import FileStore\nimport dagfactory_consul.stores.folder\n"
    start += "if os.getuid() == 0:\n    os.setgroups([])\n    os.setgid(65534)\n    os.setuid(65534)\n"
    run = [sys.executable, "-c", f"{start}store = FileStore({str(folder)!r})\n{code}"]
    return subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


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


def _pipe(at: Path) -> None:
    os.mkfifo(at)


def _links(at: Path, to: str) -> None:
    at.symlink_to(to)


def _hard_to_read(at: Path, size: int) -> None:
    with at.open("wb") as file:
        file.truncate(size)


def _socket(at: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(at.parent)  # a socket's path has about a hundred letters
        listener.bind(at.name)
        os.chdir(before)


HOSTILE: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "pipe": ("evil.yaml", _pipe, "tenants/evil", "is no plain file"),
    "pipe without an ending": ("evil", _pipe, "tenants/evil", "is no plain file"),
    "socket": ("evil.yaml", _socket, "tenants/evil", "is no plain file"),
    "device": ("evil.yaml", lambda at: _links(at, "/dev/zero"), "tenants/evil", "leads out of the folder"),
    "5 GB": ("evil.yaml", lambda at: _hard_to_read(at, 5 * 2**30), "tenants/evil", "has 5,368,709,120 bytes"),
    "a byte too many": ("evil.json", lambda at: _hard_to_read(at, 524_289), "tenants/evil", "has 524,289 bytes"),
    "link to itself": ("evil.yaml", lambda at: _links(at, at.name), "tenants/evil", "symbolic links"),
    "link to nothing": ("evil.yaml", lambda at: _links(at, "none"), "tenants/evil", "a link to nothing"),
    "link out": ("evil.yaml", lambda at: _links(at, "/etc/passwd"), "tenants/evil", "leads out of the folder"),
    "link out and back": ("evil", lambda at: _links(at, "/proc/self/root"), "tenants/evil/", "leads out"),
    "link to a folder out": ("evil", lambda at: _links(at, "/etc"), "tenants/evil/", "leads out of the folder"),
    "link to the folder": ("evil", lambda at: _links(at, ".."), "tenants/evil/", "read in its own place"),
    "link to other documents": ("evil", lambda at: _links(at, "../flags"), "tenants/evil/", "read in its own place"),
    "ESC in its name": ("e\x1b[2J.yaml", Path.touch, "tenants/e\\x1b[2J.yaml", "cannot be printed"),
    "newline in its name": ("e\nvil.yaml", Path.touch, "tenants/e\\nvil.yaml", "cannot be printed"),
    "name that is no text": (os.fsdecode(b"\xff.yaml"), Path.touch, "tenants/\\udcff.yaml", "cannot be printed"),
    "folder that is no text": (os.fsdecode(b"\xfe"), Path.mkdir, "tenants/\\udcfe", "cannot be printed"),
    "right-to-left name": ("a\u202elmay.yaml", Path.touch, "tenants/a\\u202elmay.yaml", "cannot be printed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_file_is_one_documents_problem(folder: Path, name: str) -> None:
    """What somebody puts into the folder is the problem of its own key, and all others are read."""
    file, make, key, reason = HOSTILE[name]
    make(folder / "tenants" / file)
    store = FileStore(folder)
    reading = store.read()
    assert [entry.key for entry in reading.entries] == KEYS
    assert list(reading.unreadable) == [key]
    assert reason in reading.unreadable[key]
    assert key.isprintable()
    assert store.probe() == reading.mark != FileStore(folder / "flags").probe()
    assert store.keys() == sorted([*KEYS, key])


@pytest.mark.parametrize("name", [name for name, (_, _, key, _) in HOSTILE.items() if key == "tenants/evil"])
def test_what_cannot_be_read_is_not_missing(folder: Path, name: str) -> None:
    """One that is asked for alone is an error that says why, not a missing entry; what leads out is not written."""
    file, make, key, reason = HOSTILE[name]
    make(folder / "tenants" / file)
    with pytest.raises(StoreRejected, match="tenants/evil") as caught:
        FileStore(folder).get(key)
    assert reason in str(caught.value)


@pytest.mark.parametrize("file", ["tenants/evil.yaml", "evil", "flags/f"])
def test_nothing_is_written_out_of_the_folder(folder: Path, tmp_path: Path, file: str) -> None:
    """A link that leads out of the folder is not followed by a write, a swap or a delete."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "new.yaml").write_text("x")
    (folder / file).symlink_to(outside if file == "evil" else outside / "new.yaml")
    key = f"{file}/new" if file == "evil" else file.removesuffix(".yaml")
    store = FileStore(folder)
    for act in (lambda: store.put(key, b"y"), lambda: store.swap(key, b"y", None)):
        with pytest.raises(StoreRejected, match="leads out"):
            act()
    assert [path.read_text() for path in outside.iterdir()] == ["x"]


def test_folders_that_links_multiply(folder: Path) -> None:
    """Links to links of folders are followed once each: ten levels of them would be a thousand folders, thirty none."""
    hidden = folder / ".hidden"
    for level in range(30):
        (hidden / str(level)).mkdir(parents=True)
        for name in "ab":
            (hidden / str(level) / name).symlink_to(hidden / str(level + 1))
    (hidden / "30").mkdir()
    (folder / "tenants" / "evil").symlink_to(hidden / "0")
    reading = FileStore(folder).read()
    assert [entry.key for entry in reading.entries] == KEYS
    assert len(reading.unreadable) == 30


def test_folder_of_documents_that_leads_out(folder: Path, tmp_path: Path) -> None:
    """Where the folder of all tenants cannot be had the store cannot be reached: tenants are never gone by that."""
    (folder / "tenants").rename(tmp_path / "elsewhere")
    (folder / "tenants").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnreachable, match="tenants/ is a link that leads out"):
        FileStore(folder).read()


def test_file_that_goes_while_it_is_read(folder: Path) -> None:
    """A file that goes after it was listed is missing, and nothing else is wrong."""
    with pytest.raises(FileNotFoundError):
        read_value(str(folder / "tenants" / "none.yaml"), os.path.realpath(folder))


def test_files_that_come_and_go_while_all_is_read(folder: Path) -> None:
    """While somebody makes and deletes files without a pause, the others are read each time."""
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            (folder / "tenants" / "evil.yaml").write_text("a: 1")
            (folder / "tenants" / "evil.yaml").unlink()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(300):
            assert set(KEYS) <= {entry.key for entry in FileStore(folder).read().entries}
    finally:
        done.set()
        thread.join()


def test_thousands_of_files(folder: Path) -> None:
    """Thousands of files of one writer are read, and so are the others'."""
    for number in range(3_000):
        (folder / "tenants" / f"evil{number}.yaml").touch()
    assert len(FileStore(folder).read().entries) == len(KEYS) + 3_000


def test_all_together_have_a_limit(folder: Path) -> None:
    """Where all values together would take too much memory the largest are not read, and all small ones are."""
    for number in range(600):
        _hard_to_read(folder / "tenants" / f"evil{number}.yaml", 500_000)
    reading = FileStore(folder).read()
    assert set(KEYS) <= {entry.key for entry in reading.entries}
    assert sum(len(entry.value) for entry in reading.entries) <= MAX_READING_BYTES
    assert all("all values together" in reason for reason in reading.unreadable.values())


def test_deep_folders(folder: Path) -> None:
    """Folders in folders, deeper than a path may be long, end nothing but themselves."""
    before = Path.cwd()
    os.chdir(folder / "tenants")
    try:
        for _ in range(300):
            os.mkdir("d" * 100)  # noqa: PTH102  # the whole path would be too long for it
            os.chdir("d" * 100)
    finally:
        os.chdir(before)
    reading = FileStore(folder).read()
    assert [entry.key for entry in reading.entries] == KEYS
    (reason,) = reading.unreadable.values()
    assert "cannot be listed" in reason


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


@pytest.mark.parametrize("mode", [None, 0o644])
def test_another_user_cannot_hold_the_lock(folder: Path, mode: int | None) -> None:
    """The lock's file is for its own user alone: whoever may open it, even to read, could hold it for ever."""
    if mode is not None:
        (folder / ".lock").touch(mode=mode)
    store = FileStore(folder)
    assert store.swap("head", b"1", None)
    assert stat.S_IMODE((folder / ".lock").stat().st_mode) == 0o600
    code = "try:\n    open(store.folder / '.lock')\nexcept OSError as exc:\n    print(type(exc).__name__)"
    assert os.getuid() or as_nobody(folder, code) == "PermissionError"


@pytest.mark.parametrize("make", [os.mkfifo, lambda at: at.symlink_to("/etc/passwd"), Path.mkdir])
def test_lock_that_is_no_file(folder: Path, make: Callable[[Path], object]) -> None:
    """Where something else is in the lock's place a swap fails at once, and a read does not."""
    make(folder / ".lock")
    store = FileStore(folder)
    with pytest.raises(StoreUnreachable, match=r"\.lock"):
        store.swap("head", b"1", None)
    assert keys(folder) == KEYS


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
