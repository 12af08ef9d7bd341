"""Opening a store by its URL. A new kind of store is a file in this folder and a line in `SCHEMES`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from urllib.parse import quote, urlsplit

from ..errors import SettingsError, near_miss
from .base import Entry, Reading, Store

__all__ = ["SCHEMES", "Entry", "Reading", "Store", "open_store"]

SCHEMES = {
    "consul": "consul:ConsulStore",
    "consul+http": "consul:ConsulStore",
    "consul+https": "consul:ConsulStore",
    "consul+unix": "consul:ConsulStore",
    "file": "files:FileStore",
    "memory": "memory:MemoryStore",
    "variable": "variables:VariableStore",
}
"""URL scheme → `module:Class`, imported when it is first opened, so that nobody pays for another store's driver."""
OBJECTS = "objects:ObjectStore"
"""What opens every other scheme that fsspec knows: s3, gs, abfs, …"""


def open_store(url: str | Sequence[str], *, prefix: str = "dagfactory/", timeout: float = 2.0) -> Store:
    """Open the store that a URL names.

    Args:
        url: `consul://host:8500`, `consul+https://…`, `consul://?conn_id=…`, a path or `file:///folder`,
            `variable://name`, `memory://name`, `s3://bucket/folder` or another one that fsspec knows; several of them,
            in a list or separated by commas, are a chain in which the next one answers when the one before it cannot be
            reached.
        prefix: under which the entries stand, with or without its trailing slash; a folder is its own prefix, wherever
            it is.
        timeout: seconds that one operation may take in all, its retries included.

    Raises:
        SettingsError: the URL names no known kind of store, or lacks or contains what it must not.
    """
    urls = url.split(",") if isinstance(url, str) else list(url)
    urls = [each.strip() for each in urls if each.strip()]
    if not urls:
        raise SettingsError("no store is named: set AIRFLOW__DAGFACTORY_CONSUL__STORE, for example to consul://")
    stores = [_open_one(each, prefix=prefix.strip("/") + "/", timeout=timeout) for each in urls]
    if len(stores) == 1:
        return stores[0]
    from .chain import ChainStore

    return ChainStore(stores)


def _open_one(url: str, *, prefix: str, timeout: float) -> Store:
    parts = urlsplit(url if "://" in url else f"file://{quote(url)}")
    where = SCHEMES.get(parts.scheme) or _of_objects(parts.scheme)
    user, at, _ = parts.netloc.rpartition("@")
    if at and (where != OBJECTS or ":" in user):  # before a bucket stands an Airflow connection's id
        raise SettingsError(
            f"a {parts.scheme}:// URL must not hold credentials: use CONSUL_HTTP_TOKEN_FILE or an Airflow connection"
        )
    module, _, name = where.partition(":")
    store: Store = getattr(import_module(f".{module}", __name__), name).from_url(parts, prefix=prefix, timeout=timeout)
    return store


def _of_objects(scheme: str) -> str:
    from .filesystem import is_known  # imports fsspec, which an address of another kind does without

    if not is_known(scheme):
        raise SettingsError(f"no store is of the kind {scheme!r}{near_miss(scheme, {*SCHEMES, 's3', 'gs', 'abfs'})}")
    return OBJECTS
