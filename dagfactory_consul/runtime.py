"""What the settings say, put together: the client of this deployment."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import ConfigClient
    from .guard import Deployed
    from .settings import Settings
    from .stores.base import Store

PARSING_DAG_ID = "_AIRFLOW_PARSING_CONTEXT_DAG_ID"
"""What Airflow's `get_parsing_context` reads: the DAG of the task that is about to start. Read here without Airflow."""

PARSING_TASK_ID = "_AIRFLOW_PARSING_CONTEXT_TASK_ID"
"""The task that is about to start. Airflow's commands (`airflow dags test`) name their DAG, and no task; and they leave
that name in the environment for all that they parse afterwards."""

SYS_PATH = "sys.path"
"""The file beside a version's files, on a worker, that says from where else the builders may import on this machine."""


def client_of(
    settings: Settings, deployed: Callable[[], Deployed | None] | None = None, **options: Any
) -> ConfigClient:
    """Return the config client for a store and prefix; all processes on this machine share what it knows.

    Args:
        settings: of the deployment.
        deployed: returns what is deployed now; what the plain loader has on this machine unless given.
        options: more arguments of the client.

    Raises:
        FolderError: the folder for it could be changed by another user.
    """
    from . import folders
    from .client import ConfigClient
    from .guard import Guard
    from .stores import open_store

    def opener(url: str) -> Callable[[], Store]:
        return lambda: open_store(url, prefix=settings.prefix, timeout=settings.timeout)

    def _of_loader() -> Deployed | None:
        from . import release

        return release.deployed(release.load(release_path(settings)))

    folders.check(folder_of(settings))
    return ConfigClient(
        opener(settings.store),
        folder_of(settings),
        ttl=settings.ttl,
        guard=Guard(settings.guard_share, settings.guard_minimum, deployed or _of_loader),
        fallback=opener(settings.fallback) if settings.fallback else None,
        timeout=settings.timeout,
        largest=settings.max_document_bytes,
        task_start=bool(os.environ.get(PARSING_DAG_ID)),
        **options,
    )


def history_store(settings: Settings) -> Store:
    """Return the store of the history. Raises SettingsError: its URL cannot be understood."""
    from .stores import open_store

    timeout = max(settings.timeout, 10.0)
    if settings.history:
        return open_store(settings.history, prefix=settings.prefix, timeout=timeout)
    return open_store(settings.store, prefix=settings.prefix, timeout=timeout).beside("history")


def runtime_store(settings: Settings) -> Store:
    """Return the store of what deployments say of themselves. Raises SettingsError: its URL cannot be understood."""
    from .stores import open_store

    return open_store(settings.store, prefix=settings.prefix, timeout=settings.timeout).beside("runtime")


def folder_of(settings: Settings) -> Path:
    """Return the folder for what is known of this store and prefix. It tells stores apart, and names none."""
    what = f"{settings.store}\0{settings.prefix.strip('/')}"
    return settings.state_dir / hashlib.sha256(what.encode()).hexdigest()[:12]


def release_path(settings: Settings) -> Path:
    """Return where the release of this environment and these builders stands."""
    what = "\0".join([settings.environment, *settings.builders])
    return folder_of(settings) / f"release-{hashlib.sha256(what.encode()).hexdigest()[:12]}"


def read_stamp(settings: Settings) -> tuple[str, float]:
    """Return for what the release was last renewed, changed or not, and when; "" and 0 where that is not known."""
    try:
        path = _stamp_path(settings)
        return path.read_text(), path.stat().st_mtime
    except (OSError, ValueError):
        return "", 0.0


def write_stamp(settings: Settings, fingerprint: str) -> None:
    """Note that the release is being renewed, for this code and the present snapshot. Raises OSError.

    It is written before DAGs are built: should that kill the process, the next parse does not try the same again at
    once, but shows what was in force.
    """
    path = _stamp_path(settings)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.write_text(stamp_of(settings, fingerprint))
    new.replace(path)


def forget_stamp(settings: Settings) -> None:
    """Let the next parse renew the release again."""
    with contextlib.suppress(OSError):
        _stamp_path(settings).unlink(missing_ok=True)


def stamp_of(settings: Settings, fingerprint: str) -> str:
    """Return what a stamp says: the code's fingerprint, and which snapshot is on disk, 0 where there is none."""
    try:
        return f"{fingerprint} {(folder_of(settings) / 'snapshot').stat().st_mtime_ns}"
    except OSError:
        return f"{fingerprint} 0"


def _stamp_path(settings: Settings) -> Path:
    return release_path(settings).with_suffix(".renewed")
