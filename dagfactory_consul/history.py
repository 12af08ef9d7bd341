"""The history: what each version of a bundle consists of, kept where every worker can read it.

Contents are addressed by their hash, so what does not change from one version to the next is kept once. In front of the
store stands a folder on this machine, which the processor fills: a worker that shares it reads nothing from the store.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from . import folders
from .errors import SnapshotError, VersionGoneError
from .manifest import Version, reference
from .stores.base import MAX_VALUE_BYTES, Store, StoreUser
from .stores.replacing import replace_file

log = logging.getLogger(__name__)

_PART = MAX_VALUE_BYTES - 1024
_DIGITS = 4
"""Of the number of parts, at most: 10,000 parts hold five gigabytes."""
_BLOBS = "blobs"
_VERSIONS = "versions"


def part_of(key: str) -> str:
    """Return the part that a key belongs to: where one of many changes, one part in 64 is written anew."""
    return f"{zlib.crc32(key.encode('utf-8', 'surrogatepass')) % 64:02}"


class History(StoreUser):
    """Contents and versions of one deployment, in a store and in a folder before it.

    Args:
        store: opens the store where they are kept, when it is first needed.
        deployment: whose they are; it is part of each key.
        folder: on this machine, read before the store; None: there is none.
        fill: keep in the folder what is written, and what is read.
    """

    def __init__(self, store: Callable[[], Store], deployment: str, folder: Path | None, *, fill: bool) -> None:
        super().__init__(store)
        self.deployment = deployment
        self.folder = folder
        self.fill = fill
        self._sizes: dict[str, int] = {}
        """How many bytes contents take in the store, by reference, as far as that was asked for."""

    def put(self, blobs: Mapping[str, bytes], version: Version | None = None) -> None:
        """Write contents, and then the version that they belong to. Raises StoreError."""
        self.put_locally(blobs, version)
        self.store.put_many(self._items(blobs))
        if version is not None:
            self.store.put_many(_parts(self._key(_VERSIONS, version.name), version.to_bytes()))

    def put_locally(self, blobs: Mapping[str, bytes], version: Version | None = None) -> None:
        """Keep contents in the folder alone."""
        for ref, data in blobs.items():
            self._keep(_BLOBS, ref, data)
        if version is not None:
            self._keep(_VERSIONS, version.name, version.to_bytes())

    def get(self, refs: Iterable[str]) -> dict[str, bytes]:
        """Return contents by their references.

        Raises:
            VersionGoneError: some of them are neither here nor there.
            StoreError: the store does not answer.
        """
        found: dict[str, bytes] = {}
        missing = []
        for ref in dict.fromkeys(refs):
            data = self._kept(_BLOBS, ref)
            if data is None or reference(data) != ref:
                missing.append(ref)
            else:
                found[ref] = data
        if missing:
            for ref, data in self._fetch(_BLOBS, missing).items():
                if reference(data) != ref:
                    raise SnapshotError(f"{self.store.url}: {self._key(_BLOBS, ref)} is damaged: its hash is another")
                found[ref] = data
                self._keep(_BLOBS, ref, data)
        if lost := [ref for ref in missing if ref not in found]:
            raise VersionGoneError(f"{self.store.url} has no {self._key(_BLOBS, lost[0])}, and {len(lost) - 1} others")
        return found

    def version(self, name: str) -> Version | None:
        """Return a version; None if it is neither here nor there.

        Raises:
            SnapshotError: it is damaged, or is not what was published under this name.
            StoreError: the store does not answer.
        """
        if (kept := self._kept(_VERSIONS, name)) is not None:
            with suppress(ValueError):  # the store may have it as it was published
                return Version.of_bytes(kept, name)
        data = self._fetch(_VERSIONS, [name]).get(name)
        if data is None:
            return None
        try:
            version = Version.of_bytes(data, name)
        except ValueError as error:
            key = self._key(_VERSIONS, name)
            raise SnapshotError(
                f"{self.store.url}: {key} is not version {name} as it was published: {error}. See who may write there. "
                "If it is the version in use, delete that key, and the DAG processor writes it again within ten "
                "minutes; else clear the run's tasks with the latest version of the bundle"
            ) from error
        self._keep(_VERSIONS, name, data)
        return version

    def versions_here(self) -> list[Version]:
        """Return the versions in the folder on this machine."""
        found = []
        if self.folder is not None and (self.folder / _VERSIONS).is_dir():
            for path in (self.folder / _VERSIONS).iterdir():
                with suppress(ValueError, OSError):
                    found.append(Version.of_bytes(path.read_bytes(), path.name))
        return found

    def keep_here(self, versions: Collection[str], blobs: Collection[str]) -> None:
        """Remove all others from the folder on this machine."""
        for kind, names in ((_VERSIONS, versions), (_BLOBS, blobs)):
            if self.folder is not None and (self.folder / kind).is_dir():
                for path in (self.folder / kind).iterdir():
                    if path.name not in names:
                        path.unlink(missing_ok=True)

    def keys(self) -> tuple[set[str], set[str]]:
        """Return the names of all versions and the references of all contents in the store. Raises StoreError."""
        names = [key.split("/") for key in self.store.keys()]  # noqa: SIM118  # a store is no mapping
        own = [parts[1:] for parts in names if parts[0] == self.deployment and len(parts) == 3]
        versions = {name.partition(".part")[0] for kind, name in own if kind == _VERSIONS}
        return versions, {name.partition(".part")[0] for kind, name in own if kind == _BLOBS}

    def sizes(self, refs: Collection[str], until: float) -> Mapping[str, int] | None:
        """Return how many bytes contents take in the store; None if that was not known by then (monotonic clock).

        What was found out is remembered, so that the next call needs less time. Missing contents take none.

        Raises:
            StoreError: the store does not answer.
            SnapshotError: some of them are damaged.
        """
        self._sizes = {ref: size for ref, size in self._sizes.items() if ref in refs}
        for ref in refs:
            if ref in self._sizes:
                continue
            if time.monotonic() > until:
                return None
            data = self._kept(_BLOBS, ref)
            if data is None:
                data = self._fetch(_BLOBS, [ref]).get(ref)
            self._sizes[ref] = len(zlib.compress(data)) if data is not None else 0
        return self._sizes

    def drop(self, versions: Collection[str], blobs: Collection[str]) -> None:
        """Remove versions, and then contents that none needs. Raises StoreError."""
        for kind, names in ((_VERSIONS, versions), (_BLOBS, blobs)):
            for name in names:
                if self.folder is not None:
                    (self.folder / kind / name).unlink(missing_ok=True)
                key = self._key(kind, name)
                entry = self.store.get(key)
                if entry is not None:
                    self.store.delete(key)
                    for number in range(1, _count(entry.value)):
                        self.store.delete(f"{key}.part{number}")

    def _items(self, blobs: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
        return [part for ref, data in blobs.items() for part in _parts(self._key(_BLOBS, ref), data)]

    def _fetch(self, kind: str, names: list[str]) -> dict[str, bytes]:
        entries = self.store.get_many([self._key(kind, name) for name in names])
        found = {}
        for name in names:
            key = self._key(kind, name)
            if (entry := entries.get(key)) is None:
                continue
            value = entry.value
            wanted = [f"{key}.part{number}" for number in range(1, _count(value))]
            more = self.store.get_many(wanted) if wanted else {}
            if len(more) == len(wanted):
                data = value.partition(b"\n")[2] + b"".join(more[part].value for part in wanted)
                try:
                    found[name] = zlib.decompress(data)
                except zlib.error as error:
                    raise SnapshotError(f"{self.store.url}: {key} is damaged: {error}") from error
        return found

    def _key(self, kind: str, name: str) -> str:
        return f"{self.deployment}/{kind}/{name}"

    def _kept(self, kind: str, name: str) -> bytes | None:
        if self.folder is None:
            return None
        try:
            return (self.folder / kind / name).read_bytes()
        except OSError:
            return None

    def _keep(self, kind: str, name: str, data: bytes) -> None:
        if self.folder is None or not self.fill:
            return
        path = self.folder / kind / name
        try:
            replace_file(path, data, durable=False, mode=folders.FILE)
        except OSError as error:  # a disk that is full: the store has it
            log.warning("%s cannot be kept on this machine: %s", path, error)


def _parts(key: str, data: bytes) -> list[tuple[str, bytes]]:
    """Split contents over as many keys as they need; the first one says how many."""
    packed = zlib.compress(data)
    parts = [packed[start : start + _PART] for start in range(0, len(packed), _PART)]
    first = (key, b"%d\n" % len(parts) + parts[0])
    # The first part comes last: who sees it sees them all.
    return [*((f"{key}.part{number}", part) for number, part in enumerate(parts) if number), first]


def _count(value: bytes) -> int:
    """Return how many parts a blob has: one where it says what nobody writes, and then it is damaged."""
    number = value.partition(b"\n")[0]
    return int(number) if number.isdigit() and len(number) <= _DIGITS else 1
