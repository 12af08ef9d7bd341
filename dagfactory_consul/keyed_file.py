"""A file of JSON values by key: replaced atomically, checksummed, read as a whole or one key at a time.

The first line names the format and the checksum of all that follows; the second is a JSON object about the contents;
the rest is one JSON object with one key on each line, so that reading all of it is one call of the JSON parser, and
reading one key costs a search for the line's beginning.
"""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import SnapshotError

FORMAT = 1
_MAGIC = b"dagfactory-consul %d " % FORMAT
_quoted = json.encoder.encode_basestring_ascii

dumps = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
"""Write a value as JSON in the one form that equal values share: no spaces, keys sorted, ASCII whatever it holds."""


def body_of(lines: Mapping[str, str]) -> bytes:
    """Return the JSON object of all keys, one on each line; the values are JSON already, without line breaks."""
    return ("{\n" + ",\n".join([f"{_quoted(key)}:{value}" for key, value in lines.items()]) + "\n}\n").encode("ascii")


def lines_of(body: bytes) -> dict[str, str]:
    """Return each key's value, still as JSON: the opposite of `body_of`."""
    result = {}
    for line in filter(None, body.decode("ascii")[2:-3].split(",\n")):
        end = line.index('":', 1)  # not the quote that opens it: a key may begin with a colon
        key = line[1:end]
        if "\\" in key:  # an escaped quote before a colon looks like the key's end
            name, end = json.JSONDecoder().raw_decode(line)
            result[name] = line[end + 1 :]
        else:
            result[key] = line[end + 2 :]
    return result


def write(path: Path, about: dict[str, Any], body: bytes) -> None:
    """Replace the file by a `body` and what is to be said about it.

    A reader sees the old file or the new one, whenever this process is killed. Only this user can read it (0600).
    """
    content = f"{dumps(about)}\n".encode("ascii") + body
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)  # a process of this number was killed here before
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_MAGIC + b"%08x\n" % zlib.crc32(content))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return what the file says about its contents, and its body.

    Raises:
        FileNotFoundError: there is none.
        SnapshotError: it is damaged, or written in another format.
    """
    data = path.read_bytes()
    first = data.find(b"\n") + 1
    if not data.startswith(_MAGIC) or first != len(_MAGIC) + 9:
        raise SnapshotError(f"{path} is not a file of format {FORMAT}")
    content = memoryview(data)[first:]
    try:
        checksum = int(data[len(_MAGIC) : first], 16)
    except ValueError:
        checksum = -1
    if checksum != zlib.crc32(content):
        raise SnapshotError(f"{path} is damaged: its checksum does not match its contents")
    second = data.find(b"\n", first) + 1
    return json.loads(data[first:second]), data[second:]


def read_about(path: Path) -> dict[str, Any]:
    """Return only what the file says about its contents. Raises as `read` does, save that nothing is checksummed."""
    with path.open("rb") as file:
        if not file.readline().startswith(_MAGIC):
            raise SnapshotError(f"{path} is not a file of format {FORMAT}")
        about: dict[str, Any] = _parse(file.readline(), path)
        return about


def read_one(path: Path, key: str) -> Any | None:
    """Return the value of one key, None if there is none. Raises as `read_about` does.

    The cost hardly depends on the file's size: the operating system's page cache is searched, nothing is parsed but
    that line. The checksum is not verified here; whoever reads the whole file does that.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:  # an empty file, too, which could not be mapped
            raise SnapshotError(f"{path} is not a file of format {FORMAT}")
        start = b"\n" + dumps(key).encode() + b":"
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if (found := data.find(start)) < 0:
                return None
            found += len(start)
            return _parse(data[found : data.find(b"\n", found)].rstrip(b","), path)


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed have left. For the one process that holds the folder's lock."""
    for leftover in folder.glob(".*.new"):
        leftover.unlink(missing_ok=True)


def _parse(line: bytes, path: Path) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise SnapshotError(f"{path} is damaged: a line of it is not JSON ({error})") from error
