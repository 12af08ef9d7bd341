"""The command `list`: the keys in the store."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import JsonOption, PrefixOption, StoreOption, opened, print_json, settings_of, shown


def list_keys(
    start: Annotated[str, typer.Argument(help="Only keys that begin like this: tenants/.")] = "",
    *,
    as_json: JsonOption = False,
    store: StoreOption = None,
    prefix: PrefixOption = None,
) -> None:
    """List the keys in the store, also those that nobody reads."""
    target = opened(settings_of(store, prefix))
    keys = [key for key in target.keys() if key.startswith(start)]  # noqa: SIM118  # a store is no mapping
    if as_json:
        print_json(keys)
    else:
        for key in keys:
            print(shown(key))
