"""A worker's part: the one DAG that a task belongs to is laid out as it was in the version its run is pinned to."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from . import folders
from .arrangement import own_file, shard
from .codebase import FOLDER, IGNORED, Code, Codebase
from .contents import Contents
from .errors import StoreUnreachable, VersionGoneError
from .head import Head, Heads
from .history import History, part_of
from .manifest import Version
from .release import placement_of
from .runtime import SYS_PATH, history_store, runtime_store
from .settings import Settings

if TYPE_CHECKING:
    from .signature import Signer

log = logging.getLogger(__name__)

ALL = "_all"
"""The folder of a version that is laid out as a whole: for callbacks, and for Airflow's commands."""


class Worker:
    """Lays out versions of one bundle.

    Args:
        name: of the bundle.
        base: the bundle's folder on this machine.
        versions: the folder for versions, which Airflow cleans.
        settings: of the deployment.
        codebase: brings an inner bundle's code.
    """

    MISSED: ClassVar[float] = 60.0
    """Seconds for which a version has to be missing before it counts as gone."""
    FORGOTTEN: ClassVar[float] = 3600.0
    """Seconds after which it is forgotten that a version was missing."""

    def __init__(
        self,
        name: str,
        base: Path,
        versions: Path,
        settings: Settings,
        codebase: Codebase,
    ) -> None:
        self.name = name
        self.versions = versions
        self.settings = settings
        self.codebase = codebase
        self.missed = base / "missed"
        deployment = settings.deployment_name
        self.heads = Heads(lambda: runtime_store(settings), deployment, base / "head.json", _signer)
        self.history = History(lambda: history_store(settings), deployment, base / "cache", fill=False)

    def close(self) -> None:
        """Give back connections: a task may run for hours, and Consul allows few connections from one machine."""
        self.heads.close()
        self.history.close()

    def current(self) -> str:
        """Return the version in force: as this machine has applied it, else as the deployment has agreed.

        Raises:
            StoreError: this machine has applied none, and the store does not answer, or its answer is not signed.
            VersionGoneError: there is none.
        """
        if (applied := self.heads.applied()) is not None:
            return applied.version
        entry = self.heads.read()
        if entry is None:
            raise VersionGoneError(f"{self.heads.store.url} holds no {self.heads.key}: nothing was ever published")
        head = Head.of_bytes(entry.value)
        if not self.heads.is_signed(entry, head):
            raise StoreUnreachable(
                f"{self.heads.key} says that version {head.version!a:.80} is deployed, by {head.by!a:.80}, and is not "
                "signed with this Airflow's [core] fernet_key: a DAG processor signs it. If this lasts, give workers "
                "and DAG processors the same fernet_key, and see who else may write that key",
                store=self.heads.store.url,
            )
        return head.version

    def lay_out(self, version: str, dag_id: str | None) -> Path:
        """Return a folder with the files of a version: only the one with the DAG, or all of them for None.

        A worker is told the path that the DAG's file has *now*, which another version may have under another name. So
        the one file is there under each of the names that it may bear.

        Raises:
            VersionGoneError: the version is not in the history any more, or has no such DAG.
            StoreError: the history does not answer, or may be just being written again.
            OSError: the disk does not take it.
        """
        target = self.versions / version / (dag_id or ALL)
        if target.exists():
            return target
        try:
            self._lay_out(version, dag_id, target)
        except VersionGoneError as error:
            self._wait_for(version, error)
            raise
        (self.missed / version).unlink(missing_ok=True)
        return target

    def _wait_for(self, version: str, error: VersionGoneError) -> None:
        """Raise StoreUnreachable until a version has been missed for a while.

        A processor writes again what an emptied or restored store has lost, which takes it some seconds.
        """
        note = self.missed / version
        seconds = time.time() - note.stat().st_mtime if note.exists() else -1.0
        if not 0 <= seconds < self.FORGOTTEN:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()
            seconds = 0.0
        if seconds < self.MISSED:
            raise StoreUnreachable(
                f"{error}. It is looked for again, for {self.MISSED - seconds:.0f} s more", store=self.history.store.url
            ) from error

    def _lay_out(self, version: str, dag_id: str | None, target: Path) -> None:
        record = self._record(version)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        new.chmod(folders.FOLDER)
        try:
            self._lay_out_code(record, target.parent)
            if record.code is not None:
                (new / FOLDER).symlink_to(Path("..") / FOLDER)
            if dag_id is None:
                self._write_all(record, new)
            else:
                self._write_one(record, dag_id, new)
            folders.write_file(new / SYS_PATH, "\n".join(self.codebase.neighbours()))
            new.rename(target)
        except OSError:
            if not target.exists():  # another task was quicker
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _record(self, version: str) -> Version:
        record = self.history.version(version)
        if record is not None:
            return record
        if self.heads.read() is None:
            raise StoreUnreachable(
                f"has lost what {self.settings.deployment_name} agreed on: its DAG processor writes it again",
                store=self.heads.store.url,
            )
        raise VersionGoneError(
            f"version {version} of the bundle {self.name} is not in {self.history.store.url} any more: the history "
            f"keeps {self.settings.history_count} versions for {self.settings.history_age / 86_400:g} days, and those "
            "in use. Clear the run's tasks with the latest version of the bundle, or trigger a new run"
        )

    def _get(self, record: Version, refs: Iterable[str]) -> dict[str, bytes]:
        try:
            return self.history.get(refs)
        except VersionGoneError as error:
            raise VersionGoneError(
                f"version {record.name} of the bundle {self.name} is not complete: {error}"
            ) from error

    def _lay_out_code(self, record: Version, folder: Path) -> None:
        if record.code is None:
            return
        blob = self._get(record, [record.code_blob])[record.code_blob] if record.code_blob is not None else None
        inner = record.code if record.code_blob is None else None
        try:
            self.codebase.lay_out(Code(record.code, (), inner), folder, blob)
        except Exception as error:
            if inner is None or isinstance(error, OSError):
                raise
            # Whatever it is in somebody else's bundle: a repository that is away is no reason to fail a task.
            raise StoreUnreachable(f"the builders' code {inner} cannot be had: {error}", store=self.name) from error

    def _write_all(self, record: Version, folder: Path) -> None:
        (folder / ".airflowignore").write_text(IGNORED)
        found = self._get(record, record.files.values())
        for path, ref in record.files.items():
            contents = Contents.of_bytes(found[ref])
            _write(folder / path, contents, record)
            for tenant in contents.indexes:  # whose DAGs may stand in a file of its own by now
                if own_file(tenant) not in record.files:
                    (folder / own_file(tenant)).parent.mkdir(exist_ok=True)
                    with contextlib.suppress(FileExistsError):
                        _link(folder / path, folder / own_file(tenant))

    def _write_one(self, record: Version, dag_id: str, folder: Path) -> None:
        part = record.places.get(part_of(dag_id))
        places = json.loads(self._get(record, [part])[part]) if part is not None else {}
        path = places.get(dag_id)
        if path is None:
            contents = self._gone(record, dag_id)
        else:
            ref = record.files[path]
            contents = Contents.of_bytes(self._get(record, [ref])[ref]).only(dag_id)
        _write(folder / "dag.py", contents, record)
        shards = (shard(number) for number in range(self.settings.shards))
        names = set(filter(None, {path, own_file(contents.dags[dag_id].spec.tenant or ""), *shards}))
        for parent in {name.partition("/")[0] for name in names}:  # once each: a task waits for this
            (folder / parent).mkdir()
        for name in names:
            _link(folder / "dag.py", folder / name)

    def _gone(self, record: Version, dag_id: str) -> Contents:
        """Return a DAG that had gone lately when a version came into force.

        Airflow names the version at the end of a parse, so a parse that was under way gives a DAG, and with it the next
        run, a version that has it no more.
        """
        gone = json.loads(self._get(record, [record.gone])[record.gone]) if record.gone is not None else []
        for fields in gone:
            if fields["spec"]["dag_id"] == dag_id:
                return Contents(self.history.deployment, {}, {dag_id: placement_of(fields)})
        raise VersionGoneError(f"version {record.name} of the bundle {self.name} has no DAG {dag_id!r}")


def _signer() -> Signer:
    from .signature import signer_of_airflow  # hardly any task asks for what is deployed now

    return signer_of_airflow()


def _link(file: Path, name: Path) -> None:
    """Give a file one more name. A link of its own takes ten times as long, and a task waits for over a hundred."""
    try:
        os.link(file, name)
    except OSError:  # a file system without hard links
        name.symlink_to(os.path.relpath(file, name.parent))  # the folder that holds both is moved as a whole


def _write(path: Path, contents: Contents, record: Version) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without what a processor imports before it forks: nothing is forked from here.
    folders.write_file(path, contents.text(f"{FOLDER}/{record.code}" if record.code else None))
