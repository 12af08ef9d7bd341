"""The command `push`: a folder's documents into the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import PrefixOption, StoreOption, opened, settings_of


def push(
    folder: Annotated[Path, typer.Argument(help="A folder of YAML or JSON files, laid out like the keys.")],
    store: StoreOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Write a folder's documents into the store, unless one of them is malformed or too large."""
    from ..documents import decode
    from ..stores import open_store
    from ..stores.base import READY

    source = open_store(str(folder.resolve()))
    reading = source.read()
    for key, reason in reading.unreadable.items():
        raise source.unreadable(key, reason)
    entries = reading.entries
    for entry in entries:
        if entry.key != READY:
            decode(entry.key, entry.value)
    target = opened(settings_of(store, prefix))
    for entry in entries:
        target.check_size(entry.key, entry.value)
    # The marker comes last: who sees it sees everything.
    ordered = sorted(entries, key=lambda entry: entry.key == READY)
    target.put_many((entry.key, entry.value) for entry in ordered)
    print(f"{len(ordered)} documents written to {target.url}")
