"""The registry: builders by name, and where they are imported from.

A source is a module (`acme.builders`), a package, whose modules are imported one by one, or a folder of Python files. A
module that cannot be imported, or hangs at that, costs its own builders and nobody else's.

Builders' code may be copied to other places, and to other machines: with a `root` all that lies below it is told
relative to it, so that equal code has equal names everywhere.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from .builders import DagBuilder, Definition
from .errors import BuilderError, near_miss
from .models import describe_bad_id, is_id
from .problems import NO_BUILDERS, Problem
from .time_limit import TimeLimitExceededError, time_limit

if TYPE_CHECKING:
    from .settings import Settings

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")

Builder = TypeVar("Builder", bound=type[DagBuilder[Any]])

ENTRY_POINTS = "dagfactory_consul.builders"
"""The group of entry points whose modules are sources too, so that a distribution can bring builders with it."""

IMPORT_TIME_LIMIT = 10.0
"""Seconds that one module may take to import. Airflow gives the whole DAG file 30 s unless it is told otherwise."""


class Registry(Mapping[str, Definition]):
    """Builders by name."""

    def __init__(self, *, time_limit: float = IMPORT_TIME_LIMIT) -> None:
        self.time_limit = time_limit
        """Seconds that one module may take to import. One that hangs halves what those after it may take."""
        self.problems: list[Problem] = []
        """The modules that could not be imported."""
        self.root: Path | None = None
        """Where copied code lies: what is below it is told relative to it, and found before all else of its name."""
        self.watch: Callable[[str], AbstractContextManager[object]] = lambda _: nullcontext()
        """Is entered around the import of each module. What it raises on entering stands for the import's failure."""
        self._definitions: dict[str, Definition] = {}
        self._is_published = False
        """Whether the code was checked when it was published, so that a task's start need not check it again."""
        self._loaded: set[str] = set()
        self._modules: set[str] = set()
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def __getitem__(self, name: str) -> Definition:
        """Return the builder of that name. Raises BuilderError, which lists the near misses."""
        try:
            return self._definitions[name]
        except KeyError:
            raise BuilderError(self.explain_unknown(name)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._definitions

    def __iter__(self) -> Iterator[str]:
        return iter(self._definitions)

    def __len__(self) -> int:
        return len(self._definitions)

    def explain_unknown(self, name: str) -> str:
        """Say that there is no such builder, what is near it, and which modules could not be imported."""
        if not self._definitions and not self.problems:
            return NO_BUILDERS
        failed = ", ".join(problem.key for problem in self.problems)
        also = f"; it may stand in what could not be imported: {failed}" if failed else ""
        return f"there is no builder {name!r}{near_miss(name, self._definitions)}{also}"

    def add(self, definition: Definition) -> None:
        """Add a builder; one whose model takes unknown fields, at any depth, is noted in `problems` instead.

        Raises:
            BuilderError: another class has its name. The same class again replaces itself.
        """
        known = self._definitions.get(definition.name)
        if known is not None and known.where != definition.where:
            raise BuilderError(f"two builders are named {definition.name!r}: {known.where} and {definition.where}")
        if not self._is_published and (reason := _explain_lax(definition)) is not None:
            file = self._files.get(definition.cls.__module__)
            where = f"{self._told(file)} ({definition.cls.__qualname__})" if file else definition.where
            problem = Problem(where, f"the builder {definition.name} is not used. {reason}")
            self.problems.extend({problem}.difference(self.problems))
            return
        self._definitions[definition.name] = definition

    def load(self, sources: Iterable[str], *, entry_points: bool = True) -> None:
        """Import the builders of all sources; each is imported once, however often it is asked for.

        A module that fails is noted in `problems`.
        """
        self._is_published = False
        installed = installed_sources(tuple(sys.path)) if entry_points else ()  # sources make the path longer
        for source in [*sources, *installed]:
            self._once(source, self._load_source)

    def load_one(self, name: str, origin: str, root: Path | None = None) -> Definition:
        """Import only the module that a builder came from, as `origin` has said before, and return the builder.

        Args:
            name: the builder's.
            origin: relative to `root`, or absolute.
            root: where copied code lies here; None if there is none, or it is known already.

        Raises:
            BuilderError: it cannot be imported, does not define that builder, or came from elsewhere: a version's code
                is never replaced by what happens to be on the path.
        """
        if root is not None:
            self._begin_at(root.resolve())
        self._is_published = True
        if name not in self._definitions:
            self._once(origin, self._load_origin)
        if name not in self._definitions and self.problems:
            raise BuilderError(f"{origin}: {self.problems[-1].message}")
        definition = self[name]
        if self.root is not None and absolute_origin(origin, self.root) != origin:
            module = definition.cls.__module__
            if not _lies_below(self.root, module):
                raise BuilderError(
                    f"{origin}: {name} came from {_file_of(module)} instead of {self.root}: that is gone, or a package "
                    "of the same name was imported before, by a plugin perhaps"
                )
        return definition

    def origin(self, name: str) -> str:
        """Return what `load_one` needs to import that builder: a file's path, or a module and `@` where it is found."""
        module = self[name].cls.__module__
        if module.startswith(_FILE_MODULE):
            return self._told(self._files[module])
        folder = self._folders.get(module.partition(".")[0])
        # A package may have another part that is installed (`pkgutil.extend_path`): that part is no copied code.
        return self._told(f"{module}@{folder}" if folder and _lies_below(folder, module) else module)

    def fingerprint(self) -> str:
        """Return a hash of the code of all modules of the sources, and of what could not be imported.

        Modules that they import from elsewhere are not part of it.
        """
        digest = hashlib.sha256()
        modules = {*self._modules, *(definition.cls.__module__ for definition in self._definitions.values())}
        for module in sorted(modules):
            digest.update(module.encode())
            if (file := _file_of(module)) and Path(file).is_file():
                digest.update(Path(file).read_bytes())
        for problem in sorted(self.problems, key=str):
            digest.update(problem.key.encode())  # its message may hold an address, another one each time
        return digest.hexdigest()[:16]

    def _begin_at(self, root: Path) -> None:
        """Import from another copy of the code from now on, modules that are imported already too.

        One of Airflow's commands parses the files of all bundles in one process: a DAG file that a project has written
        has imported the originals. What was imported by others than this registry stays as it is.
        """
        if root != self.root and self._modules:
            packages = set(self._folders)
            gone = {name for name in sys.modules if name in self._files or name.partition(".")[0] in packages}
            for name in gone:
                del sys.modules[name]
            self._definitions = {
                name: each for name, each in self._definitions.items() if each.cls.__module__ not in gone
            }
            self._modules -= gone
            self._loaded.clear()
            self._files.clear()
            self._folders.clear()
            self.problems.clear()
            importlib.invalidate_caches()
        self.root = root

    def _told(self, origin: str) -> str:
        return relative_origin(origin, self.root) if self.root is not None else origin

    def _once(self, source: str, load: Callable[[str], object]) -> None:
        if source not in self._loaded:
            self._loaded.add(source)
            load(source)

    def _load_source(self, source: str) -> None:
        path = Path(source).expanduser()
        if path.is_dir() and ("/" in source or not _is_importable(source)):
            self._load_folder(path.resolve())
        elif path.suffix == ".py" and path.is_file():
            self._import_file(path.resolve())
        elif "/" in source:
            self.problems.append(Problem(self._told(source), "there is no such folder or file of builders"))
        elif (module := self._import(source)) is not None and hasattr(module, "__path__"):
            self._load_package(module)

    def _load_origin(self, origin: str) -> None:
        origin = absolute_origin(origin, self.root) if self.root is not None else origin
        path = Path(origin)
        if path.is_absolute():
            self._add_to_path(path.parent)  # it may import what lies beside it, as when the whole folder is loaded
            self._import_file(path)
            return
        module, _, folder = origin.partition("@")
        if folder:
            self._folders[module.partition(".")[0]] = folder
            self._add_to_path(Path(folder))
        self._import(module)

    def _load_package(self, package: ModuleType) -> None:
        for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda each: each.name):
            module = self._import(f"{package.__name__}.{found.name}")
            if found.ispkg and module is not None:
                self._load_package(module)

    def _load_folder(self, folder: Path) -> None:
        if (folder / "__init__.py").exists():
            self._add_to_path(folder.parent)
            self._folders[folder.name] = str(folder.parent)
            module = self._import(folder.name)
            if module is not None and folder != Path(module.__file__ or "").parent:
                message = (
                    f"another package of this name was imported before, from {module.__file__}: rename one of them"
                )
                self.problems.append(Problem(self._told(str(folder)), message))
            elif module is not None:
                self._load_package(module)
            return
        self._add_to_path(folder)
        for file in sorted(folder.glob("*.py")):
            self._import_file(file)

    def _import_file(self, path: Path) -> None:
        told = self._told(str(path))
        name = f"{_FILE_MODULE}{hashlib.sha256(told.encode()).hexdigest()[:8]}_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:  # not a Python file by its suffix
            self.problems.append(Problem(told, "is not a Python file"))
            return
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        self._modules.add(name)
        self._files[name] = str(path)
        loader = spec.loader
        if not self._guarded(told, lambda: loader.exec_module(module)):
            del sys.modules[name]

    def _import(self, name: str) -> ModuleType | None:
        if not self._guarded(name, lambda: importlib.import_module(name)):
            return None
        self._modules.add(name)
        return sys.modules[name]

    def _guarded(self, what: str, load: Callable[[], object]) -> bool:
        if any(problem.key == what for problem in self.problems):
            return False  # it has failed already, and may have taken its time for it
        before = set(self._definitions)
        try:
            with self.watch(what), time_limit(self.time_limit, "the import"):
                load()
        except (Exception, SystemExit, TimeLimitExceededError) as error:  # noqa: BLE001
            # A module is somebody's code: whatever it raises costs its own builders, not the others'.
            for name in set(self._definitions) - before:
                del self._definitions[name]
            if isinstance(error, TimeLimitExceededError):
                self.time_limit /= 2  # so all of them together stay within Airflow's limit for the file
            kind = "" if isinstance(error, BuilderError | TimeLimitExceededError) else f"{type(error).__name__}: "
            self.problems.append(Problem(what, f"cannot be imported: {kind}{error}"))
            return False
        return True

    def _add_to_path(self, folder: Path) -> None:
        if self.root is None or not folder.is_relative_to(self.root):
            if str(folder) not in sys.path:
                sys.path.append(str(folder))
        elif str(folder) not in sys.path[: (end := _entries_below(self.root))]:
            sys.path.insert(end, str(folder))  # before Airflow's folder of DAGs, where its original may stand


