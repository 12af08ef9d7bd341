"""The commands: `dagfactory-consul push | put | plan | status | accept`, with the same settings as the DAG files."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import DagFactoryError, StoreError

if TYPE_CHECKING:
    from .release import Release
    from .settings import Settings
    from .snapshot import Snapshot
    from .stores import Store

app = typer.Typer(
    help="Tenants' DAGs from a configuration service. Settings: AIRFLOW__DAGFACTORY_CONSUL__… or airflow.cfg.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StoreOption = Annotated[str | None, typer.Option("--store", help="The store's URL; the setting's unless given.")]
PrefixOption = Annotated[str | None, typer.Option("--prefix", help="The keys' prefix; the setting's unless given.")]


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A folder of YAML or JSON files, laid out like the keys.")],
    store: StoreOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Write a folder's documents into the store, unless one of them is malformed or too large."""
    from .documents import decode
    from .stores import open_store
    from .stores.base import READY

    entries = open_store(str(folder.resolve())).read().entries
    for entry in entries:
        if entry.key != READY:
            decode(entry.key, entry.value)
    target = _store(store, prefix)
    for entry in entries:
        target.check_size(entry.key, entry.value)
    # The marker comes last: who sees it sees everything.
    ordered = sorted(entries, key=lambda entry: entry.key == READY)
    target.put_many((entry.key, entry.value) for entry in ordered)
    print(f"{len(ordered)} documents written to {target.url}")


