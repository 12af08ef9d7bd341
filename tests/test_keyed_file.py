from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagfactory_consul import keyed_file
from dagfactory_consul.errors import SnapshotError
from dagfactory_consul.keyed_file import body_of, dumps, lines_of

HARD_KEYS = [
    "tenants/a",
    "tenants/a/b",
    "tenants/ab",
    "",
    '"',
    '":',
    ":",
    ":a",
    'a":b',
    "a\\",
    'a\\":1,\n"b',
    "\n",
    "{",
    "},",
    ",\n",
    "\u2028",
    "\u2029\x85",
    "\x00",
    "münchen",
    "\U0001f600",
    "\ud800",
]
KEYS = st.sampled_from(HARD_KEYS) | st.text(st.characters(codec=None), max_size=6) | st.text('",:\\\n{}ab', max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
FILES = st.dictionaries(KEYS, JSON, max_size=8)
DISK_IS_FULL = """
import resource, signal, sys
from pathlib import Path
from dagfactory_consul import keyed_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
keyed_file.write(Path(sys.argv[1]), {}, keyed_file.body_of({"key": '"' + "x" * 200_000 + '"'}))
"""


def write(path: Path, values: dict[str, Any], about: dict[str, Any] | None = None) -> None:
    keyed_file.write(path, about or {}, body_of({key: dumps(value) for key, value in values.items()}))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@settings(deadline=None, max_examples=50)  # a disk may take its time
@given(about=st.dictionaries(KEYS, JSON, max_size=3), values=FILES)
@example(about={}, values=dict.fromkeys(HARD_KEYS, 'x\n"tenants/a":1,\n\u2028'))
def test_what_is_written_is_read(about: dict[str, Any], values: dict[str, Any]) -> None:
    """Whatever the keys and values, reading gives what was written, in its order."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "file", values, about)
        read_about, body = keyed_file.read(Path(folder) / "file")
    assert (read_about, list(json.loads(body).items())) == (about, list(values.items()))


@settings(deadline=None, max_examples=50)
@given(values=FILES, absent=KEYS)
@example(values=dict.fromkeys(HARD_KEYS, 'x\n"tenants":1,\n\u2028'), absent="tenants")
@example(values={"a": '\n"b":1'}, absent="b")
def test_one_key_is_read_as_all_are(values: dict[str, Any], absent: str) -> None:
    """Reading one key gives its own value: not that of a key it begins, nor text of another's value."""
    values.pop(absent, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write(path, values)
        assert {key: keyed_file.read_one(path, key) for key in values} == values
        assert keyed_file.read_one(path, absent) is None


@settings(deadline=None)
@given(values=FILES)
@example(values=dict.fromkeys(HARD_KEYS, 1))
def test_a_body_comes_apart_into_its_lines(values: dict[str, Any]) -> None:
    """`lines_of` undoes `body_of` without decoding the values."""
    lines = {key: dumps(value) for key, value in values.items()}
    assert lines_of(body_of(lines)) == lines


def test_equal_values_are_written_alike() -> None:
    """One form for equal values: neither the order of keys nor an escape makes a difference."""
    assert dumps(json.loads('{"a": [1, "\\u00fc"], "b": {}}')) == dumps(json.loads('{"b":{},"a":[1,"ü"]}'))


def test_about_is_read_alone(tmp_path: Path) -> None:
    """What a file says about itself is had without reading the rest."""
    write(tmp_path / "file", {"key": list(range(1000))}, {"version": "v1"})
    assert keyed_file.read_about(tmp_path / "file") == {"version": "v1"}


def test_only_this_user_can_read_it(tmp_path: Path) -> None:
    """File 0600, a folder made for it 0700, whatever the umask lets through."""
    before = os.umask(0)
    try:
        write(tmp_path / "state" / "file", {"key": 1})
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "state", tmp_path / "state" / "file")]
    assert modes == [0o700, 0o600]


def test_the_mode_of_an_older_file_is_not_kept(tmp_path: Path) -> None:
    """A file that somebody made readable is private again with the next write."""
    write(tmp_path / "file", {"key": 1})
    (tmp_path / "file").chmod(0o644)
    write(tmp_path / "file", {"key": 2})
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_reader_keeps_the_file_that_it_opened(tmp_path: Path) -> None:
    """A write replaces the file as a whole: who has it open reads the old one to its end."""
    write(tmp_path / "file", {"key": "old"})
    with (tmp_path / "file").open("rb") as opened:
        write(tmp_path / "file", {"key": "new"})
        assert b"old" in opened.read()
    assert keyed_file.read_one(tmp_path / "file", "key") == "new"


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    """Reading all verifies the checksum: one other byte, wherever, and the file is refused as damaged."""
    path = tmp_path / "file"
    write(path, {"tenants/acme": {"limit": 10}}, {"version": "v1"})
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(SnapshotError, match=r"file is (damaged|not a file of format)"):
            keyed_file.read(path)


def test_a_cut_file_is_an_error_or_lacks_the_key(tmp_path: Path) -> None:
    """However short a file was cut, even to nothing, all three ways to read it raise SnapshotError at the worst."""
    path = tmp_path / "file"
    write(path, {"tenants/acme": {"limit": 10}, "tenants/zenith": {}}, {"version": "v1"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(SnapshotError):
            keyed_file.read(path)
        for read in (keyed_file.read_about, lambda path: keyed_file.read_one(path, "tenants/acme")):
            try:
                assert read(path) in ({"version": "v1"}, {"limit": 10}, None)
            except SnapshotError as error:
                assert str(path) in str(error)  # noqa: PT017  # either is right


@pytest.mark.parametrize("first", [b"dagfactory-consul 2 00000000", b"SQLite format 3\0", b"{}", b""])
def test_another_format_is_refused(tmp_path: Path, first: bytes) -> None:
    """A file of another version, or of another program, is refused by its name before any of it is taken for data."""
    path = tmp_path / "file"
    path.write_bytes(first + b'\n{}\n{\n"key":1\n}\n')
    for read in (keyed_file.read, keyed_file.read_about, lambda path: keyed_file.read_one(path, "key")):
        with pytest.raises(SnapshotError, match="file is not a file of format 1"):
            read(path)


def test_no_file_is_no_damage(tmp_path: Path) -> None:
    """A file that is not there is told apart from one that is damaged."""
    for read in (keyed_file.read, keyed_file.read_about, lambda path: keyed_file.read_one(path, "key")):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "file")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A write that fails in the middle changes nothing, and leaves nothing behind."""
    write(tmp_path / "file", {"key": "old"})
    command = [sys.executable, "-c", DISK_IS_FULL, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert keyed_file.read_one(tmp_path / "file", "key") == "old"
    assert names_in(tmp_path) == ["file"]


def test_a_killed_writer_of_the_same_number_is_no_hindrance(tmp_path: Path) -> None:
    """What a killed process has left is overwritten by the next one that bears its number."""
    (tmp_path / f".file.{os.getpid()}.new").write_bytes(b"half a fi")
    write(tmp_path / "file", {"key": 1})
    assert names_in(tmp_path) == ["file"]


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    """Of a folder only what writers leave is removed."""
    for name in (".snapshot.17.new", ".attempt.4.new", "snapshot", "attempt.json", "lock", "mine.new", ".hidden"):
        (tmp_path / name).touch()
    keyed_file.remove_leftovers(tmp_path)
    assert names_in(tmp_path) == [".hidden", "attempt.json", "lock", "mine.new", "snapshot"]
