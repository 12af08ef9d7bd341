"""The command `get`: one document of the store."""

from __future__ import annotations

import sys

from .terminal import JsonOption, KeyArgument, PrefixOption, StoreOption, opened, print_json, settings_of


def get(
    key: KeyArgument,
    *,
    as_json: JsonOption = False,
    store: StoreOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Print one document as it is stored."""
    from ..documents import decode
    from ..errors import StoreRejected, near_miss

    target = opened(settings_of(store, prefix))
    entry = target.get(key)
    if entry is None:
        raise StoreRejected(f"there is no key {key!r}{near_miss(key, target.keys())}", store=target.url)
    if as_json:
        print_json(decode(key, entry.value))
    else:
        sys.stdout.buffer.write(entry.value.removesuffix(b"\n") + b"\n")
