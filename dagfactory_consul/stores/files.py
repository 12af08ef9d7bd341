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
from typing import NamedTuple
from urllib.parse import SplitResult, unquote

from ..errors import SettingsError, StoreDenied, StoreRejected, StoreUnreachable
from .base import Entry, Reading, Store
from .keys import check_key
from .replacing import replace_file

SUFFIXES = (".yaml", ".yml", ".json")
"""The endings that are no part of a key; a file with another ending, or none, is its own key."""
LEFT_BEHIND = ("~", ".bak", ".orig", ".rej", ".swp", ".swo", ".tmp")
"""The endings of what editors and interrupted writers leave behind."""
LOCK = ".lock"
"""The file that one swap at a time holds locked; hidden, so no entry."""
LOCK_SECONDS = 2.0
"""How long a swap waits for another one, which takes some milliseconds."""


class _File(NamedTuple):
    """One file that is an entry."""

    key: str
    path: str
    size: int
    mtime_ns: int


class FileStore(Store):
    """A folder of YAML and JSON files; a file's path without its ending is the entry's key.

    Hidden files and folders, and editors' backups, are no entries. Symbolic links are followed, wherever they lead:
    whoever may write into the folder decides what it holds, and a mounted ConfigMap consists of them. A missing folder
    is an unreachable store, as a volume that is not mounted: it never means that there are no entries.

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
            files = self._files()
            entries = [Entry(file.key, Path(file.path).read_bytes(), file.mtime_ns) for file in files]
            # What has changed since it was listed has another mark: the next probe finds out.
            return Reading(tuple(entries), mark=_digest(files), source=self.url)

    def probe(self) -> str | None:
        """Return a digest of all names, sizes and times of modification."""
        with self._readable():
            return _digest(self._files())

    def get(self, key: str) -> Entry | None:
        check_key(key, store=self.url)
        with self._readable():
            file = self._present(key) if self._is_there() else None
            return Entry(key, Path(file.path).read_bytes(), file.mtime_ns) if file else None

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
                replace_file(Path(present.path) if present else self._new(key, value), value)

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
                path.unlink(missing_ok=True)

    def beside(self, name: str) -> FileStore:
        return FileStore(self.folder.with_name(f"{self.folder.name}-{name}"), origin=self.origin or self.folder)

    def _files(self) -> list[_File]:
        """List the entries' files, sorted by key.

        Raises:
            StoreRejected: two files stand for one key.
        """
        if not self._is_there():
            return []
        found: dict[str, _File] = {}
        for file in self._walk(str(self.folder), "", seen=frozenset()):
            self._only(file.key, [each for each in (found.get(file.key), file) if each])
            found[file.key] = file
        return [found[key] for key in sorted(found)]

    def _walk(self, folder: str, before: str, *, seen: frozenset[str]) -> Iterator[_File]:
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above
            return
        with os.scandir(folder) as found:
            for each in found:
                if each.name.startswith((".", "#")) or each.name.endswith(LEFT_BEHIND):
                    continue
                if not each.name.isprintable():
                    raise StoreRejected(f"the file name {each.path!r} holds what cannot be printed", store=self.url)
                with suppress(FileNotFoundError):  # gone since it was listed, or a link to nothing
                    if each.is_dir():
                        yield from self._walk(each.path, f"{before}{each.name}/", seen=seen | {real})
                    elif each.is_file():
                        status = each.stat()
                        yield _File(_key(before + each.name), each.path, status.st_size, status.st_mtime_ns)

    def _only(self, key: str, files: list[_File]) -> _File | None:
        """Return the one file of a key."""
        if len(files) > 1:
            names = " and ".join(os.path.relpath(file.path, self.folder) for file in files)
            raise StoreRejected(f"{names} both stand for {key}: remove one of them", store=self.url)
        return files[0] if files else None

    def _present(self, key: str) -> _File | None:
        """Return the file of a key."""
        return self._only(key, [file for path in self._places(key) if (file := self._look(path, key)) is not None])

    def _places(self, key: str) -> list[Path]:
        """Return where an entry may be."""
        return [self.folder / f"{key}{suffix}" for suffix in ("", *SUFFIXES) if _key(key + suffix) == key]

    def _look(self, path: Path, key: str) -> _File | None:
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _File(key, str(path), status.st_size, status.st_mtime_ns) if path.is_file() else None

    def _new(self, key: str, value: bytes) -> Path:
        """Return the path for a new entry: what starts as JSON is JSON, the marker has no ending, all else is YAML."""
        if key.rpartition("/")[2].startswith("_"):
            return self.folder / key
        return self.folder / (f"{key}.json" if value.lstrip()[:1] in {b"{", b"["} else f"{key}.yaml")

    def _check_writable(self, key: str) -> None:
        """Refuse what would not be read again: hidden names, backups, and endings that would be taken off."""
        check_key(key, store=self.url)
        parts = key.split("/")
        if any(part.startswith((".", "#")) or part.endswith(LEFT_BEHIND) or "\\" in part for part in parts):
            raise StoreRejected(f"{key!r} cannot be a key: a file of that name is not read", store=self.url)
        if _key(key) != key:
            raise StoreRejected(f"{key!r} cannot be a key: write it without its ending, {_key(key)!r}", store=self.url)

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
        with (self.folder / LOCK).open("ab") as file:
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


def _key(path: str) -> str:
    """Return the key of a relative path."""
    stem, ending = os.path.splitext(path)  # noqa: PTH122  # it is a text, and comes in thousands
    return stem if ending in SUFFIXES else path


def _digest(files: list[_File]) -> str:
    known = hashlib.blake2b(digest_size=16)
    for file in files:
        # The path, not the key: a file that is renamed from .json to .yaml is read differently.
        known.update(f"{file.path}\0{file.size}\0{file.mtime_ns}\n".encode())
    return known.hexdigest()
