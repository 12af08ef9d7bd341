"""Entries as objects below a URL: in S3, Google Cloud Storage, Azure, and wherever else fsspec reaches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult

from ..errors import SettingsError, StoreDenied, StoreUnreachable
from .base import MAX_VALUE_BYTES, Entry, Reading, Store, not_read, too_large
from .filesystem import Filesystem, require_driver
from .folder import Unusable, read_value
from .keys import check_key
from .replacing import PREFIX, SUFFIX, replace_file

T = TypeVar("T")

LEAST_SECONDS = 10.0
"""The shortest time-out, of a listing or of a batch: the first one brings its credentials from elsewhere."""
BATCH = 100
"""How many objects are read or written within one time-out, at the same time where the driver can do that."""
VERSIONS = ("etag", "ETag", "generation", "md5", "mtime", "LastModified", "last_modified", "updated", "created")
"""Under which names the drivers say what changes with an object."""
DENIED = "may not be read with these credentials"
GONE = FileNotFoundError, IsADirectoryError, NotADirectoryError


class ObjectStore(Store):
    """Objects below `scheme://bucket/folder`, whose names relative to it are the keys.

    An object is written whole, as uploads are; over protocols that have none (SFTP) a reader may see half of it. A
    bucket that does not exist is unreachable; a folder without objects is empty, since object storages have no folders.
    A swap is not atomic here. Entries have no index.

    Args:
        url: where the objects are, without credentials; with an Airflow connection's id before the bucket, its.
        timeout: seconds for one listing, or for one batch of objects.
    """

    def __init__(self, url: str, *, timeout: float = LEAST_SECONDS) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._filesystem = Filesystem(self.url, timeout=timeout)

    @classmethod
    def from_url(cls, url: SplitResult, *, prefix: str, timeout: float) -> ObjectStore:
        """Open what a URL names. It is its own prefix.

        Raises:
            SettingsError: the URL names no folder in a bucket, or has a query; or its driver is not installed.
        """
        if url.query or url.fragment or not url.path.strip("/"):
            example = f"{url.scheme}://bucket/folder"
            raise SettingsError(f"{url.geturl()} must be a folder in a bucket and nothing else: {example}")
        require_driver(url.scheme)
        return cls(url.geturl(), timeout=max(timeout, LEAST_SECONDS))

    def read(self) -> Reading:
        objects = self._filesystem.ask(self._list)
        unreadable = _unreadable(objects)
        # S3 refuses to read a part of an object that is empty.
        empty = {key for key, about in objects.items() if about.get("size") == 0 and about["type"] == "file"}
        values, refused = self._values([key for key in objects if key not in unreadable and key not in empty])
        if DENIED in refused.values() and not values:  # the credentials, not the objects
            raise StoreDenied(f"none of its objects may be read: {min(refused)} {DENIED}", store=self.url)
        # What has changed since it was listed has another mark: the next probe finds out.
        found = [Entry(key, values.get(key, b"")) for key in sorted(values.keys() | empty)]
        reading = Reading.of(found, mark=_digest(objects), source=self.url)
        return replace(reading, unreadable={**unreadable, **refused, **reading.unreadable})

    def probe(self) -> str | None:
        """Return a digest of all names, sizes and versions. It costs a listing of each folder."""
        return _digest(self._filesystem.ask(self._list))

    def keys(self) -> list[str]:
        return sorted(self._filesystem.ask(self._list))

    def get(self, key: str) -> Entry | None:
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        wanted = list(dict.fromkeys(keys))
        for key in wanted:
            check_key(key, store=self.url)
        found, refused = self._values(wanted)
        for key, reason in refused.items():
            raise StoreDenied(f"{key} {reason}", store=self.url) if reason == DENIED else self.unreadable(key, reason)
        if len(found) < len(wanted):
            self._filesystem.ask(self._require_bucket)
        for key, value in found.items():
            self.check_size(key, value)
        return {key: Entry(key, value) for key, value in found.items()}

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Write each entry into its object, whole or not at all."""
        wanted = list(items)
        for key, value in wanted:
            check_key(key, store=self.url)
            self.check_size(key, value)
        for batch in _batches(wanted):
            self._filesystem.ask(partial(self._write, items=batch))

    def swap(self, key: str, value: bytes, expected: Entry | None) -> bool:
        """Read, compare and write. Not atomic: who writes in between is overwritten without a word."""
        self.check_size(key, value)
        present = self.get(key)
        if (present and present.value) != (expected and expected.value):
            return False
        self.put(key, value)
        return True

    def delete(self, key: str) -> None:
        check_key(key, store=self.url)
        self._filesystem.ask(partial(self._remove, key=key))

    def beside(self, name: str) -> ObjectStore:
        return ObjectStore(f"{self.url}-{name}", timeout=self.timeout)

    def close(self) -> None:
        self._filesystem.close()

    def _list(self, fs: Any, root: str) -> dict[str, dict[str, Any]]:
        """Return what is known of each object, by key."""
        fs.invalidate_cache()  # others write here, too
        try:
            found = fs.ls(root, detail=True)
        except FileNotFoundError:
            self._require_bucket(fs, root)
            return {}
        below = dict(_walk(fs, found, root))
        if not all(path.startswith(f"{root}/") for path in below):
            raise StoreUnreachable(f"lists what is not below {root}", store=self.url)
        return {path[len(root) + 1 :]: about for path, about in below.items()}

    def _values(self, keys: Sequence[str]) -> tuple[dict[str, bytes], dict[str, str]]:
        """Return the values of those keys that exist, up to a byte over the limit, and why others cannot be read."""
        found: dict[str, bytes] = {}
        refused: dict[str, str] = {}
        for batch in _batches(keys):
            values = self._filesystem.ask(partial(_contents, keys=batch))
            found |= {key: value for key, value in values.items() if isinstance(value, bytes)}
            refused |= {key: value for key, value in values.items() if isinstance(value, str)}
        return found, refused

    def _write(self, fs: Any, root: str, *, items: Sequence[tuple[str, bytes]]) -> None:
        from fsspec.implementations.local import LocalFileSystem

        values = {f"{root}/{key}": value for key, value in items}
        if isinstance(fs, LocalFileSystem):  # which writes in place
            for path, value in values.items():
                replace_file(Path(path), value)
            return
        try:
            fs.pipe(values)
        except FileNotFoundError:  # it has real folders, or no such bucket, which must not be made
            self._require_bucket(fs, root)
            for folder in {path.rpartition("/")[0] for path in values}:
                fs.makedirs(folder, exist_ok=True)
            fs.pipe(values)

    def _remove(self, fs: Any, root: str, *, key: str) -> None:
        try:
            fs.rm_file(f"{root}/{key}")
        except GONE:
            self._require_bucket(fs, root)

    def _require_bucket(self, fs: Any, root: str) -> None:
        """Refuse to take for missing what is in a place that is missing.

        Raises:
            StoreUnreachable: there is no such bucket.
        """
        bucket = root.partition("/")[0]
        if not bucket:  # the path begins with a slash: its first folder is no bucket
            return
        try:
            fs.info(bucket)
        except FileNotFoundError as exc:
            raise StoreUnreachable(f"there is no bucket {bucket}", store=self.url) from exc
        except PermissionError:  # so it exists, which is all that was asked
            return


