"""A snapshot: all documents of one read, immutable, with a version, where it came from, and when."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from . import __version__, keyed_file
from .documents import LIMIT, decode, too_large
from .errors import DocumentError
from .sensitive import explain_secret, find_secret
from .stores.base import READY, Reading

LIST = "tenants"
"""The key that may hold a list of tenants, instead of a key for each."""


PROJECTS, FLAGS = "projects/", "flags/"
DECODER = f"{__version__}+1"
"""The version of the decoder. The number grows with each rule that refuses more, so that all are decoded again."""


class Document(NamedTuple):
    """One key's contents, decoded. A malformed one has a reason, and no value or its last good one (`_decoded`)."""

    key: str
    value: Any
    index: int = 0  # type: ignore[assignment]  # nobody misses tuple.index
    """The store's number of the last change (Consul's ModifyIndex), 0 where it keeps none."""
    malformed: str | None = None
    """Why the text could not be decoded."""
    origin: str | None = None
    """The key that holds it, where it is one of a list: `tenants`."""

    @classmethod
    def of_fields(cls, key: str, fields: list[Any]) -> Document:
        """Make it from a line of a file: index, checksum of the text, value, and the others if they say something."""
        return cls(key, fields[2], fields[0], *fields[3:])


@dataclass(frozen=True, eq=False)
class Snapshot(Mapping[str, Document]):
    """All documents of one read, by key. Whoever reads a document's value does not change it."""

    body: bytes
    """The documents as they stand in a file: decoded only when one is asked for."""
    version: str
    """A hash of the contents: equal contents have equal versions, wherever and whenever they were read."""
    source: str = ""
    """The address of the store that it came from, without credentials."""
    mark: str | None = None
    """The store's change mark as of this read."""
    read_at: float = 0.0
    """When it was read, in seconds since the epoch."""
    held: Mapping[str, Any] | None = None
    """What the guard holds back, None if nothing (see `guard`)."""
    decoded_by: str = DECODER
    """The version of this package that has decoded it: another one may see things differently."""
    left: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """The documents that have left lately, and that the guard let go: by key, when (seconds since the epoch), and how
    many DAGs were deployed by them (see `guard`)."""
    young: Mapping[str, float] = field(default_factory=dict)
    """The documents that have come lately: by key, when. Where they leave again that is no loss."""

    @cached_property
    def documents(self) -> dict[str, Document]:
        """All of them, sorted by key."""
        return {key: Document.of_fields(key, fields) for key, fields in json.loads(self.body).items()}

    @cached_property
    def lines(self) -> dict[str, str]:
        """Each document as its line in a file."""
        return keyed_file.lines_of(self.body)

    def __getitem__(self, key: str) -> Document:
        return self.documents[key]

    def __contains__(self, key: object) -> bool:
        return key in self.lines

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def under(self, folder: str) -> Iterator[Document]:
        """Yield the documents below `folder`, sorted by key."""
        start = f"{folder}/"
        return (document for key, document in self.documents.items() if key.startswith(start))

    def is_weighed_by(self, largest: int) -> bool:
        """Say whether this limit is the one by which documents were refused for their size, if any were."""
        if LIMIT.encode() not in self.body:
            return True
        refused = [line for line in self.lines.values() if _is_too_large(line)]
        return all(f"may have {largest:,}: " in line for line in refused)

    def age(self, now: float) -> float:
        """Seconds since it was read."""
        return max(0.0, now - self.read_at)


MAX_DOCUMENT_BYTES = 65_536
"""Bytes that one document may have unless the setting says otherwise: far more than a person writes."""


def from_reading(
    reading: Reading, *, now: float, previous: Snapshot | None = None, largest: int = MAX_DOCUMENT_BYTES
) -> Snapshot:
    """Take over what a store has answered. Never fails: what cannot be decoded is marked as malformed.

    What has not changed since `previous` is not decoded again.

    Args:
        reading: the store's answer.
        now: seconds since the epoch.
        previous: the snapshot before.
        largest: bytes that one document may have; the list `tenants` as many as the store takes, each tenant in it so
            many.
    """
    known = previous.lines if previous is not None and previous.decoded_by == DECODER else {}
    lines: dict[str, str] = {}
    for key, text, index in reading.entries:
        # A ModifyIndex alone tells nothing: in a Consul that was set up anew another change may bear it.
        start = f"[{index},{zlib.crc32(text)},"
        line = known.get(key)
        # The limit may be another one by now.
        if line is None or not line.startswith(start) or _is_too_large(line) or (key != LIST and len(text) > largest):
            line = start + _decoded(key, text, line, None if key == LIST else largest)
        lines[key] = line
    for key, reason in reading.unreadable.items():
        # The document is not missing, so its tenant keeps its last good DAGs.
        lines[key] = "[0,null," + _malformed(key, reason, known.get(key))
    if LIST in lines:
        _expand_list(lines, largest)
    return of_lines(lines, source=reading.source, mark=reading.mark, read_at=now)


