"""The command `delete`: documents out of the store."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import PrefixOption, StoreOption, opened, settings_of, shown


def delete(
    keys: Annotated[list[str], typer.Argument(help="One or several, relative to the prefix: tenants/acme.")],
    *,
    store: StoreOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Remove documents. The DAGs of a tenant that is removed drain.

    If one of the keys does not exist, nothing is removed. Many removals at once are held: see `accept`.
    """
    from ..errors import StoreRejected, near_miss

    target = opened(settings_of(store, prefix))
    known = target.keys()
    if missing := next((key for key in keys if key not in known), None):
        wrong = f"nothing was removed: there is no key {missing!r}{near_miss(missing, known)}"
        raise StoreRejected(wrong, store=target.url)
    for key in keys:
        target.delete(key)
        print(f"{shown(key)} removed from {target.url}")
