"""The release: what is in force on this machine: each DAG's spec, whether it is active or drains, and the problems."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import keyed_file
from .errors import SnapshotError
from .problems import Problem
from .spec import DagSpec

if TYPE_CHECKING:
    from .snapshot import Document

log = logging.getLogger(__name__)

_UNUSABLE = (SnapshotError, OSError, KeyError, TypeError, ValueError)
"""What reading a file raises that is damaged, or was written by another version of this package."""

ACTIVE = "active"
DRAINING = "draining"
GONE = "gone"


class Placement(NamedTuple):
    """One DAG in force."""

    spec: DagSpec
    state: str = ACTIVE
    """ACTIVE; DRAINING: no new runs, shown until those under way have ended; GONE: no longer shown, but a task that is
    just starting still finds it."""
    since: float = 0.0
    """When it came into this state, in seconds since the epoch."""
    idle: bool = False
    """Whether the last refresh saw it draining without an unfinished run."""
    checked: str | None = None
    """The fingerprint of the code with which it was seen to build and to serialise; None: not yet."""
    origin: str = ""
    """Where its builder is imported from (see `Registry.load_one`)."""
    refused: float = 0.0
    """Since when its present configuration is refused, and it keeps a former one, in seconds since the epoch; or 0."""

    @property
    def shown(self) -> bool:
        """Whether Airflow is given this DAG at a parse."""
        return self.state != GONE


class Release(NamedTuple):
    """What is in force, by DAG id, in order."""

    dags: Mapping[str, Placement]
    problems: tuple[Problem, ...] = ()
    shared: Mapping[str, Document] | None = None
    """The flags' and the defaults' documents in force, by key: the last good ones where the present are malformed."""
    snapshot: str = ""
    """The version of the snapshot that it was made from."""
    fingerprint: str = ""
    """Of the builders' code that it was made with."""

    def specs(self) -> dict[str, DagSpec]:
        """Return the specs of the DAGs that Airflow is given."""
        return {dag_id: each.spec for dag_id, each in self.dags.items() if each.shown}

    def former(self, most: int | None = None) -> list[dict[str, Any]]:
        """Return the DAGs that keep a former configuration, the first of them first: since when, and the problem."""
        if not self.problems:
            return []  # none does without one
        found = sorted((each.refused, dag_id) for dag_id, each in self.dags.items() if each.refused and each.shown)
        first = {(each.tenant, each.dag_id): each for each in reversed(self.problems)}
        rows = []
        for since, dag_id in found[:most]:
            tenant = self.dags[dag_id].spec.tenant
            problem = first.get((tenant, dag_id)) or first.get((tenant, None))
            rows.append({"dag": dag_id, "tenant": tenant, "since": since, "problem": problem and str(problem)})
        return rows


def deployed(release: Release | None) -> dict[str, list[str]] | None:
    """Return the ids of the active DAGs by tenant; None where there is no release."""
    if release is None:
        return None
    found: dict[str, list[str]] = {}
    for dag_id, placed in release.dags.items():
        if placed.state == ACTIVE and placed.spec.tenant is not None:
            found.setdefault(placed.spec.tenant, []).append(dag_id)
    return found


def save(release: Release, path: Path) -> None:
    """Write a release to a file, atomically."""
    versions = {"snapshot": release.snapshot, "fingerprint": release.fingerprint}
    body = keyed_file.body_of({key: _to_line(each) for key, each in release.dags.items()})
    keyed_file.write(path, {**about(release), **versions}, body)


def about(release: Release) -> dict[str, Any]:
    """Return what a release says besides its DAGs, as JSON: see `problems_of` and `shared_of`."""
    return {
        "problems": [problem._asdict() for problem in release.problems],
        "shared": {key: [each.value, each.index] for key, each in (release.shared or {}).items()},
    }


def load(path: Path) -> Release | None:
    """Read a release from its file; None if there is none, or it cannot be used: then it is made anew."""
    try:
        known, body = keyed_file.read(path)
        dags = {dag_id: placement_of(value) for dag_id, value in json.loads(body).items()}
        return Release(dags, problems_of(known), shared_of(known), known["snapshot"], known["fingerprint"])
    except FileNotFoundError:
        return None
    except _UNUSABLE as error:
        log.warning("What was in force cannot be read, and is worked out anew: %s", error)
        return None


def load_placement(path: Path, dag_id: str) -> Placement | None:
    """Read one DAG from a release's file; None if it is not in it, or there is no such file."""
    try:
        value = keyed_file.read_one(path, dag_id)
        return None if value is None else placement_of(value)
    except (FileNotFoundError, *_UNUSABLE):
        return None


def load_problems(path: Path) -> tuple[Problem, ...]:
    """Read only the problems of a release."""
    try:
        return problems_of(keyed_file.read_about(path))
    except FileNotFoundError:
        return ()


def _to_line(placed: Placement) -> str:
    fields: dict[str, Any] = {
        "spec": placed.spec.to_json(),
        "state": placed.state,
        "since": placed.since,
        "idle": placed.idle,
        "checked": placed.checked,
        "origin": placed.origin,
    }
    if placed.refused:
        fields["refused"] = placed.refused
    return keyed_file.dumps(fields)


def placement_of(fields: Mapping[str, Any]) -> Placement:
    """Return a DAG of what is kept of it; what is not has its default. Raises KeyError, TypeError."""
    return Placement(**{**fields, "spec": DagSpec.from_json(fields["spec"])})


def problems_of(known: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return the problems of what `about` has said. Raises KeyError, TypeError."""
    return tuple(Problem(**each) for each in known["problems"])


def shared_of(known: Mapping[str, Any]) -> dict[str, Document]:
    """Return the shared documents of what `about` has said. Raises KeyError, TypeError."""
    from .snapshot import Document  # a task start needs none of it

    return {key: Document(key, value, index) for key, (value, index) in known["shared"].items()}
