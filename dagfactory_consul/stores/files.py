"""Entries as files in a folder: the same layout as in Consul, without Consul."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import SplitResult, unquote

from ..errors import SettingsError, StoreDenied, StoreRejected, StoreUnreachable
from .base import Entry, Reading, Store
from .folder import (
    OUTSIDE,
    SUFFIXES,
    File,
    Unusable,
    is_passed_over,
    is_within,
    key_of,
    list_files,
    look,
    read_value,
)
from .keys import check_key
from .replacing import replace_file

LOCK = ".lock"
"""The file that one swap at a time holds locked; hidden, so no entry."""
LOCK_SECONDS = 2.0
"""How long a swap waits for another one, which takes some milliseconds."""


class FileStore(Store):
    """A folder of YAML and JSON files; a file's path without its ending is the entry's key.

    Hidden files and folders, and editors' backups, are no entries. Symbolic links are followed within the folder: a
    mounted ConfigMap consists of them. What cannot be read, whatever it is, is the problem of its own entry: a link out
    of the folder, two files of one key, a pipe, a file that is too large or may not be read, a name that is no text.
    A missing folder is an unreachable store, as a volume that is not mounted: it never means that there are no entries.

    A place beside another one is made by its first write: until then it is empty, as long as the other one is there.

    An entry's index is its file's time of modification, in nanoseconds.

    Args:
        folder: where the files are.
        origin: the folder beside which this one stands; None for one that must exist.
    """

    def __init__(self, folder: str | Path, *, origin: Path | None = None) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.origin = origin
        self.url = f"file://{self.folder}"

    @classmethod
    def from_url(cls, url: SplitResult, *, prefix: str, timeout: float) -> FileStore:
        """Open the folder that a path or a `file://` URL names. It is its own prefix.

        Raises:
            SettingsError: the URL names no folder, or has a query.
        """
        if url.query or url.fragment:
            raise SettingsError(f"a file:// URL is a path and nothing else: {url.geturl()}")
        folder = unquote(url.netloc + url.path)  # file://folder, which has no slash before, is a relative path
        if not folder:
            raise SettingsError("a file:// URL names a folder: file:///etc/dagfactory")
        return cls(folder)

    def read(self) -> Reading:
        with self._readable():
            files, top = self._files(), self._top()
            unreadable = {file.key: file.trouble for file in files if file.trouble}
            entries = []
            for file in files:
                try:
                    if not file.trouble:
                        entries.append(Entry(file.key, read_value(file.path, top), file.mtime_ns))
                except Unusable as exc:
                    unreadable[file.key] = str(exc)
                except FileNotFoundError:  # since it was listed
                    continue
            # What has changed since it was listed has another mark: the next probe finds out.
            return Reading(tuple(entries), mark=_digest(files), source=self.url, unreadable=unreadable)

    def probe(self) -> str | None:
        """Return a digest of all names, sizes and times of modification."""
        with self._readable():
            return _digest(self._files())

    def get(self, key: str) -> Entry | None:
        check_key(key, store=self.url)
        with self._readable():
            file = self._present(key) if self._is_there() else None
            try:
                return Entry(key, self._value(file), file.mtime_ns) if file else None
            except FileNotFoundError:
                return None

    def keys(self) -> list[str]:
        with self._readable():
            return [file.key for file in self._files()]

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Write each entry into its file, or a new one named by its content, whole or not at all."""
        wanted = list(items)
        for key, value in wanted:
            self._check_writable(key)
            self.check_size(key, value)
        with self._readable():
            for key, value in wanted:
                present = self._present(key)
                replace_file(self._own(Path(present.path) if present else self._new(key, value)), value)

    def swap(self, key: str, value: bytes, expected: Entry | None) -> bool:
        """Write if the file holds what was expected. It excludes other swaps; a plain write between is not seen."""
        self._check_writable(key)
        self.check_size(key, value)
        with self._readable(), self._locked():
            present = self.get(key)
            if (present and present.value) != (expected and expected.value):
                return False
            self.put(key, value)
            return True

    def delete(self, key: str) -> None:
        self._check_writable(key)
        with self._readable():
            for path in self._places(key):
                self._own(path.parent)
                path.unlink(missing_ok=True)

    def beside(self, name: str) -> FileStore:
        return FileStore(self.folder.with_name(f"{self.folder.name}-{name}"), origin=self.origin or self.folder)

    def _files(self) -> list[File]:
        return list_files(self.folder) if self._is_there() else []

    def _top(self) -> str:
        """Where the folder really is: a link to it may lead elsewhere from one moment to the next."""
        return os.path.realpath(self.folder)

    def _value(self, file: File) -> bytes:
        """Read a file's value. Raises StoreRejected where that cannot be."""
        if file.trouble:
            raise self.unreadable(file.key, file.trouble)
        try:
            return read_value(file.path, self._top())
        except Unusable as exc:
            raise self.unreadable(file.key, str(exc)) from None

    def _own(self, path: Path) -> Path:
        """Return a path that is to be written. Raises StoreRejected where it leads out of the folder."""
        if not is_within(os.path.realpath(path), self._top()):
            raise self.unreadable(os.path.relpath(path, self.folder), OUTSIDE)
        return path

    def _present(self, key: str) -> File | None:
        """Return the one file of a key. Raises StoreRejected where there are two."""
        found = [file for path in self._places(key) if (file := look(str(path), key, self._top())) is not None]
        if len(found) > 1:
            names = " and ".join(os.path.relpath(file.path, self.folder) for file in found)
            raise StoreRejected(f"{names} both stand for {key}: remove one of them", store=self.url)
        return found[0] if found else None

    def _places(self, key: str) -> list[Path]:
        """Return where an entry may be."""
        return [self.folder / f"{key}{suffix}" for suffix in ("", *SUFFIXES) if key_of(key + suffix) == key]

    def _new(self, key: str, value: bytes) -> Path:
        """Return the path for a new entry: what starts as JSON is JSON, the marker has no ending, all else is YAML."""
        if key.rpartition("/")[2].startswith("_"):
            return self.folder / key
        return self.folder / (f"{key}.json" if value.lstrip()[:1] in {b"{", b"["} else f"{key}.yaml")

    def _check_writable(self, key: str) -> None:
        """Refuse what would not be read again: hidden names, backups, and endings that would be taken off."""
        check_key(key, store=self.url)
        parts = key.split("/")
        if any(is_passed_over(part) or "\\" in part for part in parts):
            raise StoreRejected(f"{key!r} cannot be a key: a file of that name is not read", store=self.url)
        if (wanted := key_of(key)) != key:
            raise StoreRejected(f"{key!r} cannot be a key: write it without its ending, {wanted!r}", store=self.url)

    def _is_there(self) -> bool:
        """Return whether the folder exists; False for a place beside that nothing has been written to yet.

        Raises:
            StoreUnreachable: it should exist.
        """
        if self.folder.is_dir():
            return True
        if self.folder.exists():
            raise StoreUnreachable("the folder is no folder: is it mounted?", store=self.url)
        if self.origin is None or not self.origin.is_dir():
            raise StoreUnreachable("the folder does not exist: is it mounted?", store=self.url)
        return False

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of this folder, which ends with this process at the latest."""
        self.folder.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + LOCK_SECONDS
        pause = threading.Event()
        with self._lock_file() as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= end:
                        message = f"{LOCK} has been locked by another process for {LOCK_SECONDS:g} s"
                        raise StoreUnreachable(message, store=self.url) from None
                pause.wait(0.005)
            try:
                yield
            finally:  # to close the file is not enough where a fork has it open too
                fcntl.flock(file, fcntl.LOCK_UN)

    def _lock_file(self) -> BinaryIO:
        """Open the lock's file, for this user alone: whoever can open it could hold the lock, even only to read."""
        # A link or a pipe in its place is refused, neither followed nor waited for.
        handle = os.open(self.folder / LOCK, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        if os.fstat(handle).st_mode & 0o077:  # as it was made in former times
            with suppress(PermissionError):
                os.fchmod(handle, 0o600)
        return os.fdopen(handle, "wb")

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn the system's refusals into ours."""
        try:
            yield
        except PermissionError as exc:
            raise StoreDenied(f"{exc.filename} may not be used: {exc.strerror}", store=self.url) from exc
        except OSError as exc:
            if exc.errno == errno.ENAMETOOLONG:
                raise StoreRejected("a part of the key is longer than a file's name may be", store=self.url) from exc
            raise StoreUnreachable(f"{exc.filename or self.folder}: {exc.strerror or exc}", store=self.url) from exc


def _digest(files: list[File]) -> str:
    known = hashlib.blake2b(digest_size=16)
    for file in files:
        # The path, not the key: a file that is renamed from .json to .yaml is read differently. The time of the last
        # change of its status as well: a file that may be read from now on is not otherwise another one.
        stamps = f"{file.size}\0{file.mtime_ns}\0{file.ctime_ns}\0{file.trouble or ''}"
        known.update(f"{file.path}\0{stamps}\n".encode("utf-8", "surrogateescape"))
    return known.hexdigest()