def _explain_lax(definition: Definition) -> str | None:
    from .strict import explain_lax

    return explain_lax(definition.config)


def _file_of(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)


def _lies_below(folder: str | Path, module: str) -> bool:
    """Say whether a module was imported from below a folder, be it by a link."""
    file, start = _file_of(module) or "", f"{folder}{os.sep}"
    return file.startswith(start) or os.path.realpath(file).startswith(start)


_FILE_MODULE = "dagfactory_consul_builders_"

registry = Registry()
"""Where `@builder` registers: the builders of this process."""


@functools.lru_cache(maxsize=64)
def relative_origin(origin: str, root: Path) -> str:
    """Tell an origin relative to where copied code lies: `./0/jobs.py`, `jobs.daily@./0`; any other as it is."""
    module, at, folder = ("", "", origin) if origin.startswith("/") else origin.partition("@")
    place = Path(folder)
    if not folder or not place.is_relative_to(root):
        return origin
    return f"{module}{at}./{place.relative_to(root).as_posix()}"


def absolute_origin(origin: str, root: Path) -> str:
    """Undo `relative_origin`, wherever the code lies by now."""
    if origin.startswith("./"):
        return str(root / origin)
    module, at, folder = origin.partition("@")
    return f"{module}@{root / folder}" if at and folder.startswith("./") else origin


