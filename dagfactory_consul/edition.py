"""An edition: a release as a bundle publishes it, arranged into files, with the snapshot that it was made from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from . import release as releases
from . import snapshot as snapshots
from .arrangement import Limits, arrange
from .codebase import Code
from .contents import Contents, State, state_of, to_json
from .head import Head
from .history import History, part_of
from .keyed_file import dumps
from .manifest import Version, reference
from .release import DRAINING, GONE, Placement, Release, placement_of, problems_of, shared_of
from .snapshot import Snapshot


class Edition(NamedTuple):
    """What is published together."""

    head: Head
    version: Version
    files: Mapping[str, Contents]
    """By path below the bundle."""
    places: Mapping[str, str]
    """By DAG id, the path of its file."""
    release: Release
    snapshot: Snapshot

    def references(self) -> set[str]:
        """Return the references of all that it consists of."""
        return {*self.version.blobs(), self.head.state, self.head.snapshot, *self.head.documents.values()}

    def draining(self) -> list[Placement]:
        """Return the DAGs that drain."""
        return [placed for placed in self.release.dags.values() if placed.state == DRAINING]

    def changed_since(self, before: Edition | None) -> list[str]:
        """Return the DAGs that another edition has not, or has otherwise."""
        known = _states(before.files.values()) if before is not None else {}
        return [dag_id for dag_id, state in _states(self.files.values()).items() if known.get(dag_id) != state]

    def idle_and_gone(self) -> list[str]:
        """Return the DAGs that have gone since they had no unfinished run."""
        return [dag_id for dag_id, placed in self.release.dags.items() if placed.state == GONE and placed.idle]


class Stamp(NamedTuple):
    """What tells one head from the next (see `Head`)."""

    sequence: int
    at: float
    """In seconds since the epoch."""
    by: str
    bundle: str


class Draft(NamedTuple):
    """An edition that is not agreed on yet, and what has to be in the history before it can be."""

    edition: Edition
    blobs: Mapping[str, bytes]


def make(
    release: Release,
    snapshot: Snapshot,
    previous: Edition | None,
    *,
    stamp: Stamp,
    limits: Limits,
    code: Code,
    archive: bytes | None,
    modules: Mapping[str, tuple[str, ...]],
) -> Draft:
    """Arrange a release into files over what was there before, and say what is new in it.

    Args:
        release: what is to be in force.
        snapshot: what it was made from.
        previous: what is in force.
        stamp: its number, when, and by whom.
        limits: how many files there may be.
        code: the builders' code that it was verified with.
        archive: that code packed; None where it is in the history already, or comes from elsewhere.
        modules: by builder, what it imports of Airflow.
    """
    blobs: dict[str, bytes] = {}
    places, files = _arranged(release, snapshot, previous, limits)
    references = {}
    for path, contents in files.items():
        if previous is not None and previous.files.get(path) is contents:
            references[path] = previous.version.files[path]
        else:
            references[path] = _add(blobs, contents.to_bytes())
    code_blob = _code_blob(blobs, code, archive, previous)
    parts = _in_parts(places, blobs, previous.version.places.values() if previous is not None else ())
    version = Version(
        "",
        stamp.at,
        references,
        parts,
        release.fingerprint,
        _gone(release, blobs),
        code.name,
        code_blob,
        dict(modules),
    ).named()
    state = _add(blobs, _state(release, code))
    head = Head(
        stamp.sequence,
        version.name,
        state,
        _add(blobs, dumps(snapshots.about(snapshot)).encode()),
        _documents(snapshot, previous, blobs),
        stamp.at,
        stamp.by,
        stamp.bundle,
    )
    return Draft(Edition(head, version, files, places, release, snapshot), blobs)


def load(head: Head, history: History) -> tuple[Edition, Code]:
    """Return the edition of a head, and the code that it was verified with.

    Raises:
        VersionGoneError: a part of it is not in the history.
        StoreError: the history does not answer.
        ValueError, KeyError, TypeError: it was written by another version of this package.
    """
    from .errors import VersionGoneError

    version = history.version(head.version)
    if version is None:
        raise VersionGoneError(f"{history.store.url} has no version {head.version} of {history.deployment}")
    found = history.get([*version.blobs(), head.state, head.snapshot, *head.documents.values()])
    files = {path: Contents.of_bytes(found[ref]) for path, ref in version.files.items()}
    state, about = json.loads(found[head.state]), json.loads(found[head.snapshot])
    dags = {
        dag_id: placed._replace(checked=state["unverified"].get(dag_id, version.fingerprint))
        for contents in files.values()
        for dag_id, placed in contents.dags.items()
    }
    dags |= {each["spec"]["dag_id"]: placement_of(each) for each in state["gone"]}
    release = Release(
        dict(sorted(dags.items())),
        problems_of(state),
        shared_of(state),
        about["version"],
        version.fingerprint,
    )
    lines: dict[str, str] = {}
    for ref in head.documents.values():
        lines.update(json.loads(found[ref]))
    about = {name: value for name, value in about.items() if name != "version"}
    snapshot = snapshots.of_lines(lines, **about)
    code = Code(version.code, tuple(state["sources"]), state["inner"])
    places = {dag_id: path for path, contents in files.items() for dag_id in contents.dags}
    return Edition(head, version, files, places, release, snapshot), code


def _arranged(
    release: Release, snapshot: Snapshot, previous: Edition | None, limits: Limits
) -> tuple[dict[str, str], dict[str, Contents]]:
    shown = {dag_id: placed for dag_id, placed in release.dags.items() if placed.shown}
    tenants = {dag_id: placed.spec.tenant or "" for dag_id, placed in shown.items()}
    before = _states(previous.files.values()) if previous is not None else {}
    changed = {dag_id for dag_id, placed in shown.items() if before.get(dag_id) != state_of(placed)}
    places = arrange(previous.places if previous is not None else {}, tenants, changed, limits)
    by_file: dict[str, dict[str, Placement]] = {}
    for dag_id, placed in shown.items():
        by_file.setdefault(places[dag_id], {})[dag_id] = placed
    indexes = _indexes(previous)
    files = {}
    for path, dags in sorted(by_file.items()):
        documents = {name: snapshot.get(f"tenants/{name}") for name in sorted({tenants[dag_id] for dag_id in dags})}
        index = {name: found.index if found else indexes.get(name, 0) for name, found in documents.items()}
        contents = Contents(snapshot.source, index, dags)
        known = previous.files.get(path) if previous is not None else None
        # What a header says is no reason to write a file: its DAGs are.
        files[path] = known if known is not None and known.same_dags(contents) else contents
    return places, files


def _states(files: Iterable[Contents]) -> dict[str, State]:
    return {dag_id: state for contents in files for dag_id, state in contents.states().items()}


def _indexes(previous: Edition | None) -> dict[str, int]:
    """Return what is known of tenants that have no document any more, and still drain."""
    if previous is None:
        return {}
    return {tenant: index for contents in previous.files.values() for tenant, index in contents.indexes.items()}


def _gone(release: Release, blobs: dict[str, bytes]) -> str | None:
    """Return the reference of the DAGs that were removed lately. The name covers it: a task may start from them."""
    gone = [to_json(each) for each in release.dags.values() if not each.shown]
    return _add(blobs, dumps(gone).encode()) if gone else None


def _code_blob(blobs: dict[str, bytes], code: Code, archive: bytes | None, previous: Edition | None) -> str | None:
    if archive is not None:
        return _add(blobs, archive)
    if previous is not None and previous.version.code == code.name:
        return previous.version.code_blob
    return None


def _state(release: Release, code: Code) -> bytes:
    fields = {
        **releases.about(release),
        "gone": [{**to_json(each), "idle": each.idle} for each in release.dags.values() if not each.shown],
        "unverified": {
            dag_id: each.checked
            for dag_id, each in release.dags.items()
            if each.shown and each.checked != release.fingerprint
        },
        "sources": list(code.sources),
        "inner": code.inner,
    }
    return dumps(fields).encode()


def _documents(snapshot: Snapshot, previous: Edition | None, blobs: dict[str, bytes]) -> dict[str, str]:
    if previous is not None and previous.snapshot.body == snapshot.body:
        return dict(previous.head.documents)
    return _in_parts(snapshot.lines, blobs, previous.head.documents.values() if previous is not None else ())


def _in_parts(values: Mapping[str, str], blobs: dict[str, bytes], known: Collection[str]) -> dict[str, str]:
    """Return the references of what is kept in parts, and add those contents that are not known."""
    parts: dict[str, dict[str, str]] = {}
    for key, value in values.items():
        parts.setdefault(part_of(key), {})[key] = value
    found = {}
    for name, part in sorted(parts.items()):
        data = dumps(part).encode()
        found[name] = ref = reference(data)
        if ref not in known:
            blobs[ref] = data
    return found


def _add(blobs: dict[str, bytes], data: bytes) -> str:
    ref = reference(data)
    blobs[ref] = data
    return ref
