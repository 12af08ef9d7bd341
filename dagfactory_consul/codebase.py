"""The builders' code in bundle mode: copied, so each version of the bundle has the code that it was verified with.

Builders that stand in folders, or in an inner bundle (a Git repository, say), are part of the bundle, pinned with it.
Installed modules are the environment's: they change when that does.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from . import folders
from .errors import SettingsError, SnapshotError
from .manifest import is_archive_of, reference

if TYPE_CHECKING:
    from airflow.dag_processing.bundles.base import BaseDagBundle

log = logging.getLogger(__name__)

FOLDER = "code"
"""Below the bundle: a folder for each version of the code."""
IGNORED = f"# What is imported by files of DAGs, and is none of Airflow's DAG files itself\n/{FOLDER}/\n"
"""The text of a bundle's `.airflowignore`."""
MAX_BYTES = 8_000_000
"""The largest code that is copied into the history: builders are a few files; who names a whole disk should know."""


class Code(NamedTuple):
    """One version of the builders' code."""

    name: str | None
    """Its name: a hash of its files, or the inner bundle's version; None where all builders are installed modules."""
    sources: tuple[str, ...]
    """The builders: names of modules, and paths below the code's own folder (`./0/builders`)."""
    inner: str | None = None
    """The inner bundle's version, where one brings the code."""

    @property
    def folder(self) -> str | None:
        """Where it stands below the bundle."""
        return f"{FOLDER}/{self.name}" if self.name else None


class Codebase:
    """Finds the builders' code, and lays it out below the bundle.

    Args:
        builders: as in the setting of that name: modules, packages, folders and files.
        inner: what brings the code, `{"classpath": …, "kwargs": {…}}`; folders are then relative to it.
        name: of the bundle.
        interval: seconds between two looks at an inner bundle.
    """

    def __init__(
        self, builders: tuple[str, ...], inner: Mapping[str, Any] | None, *, name: str, interval: float = 10.0
    ) -> None:
        self.builders = builders
        self.name = name
        self.interval = interval
        self._inner_config = inner
        self._inner: BaseDagBundle | None = None
        self._looked = float("-inf")
        self._known: tuple[Any, Code] | None = None
        self.archive: bytes | None = None
        """The files of the code that `current` has returned last: equal files give equal bytes. None without any."""

    def neighbours(self) -> list[str]:
        """Return the folders beside the builders' originals, from which they may import what is not copied.

        An inner bundle has it all in its own folder.
        """
        if self._inner_config is not None:
            return []
        found = (path.resolve() for path in self._roots(Path.cwd()).values())
        folders = (path if path.is_dir() and not (path / "__init__.py").exists() else path.parent for path in found)
        return list(dict.fromkeys(map(str, folders)))

    def current(self) -> Code:
        """Return the present version of the code. Costs a look at the files' times where nothing has changed.

        Raises:
            SettingsError: the inner bundle cannot be made, or the folders hold more than each version may copy.
            OSError: a file cannot be read.
        """
        base, version = self._base()
        roots = self._roots(base)
        state = (version, [_stamps(root) for root in roots.values()])
        if self._known is None or self._known[0] != state:
            sources = tuple(self._source(each, roots, base, inner=version is not None) for each in self.builders)
            self.archive = _pack(roots) if roots and version is None else None
            name = reference(self.archive) if self.archive is not None else version
            self._known = (state, Code(name, sources, version))
        return self._known[1]

    def lay_out(self, code: Code, bundle: Path, archive: bytes | None = None) -> None:
        """Put a version of the code below a bundle's folder, unless it stands there.

        Args:
            code: the present version, or another one.
            bundle: the folder.
            archive: of that code; an inner bundle's needs none.

        Raises:
            OSError, SettingsError: it cannot be.
            SnapshotError: there is no archive, it is damaged, or it is not that of this code.
        """
        if code.folder is None or (target := bundle / code.folder).exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if code.inner is not None:
            link = target.with_name(f".{target.name}.{os.getpid()}")
            link.unlink(missing_ok=True)
            link.symlink_to(self._pinned(code.inner).path)
            link.replace(target)
            return
        if code.name is None or archive is None or not is_archive_of(archive, code.name):
            found = reference(archive) if archive is not None else "there is none"
            raise SnapshotError(
                f"the builders' code {code.name} of the bundle {self.name}: its archive is another one ({found}), so "
                "nothing of it is used"
            )
        new = Path(tempfile.mkdtemp(dir=target.parent, prefix=".code-"))
        new.chmod(folders.FOLDER)
        try:
            _unpack(archive, new, code.name)
            new.rename(target)
        except OSError:
            if not target.exists():  # another process was quicker
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _base(self) -> tuple[Path, str | None]:
        """Return what relative folders are relative to, and the inner bundle's version if it has versions."""
        if self._inner_config is None:
            return Path.cwd(), None
        from airflow.dag_processing.bundles.base import BundleVersion

        try:
            inner = self._refreshed()
            found = inner.get_current_version() if inner.supports_versioning else None
        except SettingsError:
            raise
        except Exception as error:  # a bundle is somebody's code: whatever it raises, its code cannot be had now
            raise SettingsError(f"code of the bundle {self.name} cannot be had: {error!r}") from error
        return Path(inner.path), found.version if isinstance(found, BundleVersion) else found

    def _refreshed(self) -> BaseDagBundle:
        if self._inner is None:
            inner = self._make()
            inner.initialize()
            self._inner = inner
        if time.monotonic() - self._looked >= self.interval:
            self._looked = time.monotonic()  # before it: one that fails takes its time, and is not asked at each look
            self._inner.refresh()
        return self._inner

    def _make(self, version: str | None = None) -> BaseDagBundle:
        from importlib import import_module

        config = self._inner_config or {}
        try:
            module, _, name = str(config["classpath"]).rpartition(".")
            make = getattr(import_module(module), name)
            bundle: BaseDagBundle = make(name=f"{self.name}-code", version=version, **config.get("kwargs", {}))
        except (KeyError, ImportError, AttributeError, TypeError, ValueError) as error:
            raise SettingsError(
                f'code of the bundle {self.name}: {error!r}; it takes {{"classpath": …, "kwargs": …}}'
            ) from error
        return bundle

    def _pinned(self, version: str) -> BaseDagBundle:
        bundle = self._make(version)
        bundle.initialize()
        return bundle

    def _roots(self, base: Path) -> dict[str, Path]:
        """Return the folders and files to copy, by their place below the code's folder."""
        found: dict[str, Path] = {}
        for position, source in enumerate(self.builders):
            path = base / Path(source).expanduser()
            if path.exists() and (self._inner_config is not None or "/" in source or not _is_module(source)):
                found[f"{position}/{path.name}"] = path.resolve() if path.is_symlink() else path
        return found

    def _source(self, source: str, roots: Mapping[str, Path], base: Path, *, inner: bool) -> str:
        if inner and (base / source).exists():
            return f"./{source.removeprefix('./')}"
        position = self.builders.index(source)
        return next((f"./{place}" for place in roots if place.startswith(f"{position}/")), source)