@functools.lru_cache(maxsize=2)
def installed_sources(_path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the modules that installed distributions name by entry points, for this `sys.path`.

    Looking through all distributions takes a while: a process does it once, and hands it down to its forks.
    """
    from importlib.metadata import entry_points

    return tuple(dict.fromkeys(point.module for point in entry_points(group=ENTRY_POINTS)))


def load_builders(settings: Settings, *, entry_points: bool = True) -> Registry:
    """Return this process's registry with the builders of the settings in it."""
    registry.time_limit = settings.import_timeout
    registry.load(settings.builders, entry_points=entry_points)
    return registry


def builder(
    name: str | None = None, *, flag: str | None = None, flags: Mapping[str, Any] | None = None
) -> Callable[[Builder], Builder]:
    """Name a builder, so that configurations and `DAGFactory.create` find it.

    Args:
        name: as documents will name it; the class's own name unless given.
        flag: the flag that lets its DAGs run. One that does not exist counts as on, unless `flags` gives it a default.
        flags: the flags whose values shape its DAGs, with their defaults: `{"message-parser": "v1"}`.

    Raises:
        BuilderError: the class is no DagBuilder, or a name is not one.
    """

    def define(cls: Builder) -> Builder:
        if not (isinstance(cls, type) and issubclass(cls, DagBuilder)):
            raise BuilderError(f"@builder goes on a subclass of DagBuilder, and {cls!r} is none")
        chosen = name or cls.__name__
        if not _NAME.fullmatch(chosen):
            raise BuilderError(
                f"{cls.__qualname__}: {chosen!r} is not a builder's name: letters, digits and _, at most 63"
            )
        for each in filter(None, [flag, *(flags or {})]):
            if not is_id(each):
                raise BuilderError(f"{cls.__qualname__}: the flag {describe_bad_id(each)}")
        cls.definition = Definition(chosen, cls, cls.config_model, flag, dict(flags or {}))
        registry.add(cls.definition)
        return cls

    return define


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _entries_below(root: Path) -> int:
    """Return how many of the entries that `sys.path` begins with lie below a folder."""
    return next((count for count, each in enumerate(sys.path) if not Path(each).is_relative_to(root)), len(sys.path))
