"""The guard: what is missing from a new snapshot may be an accident, so beyond a share it is held.

Nothing here looks at values: an explicit `false`, `enabled: false` or an edited document acts at once. Only keys that
are *gone* are weighed: an emptied store, a half-done import and a token that lost its rights all look like that.
Held keys keep the documents that they had; the guard passes on all that the new snapshot does say.

A tenant's key weighs as many DAGs as the tenant has deployed now. What has no DAG is not held, and a tenant whose DAGs
were removed comes back by a new document alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from .problems import some
from .snapshot import Document, Snapshot, of_lines
from .stores.base import READY

DEFAULTS = "defaults"

Deployed = Mapping[str, Sequence[str]]
"""The ids of the DAGs that are deployed and not draining, by tenant."""


@dataclass(frozen=True, slots=True)
class Guard:
    """How much may vanish at once: up to `share` of what there is, or up to `minimum` pieces, whichever is more."""

    share: float = 0.2
    """Of the DAGs that are deployed (a project counts as one), and likewise of the flags; 1 holds nothing."""
    minimum: int = 2
    deployed: Callable[[], Deployed | None] = lambda: None
    """Returns the DAGs deployed now. Where they are not known (None), a tenant weighs as many as its document names."""
    LATELY: ClassVar[float] = 600.0
    """Seconds within which the share may vanish, at once or bit by bit."""

    def check(self, old: Snapshot | None, new: Snapshot, *, accepted: str | None = None) -> Snapshot:
        """Return the snapshot to use: the new one, with the held documents of the old one if too much is gone.

        What has left within the last `LATELY` seconds counts as well: keys that go one by one are no smaller accident.
        It does not come back, since its DAGs are on their way out or gone already.
        What is held stays held until it is back or accepted, however few keys that are by then: where they are restored
        one by one there are only a few missing in the end. The marker's return says that what is missing is meant.

        `accepted` is the version of a snapshot that somebody has accepted as it is.
        """
        if old is None or accepted == new.version:
            return new
        lately = {
            key: (at, count if isinstance(count, int) else 1)  # a former form of it is the document's line
            for key, (at, count) in old.left.items()
            if key not in new and key not in old and 0 <= new.read_at - at < self.LATELY
        }
        young = {key: at for key, at in old.young.items() if key in new and 0 <= new.read_at - at < self.LATELY}
        young |= {key: new.read_at for key in new if key not in old and key not in old.left}
        if old.lines.keys() <= new.lines.keys():
            return replace(new, young=young, left=lately) if young or lately else new
        deployed = self.deployed()
        gone = [key for key in old if key not in new]
        missing = [key for key in gone if not _is_listed_in_malformed(old[key], new)]
        weights = {key: weight(document, deployed) for key, document in old.items()}
        stay: list[str] = []
        if reason := self._why_hold(old, new, missing, weights, sum(each for _, each in lately.values())):
            stay = [key for key in missing if weights[key] or not key.startswith("tenants/")]
        elif stay := [key for key in _still_held(old, missing) if weights[key] or not key.startswith("tenants/")]:
            reason = f"{len(stay)} of the keys that were held are still missing: {some(stay)}"
        kept = {key: old.lines[key] for key in gone if key not in missing or key in stay}
        went = [key for key in missing if key not in stay and key not in old.young]
        held = {"version": new.version, "reason": reason, "missing": stay, "dags": _dags(stay, deployed)}
        return of_lines(
            {**kept, **new.lines},
            source=new.source,
            mark=new.mark,
            read_at=new.read_at,
            held=held if stay else None,
            left=lately | {key: (new.read_at, weights[key]) for key in went},
            young=young,
        )

    def _why_hold(  # noqa: PLR0911  # one reason after the other
        self, old: Snapshot, new: Snapshot, missing: list[str], weights: Mapping[str, int], lately: int
    ) -> str | None:
        if not missing:
            return None
        if not new:
            return "the store is empty"
        if READY in missing:
            return f"the marker {READY} is gone, so the data set is not complete"
        if DEFAULTS in missing:
            return f"{DEFAULTS} is gone, which shapes every DAG"
        lost, total = sum(weights[key] for key in missing), sum(weights.values()) + lately
        if lost and lost + lately > self.minimum and lost + lately > self.share * total:
            keys = [key for key in missing if weights[key]]
            before = f", after {lately} that went lately," if lately else ""
            return f"{lost} of {total} DAGs{before} would go because their keys are missing: {some(keys)}"
        flags = [key for key in old if key.startswith("flags/")]
        lost, total = len(absent := [key for key in missing if key.startswith("flags/")]), len(flags)
        if lost > self.minimum and lost > self.share * total:
            return f"{lost} of {total} flags are missing: {some(absent)}"
        return None


def told(held: Mapping[str, Any]) -> str:
    """Return a hold as one line: why, which keys and DAGs, and how to see all of them and to let them go."""
    dags = f" (DAGs: {some(held['dags'])})" if held.get("dags") else ""
    version = held["version"]
    return (
        f"{held['reason']}{dags}. They stay until they are back. See all: dagfactory-consul accept --show "
        f"{version}; let them go: dagfactory-consul accept {version}"
    )


def weight(document: Document, deployed: Deployed | None) -> int:
    """Return how many DAGs would go with a document."""
    if document.key.startswith("projects/"):
        return 1
    if not document.key.startswith("tenants/"):
        return 0
    if deployed is None:
        return _named_dags(document)
    return len(deployed.get(document.key.removeprefix("tenants/"), ()))


def _dags(keys: Iterable[str], deployed: Deployed | None) -> list[str]:
    """Return the ids of the DAGs that these keys keep."""
    tenants = [key.removeprefix("tenants/") for key in keys if key.startswith("tenants/")]
    return sorted(dag_id for tenant in tenants for dag_id in (deployed or {}).get(tenant, ()))


def _still_held(old: Snapshot, missing: list[str]) -> list[str]:
    """Return the keys that were held before and are still missing.

    None where the marker is back that was held with them: it says that the data set is complete.
    """
    held = old.held["missing"] if old.held is not None else ()
    return [key for key in missing if key in held] if READY not in held else []


def _is_listed_in_malformed(document: Document, new: Snapshot) -> bool:
    """A tenant of a list is not gone when the list cannot be read: it is unknown, and keeps what it has."""
    return document.origin is not None and (listed := new.get(document.origin)) is not None and bool(listed.malformed)


def _named_dags(document: Document) -> int:
    """Count the DAGs that a document names, without asking whether a flag lets them run.

    A tenant whose document cannot be understood counts as one: its last good DAGs are deployed.
    """
    if not isinstance(document.value, dict):
        return 1
    if document.value.get("enabled") is False:
        return 0
    dags = document.value.get("dags") or {}
    if not isinstance(dags, dict):
        return 1
    return sum(len(each) if isinstance(each, list) else 1 for each in dags.values())