def sources_at(code: Code, bundle: Path) -> tuple[tuple[str, ...], Path]:
    """Return the sources with their paths made absolute, and the code's folder, below a bundle's folder."""
    root = bundle / (code.folder or FOLDER)
    return tuple(str(root / each[2:]) if each.startswith("./") else each for each in code.sources), root


def _is_module(source: str) -> bool:
    return all(part.isidentifier() for part in source.split(".")) and not Path(source).is_dir()


def _files(root: Path) -> Iterator[Path]:
    """Yield a folder's files, those behind links too, without what editors and tools leave there."""
    return _walk(root, frozenset()) if root.is_dir() else iter([root])


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder above
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__" or path.name.endswith((".pyc", ".swp", "~")):
            continue
        if path.is_dir():
            yield from _walk(path, above | {real})
        elif path.is_file():
            yield path


def _stamps(root: Path) -> list[tuple[str, int, int]]:
    found = []
    for path in _files(root):
        status = path.stat()
        found.append((str(path), status.st_mtime_ns, status.st_size))
    return found


def _pack(roots: Mapping[str, Path]) -> bytes:
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for place, root in roots.items():
            for path in _files(root):
                inside = path.relative_to(root) if root.is_dir() else Path()
                entry = tarfile.TarInfo(str(Path(place) / inside))
                data = path.read_bytes()
                entry.size, entry.mode = len(data), 0o644
                archive.addfile(entry, io.BytesIO(data))
                if buffer.tell() > MAX_BYTES:
                    raise SettingsError(
                        f"the builders' folders hold more than {MAX_BYTES:,} bytes, and each version of the bundle "
                        "keeps a copy. Name folders that hold builders only, or install them as a package"
                    )
    return buffer.getvalue()


def _unpack(archive: bytes, folder: Path, name: str | None) -> None:
    """Write the files of an archive below a folder. Raises OSError, or SnapshotError for what `_pack` does not make.

    Not by `extractall`, which is safe only by its filter: Python 3.11.0 to 3.11.3 lack that. Each file here is of the
    mode of a new file and belongs to this process, whatever the archive says.
    """
    import tarfile  # most tasks find the code laid out

    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            for entry in packed:
                place, file = PurePosixPath(entry.name), packed.extractfile(entry) if entry.isreg() else None
                if file is None or place.is_absolute() or ".." in place.parts:
                    raise SnapshotError(f"the builders' code {name} is damaged: {entry.name!r} is no file inside it")
                target = folder / place
                target.parent.mkdir(parents=True, exist_ok=True)
                with folders.new_file(target) as new:  # nothing is written twice
                    shutil.copyfileobj(file, new)
    except (tarfile.TarError, ValueError) as error:  # ValueError: NUL in a name
        raise SnapshotError(f"the builders' code {name} is damaged: {error}") from error