def _walk(fs: Any, found: list[dict[str, Any]], folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path of each object in a listing and below. fsspec's own walk leaves out what it fails to list."""
    for each in found:
        path = each["name"].rstrip("/")
        name = path.rpartition("/")[2]
        if path == folder or (name.startswith(PREFIX) and name.endswith(SUFFIX)):
            continue  # the marker of a folder, or what is being written
        if each["type"] == "directory":
            try:
                below = fs.ls(path, detail=True)
            except FileNotFoundError:  # a folder goes with its last object
                continue
            yield from _walk(fs, below, path)
        else:
            yield path, each


def _unreadable(objects: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Say which objects are not asked for, by what their listing says: too large ones, alone or all together."""
    sizes = {key: about.get("size") or 0 for key, about in objects.items()}
    found = {key: too_large(size) for key, size in sizes.items() if size > MAX_VALUE_BYTES}
    return found | not_read({key: size for key, size in sizes.items() if key not in found})


def _contents(fs: Any, root: str, *, keys: Sequence[str]) -> dict[str, bytes | str]:
    """Read those that exist, at the same time where that can be, up to a byte over the limit; or say why it cannot."""
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(fs, LocalFileSystem):  # where a name may be a link or a pipe, too
        return dict(_files(root, keys))
    paths = [f"{root}/{key}" for key in keys]
    parts = fs.cat_ranges(paths, 0, MAX_VALUE_BYTES + 1, on_error="return") if paths else []
    found: dict[str, bytes | str] = {}
    for key, path, value in zip(keys, paths, parts, strict=True):
        if isinstance(value, PermissionError):
            found[key] = DENIED
        elif not isinstance(value, Exception):
            found[key] = bytes(value)
        elif not isinstance(value, GONE):
            if fs.info(path).get("size") != 0:
                raise value
            found[key] = b""
    return found


def _files(root: str, keys: Sequence[str]) -> Iterator[tuple[str, bytes | str]]:
    top = os.path.realpath(root)
    for key in keys:
        path = f"{root}/{key}"
        if Path(path).is_dir():
            continue
        try:
            yield key, read_value(path, top)
        except Unusable as exc:
            yield key, str(exc)
        except FileNotFoundError:
            continue


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def _digest(objects: dict[str, dict[str, Any]]) -> str:
    known = hashlib.blake2b(digest_size=16)
    for key in sorted(objects):
        about = objects[key]
        version = [str(about[name]) for name in ("size", *VERSIONS) if about.get(name) is not None]
        known.update("\0".join([key, *version, "\n"]).encode("utf-8", "surrogatepass"))
    return known.hexdigest()
