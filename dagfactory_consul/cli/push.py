"""The command `push`: the documents of a folder into the store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..problems import some
from .check import is_document, refuse_problems
from .terminal import ForceOption, PrefixOption, StoreOption, fail, opened, settings_of, shown

if TYPE_CHECKING:
    from ..stores.base import Entry, Reading


def push(
    folder: Annotated[Path, typer.Argument(help="A folder of YAML or JSON files, laid out like the keys.")],
    *,
    prune: Annotated[bool, typer.Option("--prune", help="Remove the documents that the folder lacks.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without a question.")] = False,
    force: ForceOption = False,
    store: StoreOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Write a folder's documents into the store, and print which keys are added (+), changed (~) and removed (-).

    Only documents that differ are written, and none at all if one of them has a problem. Files that are no documents,
    such as a README.md, are left out, and named.
    """
    from ..stores.base import READY

    entries, left_out = _documents(folder)
    settings = settings_of(store, prefix)
    target = opened(settings)
    for entry in entries:
        target.check_size(entry.key, entry.value)
    refuse_problems(entries, settings, force=force)
    present = target.read()
    known = {entry.key: entry.value for entry in present.entries}
    changed = [entry for entry in entries if known.get(entry.key) != entry.value]
    removed = _to_prune(present, entries) if prune else []
    if removed and not yes and not _agrees(removed, target.url):
        fail("nothing was written: the removal was not confirmed (--yes confirms it)")
    # The marker comes last: who sees it sees everything.
    ordered = sorted(changed, key=lambda entry: entry.key == READY)
    target.put_many((entry.key, entry.value) for entry in ordered)
    for key in removed:
        target.delete(key)
    for entry in changed:
        print(f"{'~' if entry.key in known else '+'} {entry.key}")
    for key in removed:
        print(f"- {shown(key)}")
    if left_out:
        print(f"left out, since nobody reads these keys: {some([shown(key) for key in left_out])}")
    added = sum(entry.key not in known for entry in changed)
    counts = f"{added} added, {len(changed) - added} changed, {len(removed)} removed"
    print(f"{target.url}: {counts}, {len(entries) - len(changed)} unchanged")


def _documents(folder: Path) -> tuple[list[Entry], list[str]]:
    """Return a folder's documents, and the keys that are none. Raises StoreError: one cannot be read."""
    from ..stores import open_store

    source = open_store(str(folder.resolve()))
    reading = source.read()
    for key, reason in reading.unreadable.items():
        if is_document(key):
            raise source.unreadable(key, reason)
    entries = [entry for entry in reading.entries if is_document(entry.key)]
    if not entries:
        fail(f"{folder} holds no documents: a folder has defaults.yaml, tenants/, flags/ or projects/")
    return entries, sorted({*(each.key for each in reading.entries), *reading.unreadable} - {e.key for e in entries})


def _to_prune(present: Reading, kept: list[Entry]) -> list[str]:
    """Return the documents in the store that are not kept. What else is there belongs to somebody else."""
    from ..stores.base import READY

    # Without the marker, which says that the data set is complete, all removals would be held.
    stay = {READY, *(entry.key for entry in kept)}
    found = {*(entry.key for entry in present.entries), *present.unreadable}
    return sorted(key for key in found - stay if is_document(key))


def _agrees(keys: list[str], url: str) -> bool:
    print(f"The folder lacks {some([shown(key) for key in keys])}.", file=sys.stderr)
    return typer.confirm(f"Remove {len(keys)} documents from {url}?", err=True)