@app.command()
def put(
    key: Annotated[str, typer.Argument(help="Relative to the prefix: flags/process-messages.")],
    value: Annotated[str, typer.Argument(help="JSON or YAML; - reads standard input.")],
    store: StoreOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Write one document: `put flags/process-messages false`."""
    from .documents import decode

    text = sys.stdin.buffer.read() if value == "-" else os.fsencode(value)
    decode(key, text)
    target = _store(store, prefix)
    target.put(key, text)
    print(f"{key} written to {target.url}")


@app.command()
def plan(store: StoreOption = None, prefix: PrefixOption = None) -> None:
    """Show what the store would put in force, against what is. Exits with 1 where something has to be mended."""
    from . import release as releases
    from .plan import diff
    from .plan import plan as make_plan
    from .registry import load_builders
    from .runtime import client_of
    from .snapshot import from_reading

    settings = _settings(store, prefix)
    registry = load_builders(settings)
    reading = _open(settings).read()
    in_force, known = _in_force(settings)
    snapshot = client_of(settings).guard.check(
        known, from_reading(reading, now=time.time(), largest=settings.max_document_bytes)
    )
    new = make_plan(
        snapshot,
        registry,
        settings.environment,
        last_good=in_force.shared if in_force else None,
        now=time.time(),
        max_dags=settings.max_dags,
    )
    before = {
        dag_id: placed.spec
        for dag_id, placed in (in_force.dags if in_force else {}).items()
        if placed.state == releases.ACTIVE
    }
    change = diff(before, new.specs)
    stay = [each for each in change.removed if new.keeps(before[each])]
    go = [each for each in change.removed if not new.keeps(before[each])]
    for sign, dag_ids in (("+", change.added), ("~", change.changed), ("-", go)):
        for dag_id in dag_ids:
            print(f"{sign} {dag_id}")
    for dag_id in stay:
        print(f"! {dag_id} stays as it is, because of a problem")
    for problem in new.problems:
        print(f"problem: {problem}")
    if snapshot.held:
        print(f"held: {snapshot.held['reason']}; what is missing stays as it is, unless somebody accepts it")
    print(f"{len(new.specs)} DAGs: {len(change.added)} new, {len(change.changed)} changed, {len(go)} to go")
    if new.problems:
        raise typer.Exit(1)


@app.command()
def status() -> None:
    """Show what is in force in each deployment and on this machine, how old it is, and what is wrong."""
    settings = _settings(None, None)
    deployments = []
    try:
        deployments = _deployments(settings)
    except StoreError as error:
        print(f"problem     what deployments say cannot be read: {error}")
    for each in deployments:
        _show_deployment(each)
    if not _show_machine(settings) and not deployments:
        print(f"Nothing is known yet of {settings.store}: no DAG file has been parsed with these settings.")
        raise typer.Exit(1)


def _show_deployment(status: dict[str, Any]) -> None:
    rows = {
        "deployment": f"{status['deployment']} (bundle {status['bundle']})",
        "version": f"{status['version']}, agreed {_ago(time.time() - status['agreed'])}",
        "snapshot": f"{status['snapshot']}, index {status['index']}",
        "written": f"{_ago(time.time() - status['at'])} by {status['by']}",
        "DAGs": f"{status['dags']} active, {len(status['draining'])} draining",
    }
    for name, text in rows.items():
        print(f"{name:11} {text}")
    for line in status["problems"]:
        print(f"problem     {line}")
    print()


def _show_machine(settings: Settings) -> bool:
    """Show what the plain loader has in force on this machine; False if that is nothing."""
    from . import release as releases
    from .runtime import client_of, release_path

    client = client_of(settings)
    about, attempt = client.about(), client.last_attempt()
    release = releases.load(release_path(settings))
    if not about:
        return False
    now = client.clock()
    rows = {
        "store": about["source"],
        "snapshot": f"{about['version']}, read {_ago(now - about['read_at'])}",
        "last asked": f"{_ago(now - attempt.at)}"
        + (f", {attempt.failures} failures in a row" * bool(attempt.failures)),
    }
    if release is not None:
        states = [placed.state for placed in release.dags.values()]
        rows["DAGs"] = f"{states.count(releases.ACTIVE)} active, {states.count(releases.DRAINING)} draining"
    for name, text in rows.items():
        print(f"{name:11} {text}")
    for line in [*client.problems(), *(map(str, release.problems) if release else ())]:
        print(f"problem     {line}")
    return True


@app.command()
def accept(version: Annotated[str, typer.Argument(help="The held snapshot's version, as `status` shows it.")]) -> None:
    """Put a held snapshot in force as it is: what is missing from it then goes."""
    from .runtime import client_of

    settings = _settings(None, None)
    client = client_of(settings)
    found = [client.about().get("held")]
    with contextlib.suppress(StoreError):  # what this machine holds is known all the same
        found += [each["held"] for each in _deployments(settings)]
    held = {each["version"]: each["reason"] for each in found if each}
    if not held:
        _fail("nothing is held")
    elif version not in held:
        known = "; ".join(f"{each}: {reason}" for each, reason in held.items())
        _fail(f"{version!r} is not what is held, but {known}")
    else:
        client.accept(version)
        print(f"Accepted: {held[version]}. The next refresh puts it in force.")


def main() -> None:
    """Run the commands. An error of this package is one line on standard error, and exit code 2."""
    try:
        app()
    except DagFactoryError as error:
        _fail(str(error))


def _fail(message: str) -> None:
    print(f"dagfactory-consul: {message}", file=sys.stderr)
    raise SystemExit(2)


def _deployments(settings: Settings) -> list[dict[str, Any]]:
    """Return what each deployment has written of itself. Raises StoreError."""
    from .reporting import STATUS

    beside = _open(settings).beside("runtime")
    keys = [key for key in beside.keys() if key.endswith(f"/{STATUS}")]  # noqa: SIM118  # a store is no mapping
    found = []
    for entry in beside.get_many(keys).values():
        with contextlib.suppress(ValueError):  # damaged: its deployment writes it again
            found.append(json.loads(entry.value))
    return found


def _in_force(settings: Settings) -> tuple[Release | None, Snapshot | None]:
    """Return what is in force: as the deployment has agreed, or where it has no bundle as this machine knows it."""
    from . import edition
    from . import release as releases
    from .head import Head, Heads
    from .history import History
    from .runtime import client_of, history_store, release_path

    own = _settings(None, None)
    heads = Heads(lambda: _open(own).beside("runtime"), own.deployment_name, own.state_dir)
    try:
        if (entry := heads.read()) is not None:
            history = History(lambda: history_store(own), own.deployment_name, None, fill=False)
            found, _ = edition.load(Head.of_bytes(entry.value), history)
            return found.release, found.snapshot
    except (DagFactoryError, ValueError, KeyError, TypeError) as error:
        print(f"compared with what this machine knows, as what its deployment agreed on cannot be read: {error}")
    return releases.load(release_path(settings)), client_of(settings).kept()


def _settings(store: str | None, prefix: str | None) -> Settings:
    from .settings import Settings

    overrides: dict[str, Any] = {"store": store, "prefix": prefix}
    return Settings.read(**overrides)


def _store(store: str | None, prefix: str | None) -> Store:
    return _open(_settings(store, prefix))


def _open(settings: Settings) -> Store:
    from .stores import open_store

    return open_store(settings.store, prefix=settings.prefix, timeout=max(settings.timeout, 10.0))


def _ago(seconds: float) -> str:
    moment = datetime.now(UTC).timestamp() - seconds
    return f"{seconds:.0f} s ago ({datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC)"
