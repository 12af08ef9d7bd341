"""The command `put`: one document into the store."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .check import refuse_problems
from .terminal import ForceOption, KeyArgument, PrefixOption, StoreOption, opened, settings_of


def put(
    key: KeyArgument,
    value: Annotated[str, typer.Argument(help="JSON or YAML; - reads standard input.")],
    *,
    force: ForceOption = False,
    store: StoreOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Write one document: `put flags/process-messages false`.

    A document that has a problem by itself is refused. `plan` shows whether builders take it.
    """
    from ..stores.base import Entry
    from ..stores.keys import check_key

    entry = Entry(key, sys.stdin.buffer.read() if value == "-" else os.fsencode(value))
    settings = settings_of(store, prefix)
    target = opened(settings)
    check_key(key, store=target.url)
    target.check_size(key, entry.value)
    refuse_problems([entry], settings, force=force)
    target.put(key, entry.value)
    print(f"{key} written to {target.url}")
