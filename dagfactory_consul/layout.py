"""The layout: a bundle's files on the processor's disk, written so that Airflow parses what has changed, no more."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from . import folders
from .codebase import FOLDER, IGNORED
from .contents import Contents
from .manifest import reference
from .occupancy import Parsed
from .stores.replacing import replace_file
from .watch import Watch, touch

log = logging.getLogger(__name__)

_FOLDERS = ("tenants", "shards")
_FIXED = {
    ".airflowignore": IGNORED,
    # Python takes a compiled file for its source by whole seconds and size, so it would take a file's former contents
    # for the present ones. A plain file in the way of the folder keeps it from compiling any.
    **{f"{folder}/__pycache__": "" for folder in _FOLDERS},
}
_INLINE = 20
"""How many DAGs a tenant's own file may have in its text. A shared one has none: Airflow shows the text with each."""
_KEPT_DATA = 600.0
"""Seconds for which the data of a shared file's former contents stay."""
_STUB = "# The DAGs that stood here have moved to another file: Airflow's list of DAGs follows.\n"


class Layout:
    """The files of an edition below one folder.

    Args:
        path: the folder, made if need be.
        pointed_at: says which of some files a DAG in Airflow's list still points to.
        parsed: says where, and when, Airflow has last found each of some DAGs.
        clock: seconds since the epoch.
        stale_after: Airflow's `stale_dag_threshold`, in seconds.
    """

    def __init__(
        self,
        path: Path,
        pointed_at: Callable[[Collection[str]], Collection[str]],
        parsed: Callable[[Collection[str]], Mapping[str, Parsed]],
        clock: Callable[[], float] = time.time,
        stale_after: float = 50.0,
    ) -> None:
        self.path = path
        self.stale_after = stale_after
        self.clock = clock
        self._pointed_at = pointed_at
        self._watch = Watch(path, parsed, clock)
        self._touches: dict[str, float] = {}
        """When to touch what."""
        self._written: dict[str, tuple[Path, ...]] = {}
        """What this process has seen to be as it should, by file: that file, and one with its data."""
        self._unused: dict[str, float] = {}
        """Since when data beside files is not named by any."""

    def write(
        self,
        files: Mapping[str, Contents],
        before: Mapping[str, Contents],
        code: str | None,
        modules: Mapping[str, Iterable[str]],
        *,
        same_code: bool,
        former: Collection[str] = (),
    ) -> None:
        """Bring the files on disk to what an edition says.

        A file that has only lost DAGs to others keeps its time, so it is not parsed again: it cannot bring anything
        new. One whose DAGs have moved stays as a stub until Airflow's list no longer points to it, since a file that
        is gone makes its DAGs stale.

        Args:
            files: of the edition.
            before: of the edition that stood here before; empty where that is not known.
            code: the folder of the builders' code, below the bundle.
            modules: by builder, what its files import for it.
            same_code: whether the code is what it was before.
            former: the names of versions that stood here before.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for path, text in _FIXED.items():
            write_if_changed(self.path / path, text)
        places = {dag_id: path for path, contents in files.items() for dag_id in contents.dags}
        # What has moved has to stand in its new file before the old one is without it.
        silent = {path: same_code and _only_loses(files[path], before.get(path), places) for path in files}
        for path in sorted(files, key=silent.__getitem__):
            contents = files[path]
            if same_code and contents is before.get(path) and path in self._written and _stand(self._written[path]):
                continue
            used = {module for placed in contents.dags.values() for module in modules.get(placed.spec.builder, ())}
            is_apart = path.startswith("shards/") or len(contents.dags) > _INLINE
            beside = self._write_beside(path, contents) if is_apart else None
            target = self.path / path
            self._written[path] = (target,) if beside is None else (target, target.with_name(beside))
            is_new = not target.exists()
            if self._write(path, contents.text(code, used, beside=beside), silent=silent[path]):
                self._watch.add(path, contents.dags, is_new=is_new, former=former)
                if path in before and any(dag_id not in places for dag_id in before[path].dags):
                    # Airflow lets go of a DAG when its file is parsed so long after it was last found there.
                    self._touch_later(path, self.stale_after + 5)
        self._remove_old_data()
        emptied = self._present() - files.keys()
        stubs = {path for path in emptied if self._read(path) == _STUB}
        needed = self._still_needed(stubs)
        for path in emptied:
            had = before[path].dags if path in before else {}
            moved = [dag_id for dag_id in had if dag_id in places]
            if moved and path not in stubs:
                self._write(path, _STUB, silent=len(moved) == len(had))
                if len(moved) < len(had):  # the others are gone: Airflow lets go of them as above
                    self._touch_later(path, self.stale_after + 5)
            elif path not in needed:
                (self.path / path).unlink(missing_ok=True)
        self._written = {path: self._written[path] for path in files}
        self._watch.keep({path: contents.dags for path, contents in files.items()})

    def settle(self, in_force: Collection[str] = ()) -> None:
        """Do what a later look has to do: touch what Airflow may have missed. Raises what `parsed` does.

        Args:
            in_force: the names of the versions that stand here and that the deployment has agreed on.
        """
        now = self.clock()
        for path in [path for path, at in self._touches.items() if at <= now]:
            del self._touches[path]
            touch(self.path / path)
        self._watch.look(in_force)

    @property
    def at_rest(self) -> bool:
        """Whether Airflow had surely found all that was written when `settle` last looked."""
        return self._watch.at_rest

    @property
    def pending(self) -> Mapping[str, Collection[str]]:
        """The DAGs that Airflow had not found since their file was written, by file, when `settle` last looked."""
        return self._watch.pending

    @property
    def is_whole(self) -> bool:
        """Whether all that was written is still there: folders are tidied up, by people and by systems."""
        return _stand(self.path / path for path in _FIXED) and all(map(_stand, self._written.values()))

    def _still_needed(self, stubs: Collection[str]) -> Collection[str]:
        """Return the stubs that Airflow's list still points to.

        They go with a change, when Airflow lists the files anew: it would go on asking for a file that is gone.
        """
        try:
            return self._pointed_at(stubs) if stubs else ()
        except Exception as error:  # noqa: BLE001  # whatever the database says: a stub harms nobody
            log.warning("Which DAGs have moved by now cannot be known: %s", error)
            return stubs

    def _touch_later(self, path: str, seconds: float) -> None:
        self._touches[path] = self.clock() + seconds

    def remove_code(self, keep: Collection[str]) -> None:
        """Remove the versions of the builders' code that no file here needs any more."""
        folder = self.path / FOLDER
        for found in folder.iterdir() if folder.is_dir() else ():
            if f"{FOLDER}/{found.name}" not in keep and not found.name.startswith("."):
                if found.is_symlink():
                    found.unlink()
                else:
                    shutil.rmtree(found, ignore_errors=True)

    def _write(self, path: str, text: str, *, silent: bool) -> bool:
        """Write a file that is not as it should be; say whether Airflow is to parse it."""
        target, known = self.path / path, self._read(path)
        if known == text:
            return False
        if silent and known is not None:
            replace_file(target, text.encode(), modified_ns=target.stat().st_mtime_ns, durable=False, mode=folders.FILE)
            return False
        replace_file(target, text.encode(), durable=False, mode=folders.FILE)
        return True

    def _write_beside(self, path: str, contents: Contents) -> str:
        """Write the data of a shared file beside it, under a name that changes with them, and return the name."""
        data = contents.beside()
        target = (self.path / path).with_suffix(f".{reference(data.encode())[:12]}.json")
        if not target.exists():
            replace_file(target, data.encode(), durable=False, mode=folders.FILE)
        return target.name

    def _remove_old_data(self) -> None:
        """Remove what no shared file names any more, once no parse can be reading it."""
        texts = "".join(filter(None, (self._read(path) for path in self._present())))
        found = {path.name: path for folder in _FOLDERS for path in (self.path / folder).glob("*.json")}
        now = self.clock()
        self._unused = {name: self._unused.get(name, now) for name in found if name not in texts}
        for name, since in self._unused.items():
            if now - since > _KEPT_DATA:
                found[name].unlink(missing_ok=True)

    def _read(self, path: str) -> str | None:
        try:
            return (self.path / path).read_text()
        except (OSError, UnicodeDecodeError):
            return None

    def _present(self) -> set[str]:
        return {str(path.relative_to(self.path)) for folder in _FOLDERS for path in (self.path / folder).glob("*.py")}


def _stand(paths: Iterable[Path]) -> bool:
    return all(path.exists() for path in paths)


def write_if_changed(path: Path, text: str) -> bool:
    """Replace a file unless it says so already; say whether it was replaced. Raises OSError."""
    try:
        if path.read_text() == text:
            return False
    except (OSError, UnicodeDecodeError):
        pass
    replace_file(path, text.encode(), durable=False, mode=folders.FILE)
    return True


def _only_loses(contents: Contents, before: Contents | None, places: Mapping[str, str]) -> bool:
    """Say whether a file has only lost DAGs, and all of them to other files."""
    if before is None:
        return False
    old, new = before.states(), contents.states()
    lost = old.keys() - new.keys()
    return bool(lost) and new.items() <= old.items() and all(dag_id in places for dag_id in lost)
