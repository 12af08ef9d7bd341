"""The terminal: what all commands share, which is their options, their store, and how they fail."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from ..settings import Settings
    from ..stores import Store

StoreOption = Annotated[str | None, typer.Option("--store", help="The store's URL; the setting's unless given.")]
PrefixOption = Annotated[str | None, typer.Option("--prefix", help="The keys' prefix; the setting's unless given.")]


def settings_of(store: str | None = None, prefix: str | None = None) -> Settings:
    """Return the settings, with what options say over them. Raises SettingsError."""
    from ..settings import Settings

    overrides: dict[str, Any] = {"store": store, "prefix": prefix}
    return Settings.read(**overrides)


def opened(settings: Settings) -> Store:
    """Open the store of the settings. Raises SettingsError."""
    from ..stores import open_store

    return open_store(settings.store, prefix=settings.prefix, timeout=max(settings.timeout, 10.0))


def fail(message: str) -> NoReturn:
    """End the program with one line on standard error, and exit code 2."""
    print(f"dagfactory-consul: {message}", file=sys.stderr)
    raise SystemExit(2)


def ago(seconds: float) -> str:
    """Return how long ago something was, and when that was."""
    moment = datetime.now(UTC).timestamp() - seconds
    return f"{seconds:.0f} s ago ({datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC)"
