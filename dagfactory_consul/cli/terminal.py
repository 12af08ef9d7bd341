"""The terminal: what all commands share, which is their options, their store, and how they fail."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ..problems import printable

if TYPE_CHECKING:
    from ..settings import Settings
    from ..stores import Store

KeyArgument = Annotated[
    str, typer.Argument(help="Relative to the prefix: tenants/acme, flags/process-messages, defaults.")
]
StoreOption = Annotated[str | None, typer.Option("--store", help="The store's URL; the setting's unless given.")]
PrefixOption = Annotated[str | None, typer.Option("--prefix", help="The keys' prefix; the setting's unless given.")]
EnvironmentOption = Annotated[
    str | None, typer.Option("--environment", help="The environment to look at; the setting's unless given.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Write documents although they have problems.")]


def settings_of(store: str | None = None, prefix: str | None = None, environment: str | None = None) -> Settings:
    """Return the settings, with what options say over them. Raises SettingsError."""
    from ..settings import Settings

    overrides: dict[str, Any] = {"store": store, "prefix": prefix, "environment": environment}
    return Settings.read(**overrides)


def opened(settings: Settings) -> Store:
    """Open the store of the settings. Raises SettingsError."""
    from ..stores import open_store

    return open_store(settings.store, prefix=settings.prefix, timeout=max(settings.timeout, 10.0))


def shown(key: str) -> str:
    """Return a key as a terminal shows it, whole: without control characters."""
    return printable(key, len(key) * 10)


def print_json(value: Any) -> None:
    """Print a value as JSON that people can read, too."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def fail(message: str) -> NoReturn:
    """End the program with one line on standard error, and exit code 2."""
    print(f"dagfactory-consul: {message}", file=sys.stderr)
    raise SystemExit(2)


def ago(seconds: float) -> str:
    """Return how long ago something was, and when that was."""
    moment = datetime.now(UTC).timestamp() - seconds
    return f"{seconds:.0f} s ago ({datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC)"
