"""The command `plan`: what the store would change."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import DagFactoryError
from ..problems import told
from .terminal import PrefixOption, StoreOption, opened, settings_of

if TYPE_CHECKING:
    from ..release import Release
    from ..settings import Settings
    from ..snapshot import Snapshot
    from ..spec import DagSpec

PATIENCE = 60.0
"""Seconds that a module may take to import, or a DAG to build, at a terminal."""
_TIMEOUTS = ("import_timeout", "build_timeout")


def plan(store: StoreOption = None, prefix: PrefixOption = None) -> None:
    """Show what the store would change, against what is deployed. Exits with 1 where something has to be mended.

    What is new or changed is built and checked as the DAG processor does it.
    """
    from .. import guard
    from .. import release as releases
    from ..plan import diff
    from ..snapshot import from_reading

    settings = settings_of(store, prefix)
    read = from_reading(opened(settings).read(), now=time.time(), largest=settings.max_document_bytes)
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
    from ..release import ACTIVE

    return {dag_id: placed.spec for dag_id, placed in release.dags.items() if placed.state == ACTIVE}


def _guarded(settings: Settings, read: Snapshot, in_force: Release | None, known: Snapshot | None) -> Snapshot:
    """Return what the store says, and what the guard would hold; another store than the deployment's holds nothing."""
    from ..release import deployed
    from ..runtime import client_of

    own = settings_of()
    if (settings.store, settings.prefix) != (own.store, own.prefix):
        return read
    return client_of(settings, lambda: deployed(in_force)).guard.check(known, read)


def _checked(settings: Settings, snapshot: Snapshot, in_force: Release | None) -> Release:
    """Return what would be deployed, as the DAG processor's own check in a child process finds it."""
    import tempfile
    from dataclasses import replace

    from ..preflight import Job, Preflight

    # Somebody waits here for whom a slow machine is no reason to be told of a slow builder.
    patient = replace(settings, **{name: max(getattr(settings, name), PATIENCE) for name in _TIMEOUTS})
    with tempfile.TemporaryDirectory() as folder:
        preflight = Preflight(patient, Path(folder))
        sources = tuple(str(Path(each).resolve()) if os.sep in each else each for each in settings.builders)
        preflight.start(Job(snapshot, in_force, {}, time.time(), sources, Path(folder) / "code", ""))
        while (result := preflight.wait(60)) is None:
            pass
    return result.release


def _in_force(settings: Settings) -> tuple[Release | None, Snapshot | None]:
    """Return what is in force: as the deployment has agreed, or where it has no bundle as this machine knows it."""
    from .. import edition
    from .. import release as releases
    from ..head import Head, Heads
    from ..history import History
    from ..runtime import client_of, history_store, release_path

    own = settings_of()
    heads = Heads(lambda: opened(own).beside("runtime"), own.deployment_name, own.state_dir)
    try:
        if (entry := heads.read()) is not None:
            history = History(lambda: history_store(own), own.deployment_name, None, fill=False)
            found, _ = edition.load(Head.of_bytes(entry.value), history)
            return found.release, found.snapshot
    except (DagFactoryError, ValueError, KeyError, TypeError) as error:
        print(f"compared with what this machine knows, as what its deployment agreed on cannot be read: {error}")
    return releases.load(release_path(settings)), client_of(settings).kept()
