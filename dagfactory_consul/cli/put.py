"""The command `put`: one document into the store."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .terminal import PrefixOption, StoreOption, opened, settings_of


def put(
    key: Annotated[str, typer.Argument(help="Relative to the prefix: flags/process-messages.")],
    value: Annotated[str, typer.Argument(help="JSON or YAML; - reads standard input.")],
    store: StoreOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Write one document: `put flags/process-messages false`."""
    from ..documents import decode

    text = sys.stdin.buffer.read() if value == "-" else os.fsencode(value)
    decode(key, text)
    target = opened(settings_of(store, prefix))
    target.put(key, text)
    print(f"{key} written to {target.url}")
