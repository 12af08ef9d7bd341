"""A project's configuration: what one project's own DAG file reads, as attributes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .errors import DocumentError, UnknownKeyError, near_miss

if TYPE_CHECKING:
    from .builders import Definition
    from .client import ConfigClient
    from .decisions import Decision
    from .settings import Settings


class ConfigNode(Mapping[str, Any]):
    """A part of a configuration: `node.name` and `node["name"]` are the same, and objects below are nodes again."""

    def __init__(self, content: Mapping[str, Any], path: str, source: str, root: ProjectConfig | None = None) -> None:
        self._content = content
        self._path = path
        self._source = source
        self._root = root

    def __getattr__(self, name: str) -> Any:
        """Return the value of a key.

        Raises:
            UnknownKeyError: there is none; the message names the key, the store and the near misses.
        """
        if name.startswith("__"):  # copy, pickle and others ask for methods that nobody configures
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        if name not in self._content:
            raise UnknownKeyError(f"{self._path} in {self._source} has no key {name!r}{near_miss(name, self._content)}")
        return self._wrap(name, self._content[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return f"<{self._path} in {self._source}: {', '.join(self._content)}>"

    def decide(self, definition: Definition) -> dict[str, Decision]:
        """Return what the flags that a builder declares say for this project."""
        return self._root.decide(definition) if self._root is not None else {}

    def _wrap(self, name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return ConfigNode(value, f"{self._path}.{name}", self._source, self._root)
        return value


class ProjectConfig(ConfigNode):
    """The document `projects/<name>`, as of this parse.

    `environment` is the setting's where the document does not say it.

    Args:
        name: the project's id.
        client: where to read; that of the settings unless given.
        settings: Airflow's own unless given.

    Raises:
        UnknownKeyError: there is no such project.
        DocumentError: its document is malformed, or no object.
        NothingKnownError: no store answers, and there is no local copy.
    """

    def __init__(self, name: str, *, client: ConfigClient | None = None, settings: Settings | None = None) -> None:
        from .runtime import client_of
        from .settings import Settings

        self._settings = settings or Settings.read()
        self._client = client or client_of(self._settings)
        self._name = name
        key = f"projects/{name}"
        document = self._client.document(key)
        source = self._settings.store
        if document is None:
            self._refuse_unknown(name, source)
        if document is not None and document.value is None:  # malformed, and it never was good
            raise DocumentError(document.malformed or "the document is empty", key=key)
        content = {"environment": self._settings.environment, **(document.value if document else {})}
        super().__init__(content, key, source, self)

    def __getitem__(self, name: str) -> Any:
        if name not in self._content and self._settings.fallback_on_missing:
            found = _single_variable(self._settings, self._name, name)
            if found is not None:
                from .templates import explain

                if reason := explain(found, name):
                    raise DocumentError(reason, key=f"projects/{self._name}")
                return self._wrap(name, found)
        return super().__getitem__(name)

    def decide(self, definition: Definition) -> dict[str, Decision]:
        """Return what the flags that a builder declares say for this project: its name is the targeting key."""
        from .flag_set import FlagSet

        context = {"targetingKey": self._name, "project": self._name, "environment": self["environment"]}
        decisions: dict[str, Decision] = {}
        for name, default in definition.flags.items():
            document = self._client.document(f"flags/{name}")
            flags = FlagSet([document] if document else [])
            decisions[name] = flags.evaluate(name, default, context, time.time())
        return decisions

    def _refuse_unknown(self, name: str, source: str) -> None:
        if self._settings.fallback_on_missing:
            return  # its keys may stand in single Variables
        known = [key.removeprefix("projects/") for key in self._client.current() if key.startswith("projects/")]
        raise UnknownKeyError(f"{source} has no project {name!r}{near_miss(name, known)}")


def _single_variable(settings: Settings, project: str, key: str) -> Any:
    """Return the value of the one Airflow Variable for a project's key, None if there is none."""
    from .stores import open_store

    store = open_store(settings.fallback) if settings.fallback else None
    single = getattr(store, "single", None)
    return single(project, key) if single is not None else None