def of_lines(
    lines: Mapping[str, str],
    *,
    source: str,
    mark: str | None,
    read_at: float,
    held: Mapping[str, Any] | None = None,
    left: Mapping[str, tuple[float, int]] | None = None,
    young: Mapping[str, float] | None = None,
    decoded_by: str = DECODER,
) -> Snapshot:
    """Make a snapshot of documents' lines, and take its version from their contents."""
    ordered = {key: lines[key] for key in sorted(lines)}
    # Without index and checksum, which differ between stores of equal contents.
    contents = "\0".join(f"{key}\0{line.split(',', 2)[2]}" for key, line in ordered.items())
    version = hashlib.sha256(contents.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    snapshot = Snapshot(
        keyed_file.body_of(ordered), version, source, mark, read_at, held, decoded_by, left or {}, young or {}
    )
    snapshot.__dict__["lines"] = ordered  # as the cached property would, had it been asked
    return snapshot


def save(snapshot: Snapshot, path: Path) -> None:
    """Write a snapshot to a file, atomically."""
    keyed_file.write(path, about(snapshot), snapshot.body)


def about(snapshot: Snapshot) -> dict[str, Any]:
    """Return all that is to be kept of a snapshot besides its documents."""
    names = ("version", "source", "mark", "read_at", "held", "decoded_by", "left", "young")
    return {name: getattr(snapshot, name) for name in names}


def load(path: Path) -> Snapshot:
    """Read a snapshot from its file. Raises FileNotFoundError, SnapshotError."""
    known, body = keyed_file.read(path)
    return Snapshot(body, **known)


def load_one(path: Path, key: str) -> Document | None:
    """Read one document from a snapshot's file, None if it has no such key. Raises FileNotFoundError, SnapshotError."""
    fields = keyed_file.read_one(path, key)
    return None if fields is None else Document.of_fields(key, fields)


def _decoded(key: str, text: bytes, before: str | None, largest: int | None) -> str:
    """Return the rest of a document's line, after its index and checksum: its value, or null and why.

    A project's document that cannot be used keeps its last good value: there is nobody else who could keep it. Those of
    tenants, flags and defaults are known by what is in force.

    Of a document with a secret only the checksum is kept: a snapshot is written to disks and into the history.
    """
    if key == READY:
        return "true]"
    try:
        value = decode(key, text, largest=largest)
        if key != LIST and not key.startswith(FLAGS):
            _check(key, value)
        return f"{keyed_file.dumps(value)}]"
    except DocumentError as error:
        return _malformed(key, error.reason, before)


def _malformed(key: str, reason: str, before: str | None) -> str:
    if key == READY:  # its being there is all that it says
        return "true]"
    last_good = json.loads(before)[2] if before is not None and key.startswith(PROJECTS) else None
    return f"{keyed_file.dumps(last_good)},{keyed_file.dumps(reason)}]"


def _check(key: str, value: Any) -> None:
    if key.startswith(PROJECTS) and not isinstance(value, dict):
        raise DocumentError("expected an object with the project's keys", key=key)
    if where := find_secret(value):
        raise DocumentError(explain_secret(where), key=key)
    if key.startswith(PROJECTS):  # those of others the plan looks for: it knows what the builders' models declare
        from .templates import explain  # few processes decode

        if reason := explain(value):
            raise DocumentError(reason, key=key)


def _expand_list(lines: dict[str, str], largest: int) -> None:
    """Turn one `tenants` document that holds a list (or a mapping) of tenants into a document for each."""
    listed = Document.of_fields(LIST, json.loads(lines[LIST]))
    if listed.malformed:
        return
    value = listed.value
    if isinstance(value, dict):
        value = [{"id": name, **each} if isinstance(each, dict) else each for name, each in value.items()]
    if not isinstance(value, list):
        lines[LIST] = _listed(listed.index, None, "expected a list of tenants, each with its `id`", origin=None)
        return
    del lines[LIST]
    for position, each in enumerate(value):
        name = each.get("id", each.get("name")) if isinstance(each, dict) else None
        key = f"{LIST}/{name}" if isinstance(name, str) else f"{LIST}/[{position}]"
        if key in lines:
            reason = "there are two documents of this id, one of them in the list `tenants`"
            lines[key] = _listed(listed.index, None, reason)
        elif not isinstance(name, str):
            lines[key] = _listed(listed.index, None, "a tenant in the list `tenants` needs an `id`")
        else:
            rest = {field: content for field, content in each.items() if field not in ("id", "name")}
            size = len(keyed_file.dumps(rest).encode("utf-8", "surrogatepass"))
            refused = too_large(key, size, largest).reason if size > largest else None
            if refused is None and (where := find_secret(rest)):
                refused = explain_secret(where)
            lines[key] = _listed(listed.index, None if refused else rest, refused)


def _is_too_large(line: str) -> bool:
    """Say whether a document was refused for its size. One may hold the setting's name as well."""
    return LIMIT in line and LIMIT in str((*json.loads(line)[3:], "")[0])


def _listed(index: int, value: Any, malformed: str | None = None, origin: str | None = LIST) -> str:
    return keyed_file.dumps([index, None, value, malformed, origin])
