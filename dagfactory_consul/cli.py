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
from .problems import told

if TYPE_CHECKING:
    from .release import Release
    from .settings import Settings
    from .snapshot import Snapshot
    from .spec import DagSpec
    from .stores import Store

app = typer.Typer(
    help="Tenants' DAGs from a configuration service. Settings: AIRFLOW__DAGFACTORY_CONSUL__… or airflow.cfg.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PATIENCE = 60.0
"""Seconds that a module may take to import, or a DAG to build, at a terminal."""
_TIMEOUTS = ("import_timeout", "build_timeout")
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

    source = open_store(str(folder.resolve()))
    reading = source.read()
    for key, reason in reading.unreadable.items():
        raise source.unreadable(key, reason)
    entries = reading.entries
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
    """Show what the store would change, against what is deployed. Exits with 1 where something has to be mended.

    What is new or changed is built and checked as the DAG processor does it.
    """
    from . import guard
    from . import release as releases
    from .plan import diff
    from .snapshot import from_reading

    settings = _settings(store, prefix)
    read = from_reading(_open(settings).read(), now=time.time(), largest=settings.max_document_bytes)
    in_force, known = _in_force(settings)
    snapshot = _guarded(settings, read, in_force, known)
    after = _checked(settings, snapshot, in_force)
    before = _active(in_force) if in_force else {}
    change = diff(before, _active(after))
    touched = {(problem.tenant, problem.dag_id) for problem in after.problems}
    stay = [
        dag_id
        for dag_id, spec in before.items()
        if dag_id in after.dags
        and after.dags[dag_id].state == releases.ACTIVE
        and {(spec.tenant, None), (spec.tenant, dag_id)} & touched
    ]
    for sign, dag_ids in (("+", change.added), ("~", change.changed), ("-", change.removed)):
        for dag_id in dag_ids:
            print(f"{sign} {dag_id}")
    for dag_id in sorted(stay):
        print(f"! {dag_id} stays as it is, because of a problem")
    for line in sorted(told(after.problems)):
        print(f"problem: {line}")
    if snapshot.held:
        print(f"held: {guard.told(snapshot.held)}")
    added, changed, removed = len(change.added), len(change.changed), len(change.removed)
    print(f"{len(_active(after))} DAGs: {added} new, {changed} changed, {removed} to go")
    if after.problems or snapshot.held:
        raise typer.Exit(1)


def _active(release: Release) -> dict[str, DagSpec]:
    from .release import ACTIVE

    return {dag_id: placed.spec for dag_id, placed in release.dags.items() if placed.state == ACTIVE}


def _guarded(settings: Settings, read: Snapshot, in_force: Release | None, known: Snapshot | None) -> Snapshot:
    """Return what the store says, and what the guard would hold; another store than the deployment's holds nothing."""
    from .release import deployed
    from .runtime import client_of

    own = _settings(None, None)
    if (settings.store, settings.prefix) != (own.store, own.prefix):
        return read
    return client_of(settings, lambda: deployed(in_force)).guard.check(known, read)


def _checked(settings: Settings, snapshot: Snapshot, in_force: Release | None) -> Release:
    """Return what would be deployed, as the DAG processor's own check in a child process finds it."""
    import tempfile
    from dataclasses import replace

    from .preflight import Job, Preflight

    # Somebody waits here for whom a slow machine is no reason to be told of a slow builder.
    patient = replace(settings, **{name: max(getattr(settings, name), PATIENCE) for name in _TIMEOUTS})
    with tempfile.TemporaryDirectory() as folder:
        preflight = Preflight(patient, Path(folder))
        sources = tuple(str(Path(each).resolve()) if os.sep in each else each for each in settings.builders)
        preflight.start(Job(snapshot, in_force, {}, time.time(), sources, Path(folder) / "code", ""))
        while (result := preflight.wait(60)) is None:
            pass
    return result.release


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
    for name in (status["held"] or {}).get("dags", ()):
        print(f"held        {name}")
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
    for line in [*client.problems(), *(told(release.problems) if release else ())]:
        print(f"problem     {line}")
    return True


@app.command()
def accept(
    version: Annotated[str, typer.Argument(help="The held snapshot's version, as `status` shows it.")],
    *,
    show: Annotated[bool, typer.Option("--show", help="Only show which keys and DAGs would go.")] = False,
) -> None:
    """Let go what a held snapshot lacks: the keys that are missing from it, and their DAGs."""
    from .runtime import client_of

    settings = _settings(None, None)
    client = client_of(settings)
    found = [client.about().get("held")]
    with contextlib.suppress(StoreError):  # what this machine holds is known all the same
        found += [each["held"] for each in _deployments(settings)]
    held = {each["version"]: each for each in found if each}
    if not held:
        _fail("nothing is held")
    if version not in held:
        known = "; ".join(f"{each}: {one['reason']}" for each, one in held.items())
        _fail(f"{version!r} is not what is held, but {known}")
    for what in ("missing", "dags"):
        for name in held[version].get(what, ()):
            print(f"- {name}")
    if not show:
        client.accept(version)
        print(f"Accepted: {held[version]['reason']}. The next refresh lets them go.")


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
