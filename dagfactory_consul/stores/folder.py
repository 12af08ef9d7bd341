"""Listing and reading a folder that anybody may write into: one file is the problem of one entry."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import StoreUnreachable
from ..problems import printable
from .base import FOLDERS, MAX_VALUE_BYTES, not_read, too_large

SUFFIXES = (".yaml", ".yml", ".json")
"""The endings that are no part of a key; a file with another ending, or none, is its own key."""
LEFT_BEHIND = ("~", ".bak", ".orig", ".rej", ".swp", ".swo", ".tmp")
"""The endings of what editors and interrupted writers leave behind."""
READS = 3
"""How often a file is read that is written meanwhile."""
LONGEST_NAME = 4_096
"""Letters of an escaped path: the system's own limit, so that no two names are cut to the same one."""
OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say something about this process, and nothing about the file."""

OUTSIDE = "is a link that leads out of the folder: put the file itself here"
SPECIAL = "is no plain file, but a pipe, a socket or a device"


class Unusable(Exception):
    """Why the value of one entry cannot be had."""


class File(NamedTuple):
    """One file that is an entry, or one name in the folder that cannot be."""

    key: str
    path: str
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    trouble: str | None = None
    """Why it cannot be read, as far as that is seen without opening it."""


def list_files(folder: Path) -> list[File]:
    """List a folder with all below it, sorted by key; of several files of one key there is one, with its trouble.

    Raises:
        OSError: the folder, or one of `FOLDERS` in it, cannot be listed: what would be in it must not count as gone.
        StoreUnreachable: the same for another reason: one of them is a link out of the folder, say.
    """
    found: dict[str, File] = {}
    for file in _Walk(folder):
        before = found.get(file.key)
        if before is not None:
            file = _both(folder, before, file)  # noqa: PLW2901  # the one that stands for both
        found[file.key] = file
    _limit(found)
    return [found[key] for key in sorted(found)]


def read_value(path: str, top: str) -> bytes:
    """Read one file whole, and no more of it than a value may have.

    Args:
        path: of the file.
        top: the real path of the folder that it must be in, wherever links lead.

    Raises:
        FileNotFoundError: it is gone.
        Unusable: says why it cannot be read.
        OSError: this process has no memory, or too many open files.
    """
    try:
        for _ in range(READS):
            if (value := _read_once(_real(path, top))) is not None:
                return value
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from exc
    except OSError as exc:
        if exc.errno in OURS:
            raise
        raise Unusable(f"cannot be read: {exc.strerror}") from exc
    raise Unusable("is being written: it has changed each time that it was read")


def look(path: str, key: str, top: str) -> File | None:
    """Return the file at a path; None where there is none, or a folder."""
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return File(key, path, trouble="is a link to nothing") if Path(path).is_symlink() else None
    except OSError as exc:
        if exc.errno in {errno.ENAMETOOLONG, *OURS}:
            raise
        return File(key, path, trouble=f"cannot be read: {exc.strerror}")
    if stat.S_ISDIR(status.st_mode):
        return None
    trouble = None if stat.S_ISREG(status.st_mode) else SPECIAL
    if not is_within(os.path.realpath(path), top):
        trouble = OUTSIDE
    return _file(key, path, status, trouble)


def is_within(path: str, top: str) -> bool:
    """Return whether a real path is in a folder, given by its own."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def key_of(path: str) -> str:
    """Return the key of a relative path."""
    stem, ending = os.path.splitext(path)  # noqa: PTH122  # it is a text, and comes in thousands
    return stem if ending in SUFFIXES else path


def is_passed_over(name: str) -> bool:
    """Return whether a file or folder of this name is no entry: hidden ones and what editors leave behind."""
    return name.startswith((".", "#")) or name.endswith(LEFT_BEHIND)


