"""The command `status`: what is deployed, and what is wrong."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import typer

from ..errors import StoreError
from ..problems import told
from .terminal import ago, opened, settings_of

if TYPE_CHECKING:
    from ..settings import Settings


def status() -> None:
    """Show what is in force in each deployment and on this machine, how old it is, and what is wrong."""
    settings = settings_of()
    found: list[dict[str, Any]] = []
    try:
        found = deployments(settings)
    except StoreError as error:
        print(f"problem     what deployments say cannot be read: {error}")
    for each in found:
        _show_deployment(each)
    if not _show_machine(settings) and not found:
        print(f"Nothing is known yet of {settings.store}: no DAG file has been parsed with these settings.")
        raise typer.Exit(1)


def _show_deployment(status: dict[str, Any]) -> None:
    rows = {
        "deployment": f"{status['deployment']} (bundle {status['bundle']})",
        "version": f"{status['version']}, agreed {ago(time.time() - status['agreed'])}",
        "snapshot": f"{status['snapshot']}, index {status['index']}",
        "written": f"{ago(time.time() - status['at'])} by {status['by']}",
        "DAGs": f"{status['dags']} active, {status.get('draining_count', len(status['draining']))} draining",
    }
    for name, text in rows.items():
        print(f"{name:11} {text}")
    for line in status["problems"]:
        print(f"problem     {line}")
    for each in status.get("refused", ()):
        _show_former(each["dag"], time.time() - each["since"], each["problem"])
    for name in (status["held"] or {}).get("dags", ()):
        print(f"held        {name}")
    print()


def _show_former(dag_id: str, seconds: float, problem: str | None) -> None:
    print(f"former      {dag_id}: its present configuration was refused {ago(seconds)}: {problem}")


def _show_machine(settings: Settings) -> bool:
    """Show what the plain loader has in force on this machine; False if that is nothing."""
    from .. import release as releases
    from ..runtime import client_of, release_path

    client = client_of(settings)
    about, attempt = client.about(), client.last_attempt()
    release = releases.load(release_path(settings))
    if not about:
        return False
    now = client.clock()
    rows = {
        "store": about["source"],
        "snapshot": f"{about['version']}, read {ago(now - about['read_at'])}",
        "last asked": f"{ago(now - attempt.at)}" + (f", {attempt.failures} failures in a row" * bool(attempt.failures)),
    }
    if release is not None:
        states = [placed.state for placed in release.dags.values()]
        rows["DAGs"] = f"{states.count(releases.ACTIVE)} active, {states.count(releases.DRAINING)} draining"
    for name, text in rows.items():
        print(f"{name:11} {text}")
    for line in [*client.problems(), *(told(release.problems) if release else ())]:
        print(f"problem     {line}")
    if release is not None:
        for dag_id, placed in release.dags.items():
            if placed.refused and placed.shown:
                _show_former(dag_id, now - placed.refused, release.why(dag_id))
    return True


def deployments(settings: Settings) -> list[dict[str, Any]]:
    """Return what each deployment has written of itself. Raises StoreError."""
    from ..reporting import STATUS

    beside = opened(settings).beside("runtime")
    keys = [key for key in beside.keys() if key.endswith(f"/{STATUS}")]  # noqa: SIM118  # a store is no mapping
    found = []
    for entry in beside.get_many(keys).values():
        with contextlib.suppress(ValueError):  # damaged: its deployment writes it again
            found.append(json.loads(entry.value))
    return found
