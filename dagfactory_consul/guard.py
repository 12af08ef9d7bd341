"""The guard: what is missing from a new snapshot may be an accident, so beyond a share it is held.

Nothing here looks at values: an explicit `false`, `enabled: false` or an edited document acts at once. Only keys that
are *gone* are weighed: an emptied store, a half-done import and a token that lost its rights all look like that.
Held keys keep the documents that they had; all that the new snapshot does say is in force.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from .snapshot import Document, Snapshot, of_lines
from .stores.base import READY

DEFAULTS = "defaults"


@dataclass(frozen=True, slots=True)
class Guard:
    """How much may vanish at once: up to `share` of what there is, or up to `minimum` pieces, whichever is more."""

    share: float = 0.2
    """Of the DAGs that the documents name (a project counts as one), and likewise of the flags; 1 holds nothing."""
    minimum: int = 2
    LATELY: ClassVar[float] = 600.0
    """Seconds within which the share may vanish, at once or bit by bit."""

    def check(self, old: Snapshot | None, new: Snapshot, *, accepted: str | None = None) -> Snapshot:
        """Return the snapshot to put in force: the new one, with the held documents of the old one if too much is gone.

        What has left within the last `LATELY` seconds counts as well: keys that go one by one are no smaller accident.
        What is held stays held until it is back or accepted, however few keys that are by then: where they are restored
        one by one there are only a few missing in the end. The marker's return says that what is missing is meant.

        `accepted` is the version of a snapshot that somebody has accepted as it is.
        """
        if old is None or accepted == new.version:
            return new
        lately = {
            key: (at, line)
            for key, (at, line) in old.left.items()
            if key not in new and key not in old and 0 <= new.read_at - at < self.LATELY
        }
        young = {key: at for key, at in old.young.items() if key in new and 0 <= new.read_at - at < self.LATELY}
        young |= {key: new.read_at for key in new if key not in old and key not in old.left}
        if not lately and old.lines.keys() <= new.lines.keys():
            return replace(new, young=young) if young else new
        lines = {key: line for key, line in old.lines.items() if key not in new}
        before = of_lines(
            {**old.lines, **{key: line for key, (_, line) in lately.items()}}, source="", mark=None, read_at=0
        )
        missing = [key for key in before if key not in new and not _is_listed_in_malformed(before[key], new)]
        kept = {key: line for key, line in lines.items() if key not in missing}
        if reason := self._why_hold(before, new, missing):
            stay, lately = missing, {}
        elif stay := _still_held(old, missing):
            reason = f"{len(stay)} of the keys that were held are still missing"
        held = {"version": new.version, "reason": reason, "missing": stay} if stay else None
        kept.update({key: before.lines[key] for key in stay})
        gone = [key for key in missing if key in lines and key not in stay]
        lately |= {key: (new.read_at, lines[key]) for key in gone if key not in old.young}
        return of_lines(
            {**kept, **new.lines},
            source=new.source,
            mark=new.mark,
            read_at=new.read_at,
            held=held,
            left=lately,
            young=young,
        )

    def _why_hold(  # noqa: PLR0911  # one reason after the other
        self, old: Snapshot, new: Snapshot, missing: list[str]
    ) -> str | None:
        if not missing:
            return None
        if not new:
            return "the store is empty"
        if READY in missing:
            return f"the marker {READY} is gone, so the data set is not complete"
        if DEFAULTS in missing:
            return f"{DEFAULTS} is gone, which shapes every DAG"
        weights = {key: _weight(document) for key, document in old.items()}
        lost, total = sum(weights[key] for key in missing), sum(weights.values())
        if lost > self.minimum and lost > self.share * total:
            return f"{lost} of {total} DAGs would go because their keys are missing"
        flags = [key for key in old if key.startswith("flags/")]
        lost, total = len([key for key in missing if key.startswith("flags/")]), len(flags)
        if lost > self.minimum and lost > self.share * total:
            return f"{lost} of {total} flags are missing"
        return None


def _still_held(old: Snapshot, missing: list[str]) -> list[str]:
    """Return the keys that were held before and are still missing.

    None where the marker is back that was held with them: it says that the data set is complete.
    """
    held = old.held["missing"] if old.held is not None else ()
    return [key for key in missing if key in held] if READY not in held else []


def _is_listed_in_malformed(document: Document, new: Snapshot) -> bool:
    """A tenant of a list is not gone when the list cannot be read: it is unknown, and keeps what it has."""
    return document.origin is not None and (listed := new.get(document.origin)) is not None and bool(listed.malformed)


def _weight(document: Document) -> int:
    """Count the DAGs that a document names, without asking whether a flag lets them run.

    A tenant whose document cannot be understood counts as one: its last good DAGs are in force.
    """
    if document.key.startswith("projects/"):
        return 1
    if not document.key.startswith("tenants/"):
        return 0
    if not isinstance(document.value, dict):
        return 1
    if document.value.get("enabled") is False:
        return 0
    dags = document.value.get("dags") or {}
    if not isinstance(dags, dict):
        return 1
    return sum(len(each) if isinstance(each, list) else 1 for each in dags.values())
