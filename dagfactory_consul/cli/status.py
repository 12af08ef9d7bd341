"""The command `status`: what is deployed, and what is wrong."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from ..errors import StoreError
from ..problems import told
from .terminal import EnvironmentOption, JsonOption, ago, opened, print_json, settings_of

if TYPE_CHECKING:
    from ..settings import Settings


def status(*, as_json: JsonOption = False, environment: EnvironmentOption = None) -> None:
    """Show what each deployment, and the plain loader on this machine, has deployed, how old it is, and what is wrong.

    Exits with 1 where nothing is deployed.
    """
    settings = settings_of(environment=environment)
    found: list[dict[str, Any]] = []
    try:
        found = deployments(settings)
    except StoreError as error:
        print(f"problem     what deployments say cannot be read: {error}", file=sys.stderr if as_json else None)
    machine = _machine(settings)
    nothing = _why_nothing(settings) if machine is None and not found else None
    if as_json:
        print_json({"deployments": found, "machine": machine, "nothing": nothing})
    else:
        for each in found:
            _show_deployment(each)
        if machine is not None:
            _show_machine(machine)
        if nothing is not None:
            print(nothing)
    if nothing is not None:
        raise typer.Exit(1)


def _why_nothing(settings: Settings) -> str:
    """Say why nothing is deployed, and the next step."""
    store = opened(settings)
    try:
        keys = store.keys()
    except StoreError as error:
        return f"Nothing is deployed: {error}"
    if not keys:
        return f"Nothing is deployed: {store.url} holds nothing. Write documents: dagfactory-consul push FOLDER"
    return (
        f"Nothing is deployed yet: {store.url} holds {len(keys):,} keys, and no DAG processor has deployed them with "
        "these settings. See whether it runs, and what Airflow's import errors say"
    )


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
    _show_former(status.get("refused", ()))
    _show_held(status["held"])
    print()


def _show_former(refused: Iterable[dict[str, Any]]) -> None:
    """Show the DAGs that keep a former configuration."""
    for each in refused:
        when = ago(time.time() - each["since"])
        print(f"former      {each['dag']}: its present configuration was refused {when}: {each['problem']}")


def _machine(settings: Settings) -> dict[str, Any] | None:
    """Return what the plain loader has deployed on this machine; None if that is nothing."""
    from .. import release as releases
    from ..runtime import client_of, release_path

    client = client_of(settings)
    about, attempt = client.about(), client.last_attempt()
    if not about:
        return None
    release = releases.load(release_path(settings))
    states = [placed.state for placed in release.dags.values()] if release is not None else []
    return {
        "store": about["source"],
        "snapshot": about["version"],
        "read": about["read_at"],
        "asked": attempt.at,
        "failures": attempt.failures,
        "dags": states.count(releases.ACTIVE) if release is not None else None,
        "draining": states.count(releases.DRAINING),
        "refused": release.former() if release is not None else [],
        "held": about.get("held"),
        "problems": [*client.problems(), *(told(release.problems) if release else ())],
    }


def _show_machine(machine: dict[str, Any]) -> None:
    now = time.time()
    failures = f", {machine['failures']} failures in a row" if machine["failures"] else ""
    rows = {
        "store": machine["store"],
        "snapshot": f"{machine['snapshot']}, read {ago(now - machine['read'])}",
        "last asked": ago(now - machine["asked"]) + failures,
    }
    if machine["dags"] is not None:
        rows["DAGs"] = f"{machine['dags']} active, {machine['draining']} draining"
    for name, text in rows.items():
        print(f"{name:11} {text}")
    for line in machine["problems"]:
        print(f"problem     {line}")
    _show_former(machine["refused"])
    _show_held(machine["held"])


def _show_held(held: dict[str, Any] | None) -> None:
    for what in ("missing", "dags"):
        for name in (held or {}).get(what, ()):
            print(f"held        {name}")


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
