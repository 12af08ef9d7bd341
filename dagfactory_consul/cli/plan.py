"""The command `plan`: what the store would change."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import DagFactoryError
from ..problems import told, touched_by
from .terminal import EnvironmentOption, JsonOption, PrefixOption, StoreOption, opened, print_json, settings_of

if TYPE_CHECKING:
    from ..release import Release
    from ..settings import Settings
    from ..snapshot import Snapshot
    from ..spec import DagSpec

PATIENCE = 60.0
"""Seconds that a module may take to import, or a DAG to build, at a terminal."""
_TIMEOUTS = ("import_timeout", "build_timeout")


def plan(
    *,
    as_json: JsonOption = False,
    environment: EnvironmentOption = None,
    store: StoreOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Show what the store would change, against what is deployed. Exits with 1 where something has to be mended.

    DAGs that are added or changed are built and checked as the DAG processor does it. Their pools are looked for where
    Airflow's database can be asked. The processor alone sees whether another bundle has them.
    """
    from ..plan import diff
    from ..snapshot import from_reading

    settings = settings_of(store, prefix, environment)
    target = opened(settings)
    read = from_reading(target.read(), now=time.time(), largest=settings.max_document_bytes)
    deployed, known = _deployed(settings, environment)
    snapshot = _guarded(settings, read, deployed, known)
    after = _checked(settings, snapshot, deployed)
    before = _active(deployed) if deployed else {}
    change = diff(before, _active(after))
    found = {
        "dags": len(_active(after)),
        "added": change.added,
        "changed": change.changed,
        "removed": change.removed,
        "kept": _kept(before, after),
        "problems": sorted(told(after.problems)),
        "held": snapshot.held,
    }
    if as_json:
        print_json(found)
    else:
        _show(found)
        if not any(key.startswith("tenants/") for key in snapshot):
            print(f"{target.url} holds no tenants. Write documents: dagfactory-consul push FOLDER")
    if after.problems or snapshot.held:
        raise typer.Exit(1)


def _kept(before: dict[str, DagSpec], after: Release) -> list[str]:
    """Return the DAGs that stay as they are because of a problem."""
    is_touched = touched_by(after.problems)
    return sorted(dag_id for dag_id in before.keys() & _active(after) if is_touched(before[dag_id].tenant, dag_id))


def _show(found: dict[str, Any]) -> None:
    from .. import guard

    for sign, what in (("+", "added"), ("~", "changed"), ("-", "removed")):
        for dag_id in found[what]:
            print(f"{sign} {dag_id}")
    for dag_id in found["kept"]:
        print(f"! {dag_id} stays as it is, because of a problem")
    for line in found["problems"]:
        print(f"problem: {line}")
    if found["held"]:
        print(f"held: {guard.told(found['held'])}")
    added, changed, removed = (len(found[what]) for what in ("added", "changed", "removed"))
    print(f"{found['dags']} DAGs: {added} new, {changed} changed, {removed} to go")


def _active(release: Release) -> dict[str, DagSpec]:
    from ..release import ACTIVE

    return {dag_id: placed.spec for dag_id, placed in release.dags.items() if placed.state == ACTIVE}


def _guarded(settings: Settings, read: Snapshot, deployed: Release | None, known: Snapshot | None) -> Snapshot:
    """Return what the store says, and what the guard would hold; another store than the deployment's holds nothing."""
    from ..release import deployed as of_release
    from ..runtime import client_of

    own = settings_of()
    if (settings.store, settings.prefix) != (own.store, own.prefix):
        return read
    return client_of(settings, lambda: of_release(deployed)).guard.check(known, read)


def _checked(settings: Settings, snapshot: Snapshot, deployed: Release | None) -> Release:
    """Return what would be deployed, as the DAG processor's own check in a child process finds it."""
    import tempfile
    from dataclasses import replace

    from ..preflight import Job, Preflight

    # Somebody waits here for whom a slow machine is no reason to be told of a slow builder.
    patient = replace(settings, **{name: max(getattr(settings, name), PATIENCE) for name in _TIMEOUTS})
    with tempfile.TemporaryDirectory() as folder:
        preflight = Preflight(patient, Path(folder))
        sources = tuple(str(Path(each).resolve()) if os.sep in each else each for each in settings.builders)
        preflight.start(Job(snapshot, deployed, {}, time.time(), sources, Path(folder) / "code", "", _pools()))
        while (result := preflight.wait(60)) is None:
            pass
    return result.release


def _pools() -> frozenset[str] | None:
    """Return the names of Airflow's pools; None where its database cannot be asked."""
    from sqlalchemy.exc import SQLAlchemyError

    from ..occupancy import pools

    try:
        return frozenset(pools()) or None
    except SQLAlchemyError:
        return None


def _deployed(settings: Settings, environment: str | None) -> tuple[Release | None, Snapshot | None]:
    """Return what is deployed: as the deployment has agreed, or where it has no bundle as this machine knows it."""
    from .. import edition
    from .. import release as releases
    from ..head import Head, Heads
    from ..history import History
    from ..runtime import client_of, history_store, release_path

    own = settings_of(environment=environment)
    heads = Heads(lambda: opened(own).beside("runtime"), own.deployment_name, own.state_dir)
    try:
        if (entry := heads.read()) is not None:
            history = History(lambda: history_store(own), own.deployment_name, None, fill=False)
            found, _ = edition.load(Head.of_bytes(entry.value), history)
            return found.release, found.snapshot
    except (DagFactoryError, ValueError, KeyError, TypeError) as error:
        print(
            f"compared with what this machine knows, as what its deployment agreed on cannot be read: {error}",
            file=sys.stderr,
        )
    return releases.load(release_path(settings)), client_of(settings).kept()