class _Walk:
    """Goes through a folder, the upper levels first: a folder that several links lead to is that of the upper one."""

    def __init__(self, folder: Path) -> None:
        self.top = os.path.realpath(folder)
        self._seen = {self.top}
        self._waiting = deque([(str(folder), "")])

    def __iter__(self) -> Iterator[File]:
        while self._waiting:
            folder, before = self._waiting.popleft()
            try:
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda each: each.name)
            except FileNotFoundError:  # gone since it was listed
                if not before:
                    raise
                continue
            except OSError as exc:
                if exc.errno in OURS or not before or before.rstrip("/") in FOLDERS:
                    raise
                yield File(before, folder, trouble=f"cannot be listed: {exc.strerror}")
                continue
            for each in entries:
                if not is_passed_over(each.name) and (file := self._look(each, before)) is not None:
                    if file.trouble and not before and each.name in FOLDERS:
                        raise StoreUnreachable(f"{each.name}/ {file.trouble}", store=f"file://{self.top}")
                    yield file

    def _look(self, each: os.DirEntry[str], before: str) -> File | None:
        """Return the file of an entry, if it is one; a folder waits until it is listed itself."""
        name = before + each.name
        if not name.isprintable():
            shown = printable(name, LONGEST_NAME)
            return File(shown, each.path, trouble="has a name that cannot be printed: rename the file")
        try:
            trouble = self._trouble_of_link(each) if each.is_symlink() else None
            if trouble is None and each.is_dir():
                self._waiting.append((each.path, f"{name}/"))
                return None
            if trouble is None and not each.is_file():
                trouble = SPECIAL
            if trouble is not None:
                return File(f"{name}/" if each.is_dir() else key_of(name), each.path, trouble=trouble)
            return _file(key_of(name), each.path, each.stat())
        except FileNotFoundError:  # gone since it was listed
            return None
        except OSError as exc:
            if exc.errno in OURS:
                raise
            return File(key_of(name), each.path, trouble=f"cannot be read: {exc.strerror}")

    def _trouble_of_link(self, link: os.DirEntry[str]) -> str | None:
        real = os.path.realpath(link.path)
        if not is_within(real, self.top):
            return OUTSIDE
        if not link.is_dir():
            return None if link.is_file() or Path(link.path).exists() else "is a link to nothing"
        inside = real[len(self.top) :].strip("/").split("/")
        if not any(part and is_passed_over(part) for part in inside):
            return "is a link to a folder that is read in its own place"
        if real in self._seen:  # else links to links could grow without bounds
            return "is a link to a folder that another link leads to"
        self._seen.add(real)
        return None


def _read_once(path: str) -> bytes | None:
    """Read a file; None where it was written meanwhile."""
    # Without waiting for a writer, should it have become a pipe, and without following what has become a link.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", buffering=0) as file:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            raise Unusable(SPECIAL)
        if before.st_size > MAX_VALUE_BYTES:
            raise Unusable(too_large(before.st_size))
        value = file.read(before.st_size + 1)
        after = os.fstat(handle)
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return value if same and len(value) <= before.st_size else None


def _real(path: str, top: str) -> str:
    if not is_within(real := os.path.realpath(path), top):
        raise Unusable(OUTSIDE)
    mode = os.lstat(real).st_mode
    if not stat.S_ISREG(mode):  # to open a device may do something
        raise Unusable(SPECIAL)
    return real


def _file(key: str, path: str, status: os.stat_result, trouble: str | None = None) -> File:
    if trouble is None and status.st_size > MAX_VALUE_BYTES:
        trouble = too_large(status.st_size)
    return File(key, path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, trouble)


def _both(folder: Path, one: File, other: File) -> File:
    """Return what stands for two files of one key: neither, with the stamps of both."""
    names = " and ".join(printable(os.path.relpath(path, folder), 200) for path in (one.path, other.path))
    stamps = (one.size + other.size, max(one.mtime_ns, other.mtime_ns), max(one.ctime_ns, other.ctime_ns))
    return File(one.key, other.path, *stamps, f"is in two files, {names}: remove one of them")


def _limit(found: dict[str, File]) -> None:
    """Leave the largest files unread, where all together would take too much memory."""
    for key, reason in not_read({key: file.size for key, file in found.items() if not file.trouble}).items():
        found[key] = found[key]._replace(trouble=reason)
