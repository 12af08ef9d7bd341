"""Which keys a store takes: plain relative paths, so that one name means one place everywhere."""

from __future__ import annotations

from ..errors import StoreRejected


def check_key(key: str, *, store: str) -> None:
    """Refuse a key that is no plain relative path: empty, absolute, with `.`, `..` or empty parts, or unprintable.

    Raises:
        StoreRejected: says what is wrong with it.
    """
    if not key or not key.isprintable():
        raise StoreRejected(f"{key!r} cannot be a key: it is empty or holds unprintable characters", store=store)
    if any(part in {"", ".", ".."} for part in key.split("/")):
        raise StoreRejected(f"{key!r} cannot be a key: write a relative path such as tenants/acme", store=store)
