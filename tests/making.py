"""What the core's tests are made of: snapshots of dictionaries, builders, and registries of them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from pydantic import Field

from dagfactory_consul.builders import DagBuilder, Definition
from dagfactory_consul.models import DagConfig
from dagfactory_consul.registry import Registry
from dagfactory_consul.snapshot import Snapshot, from_reading
from dagfactory_consul.stores.base import Entry, Reading

settings.register_profile("shared-machine", deadline=None)  # an example's time says nothing where others work too
settings.load_profile("shared-machine")


class JobConfig(DagConfig):
    """The configuration of the tests' builders."""

    limit: int = 10
    source: str = "inbox"
    options: dict[str, Any] = Field({})


class Job(DagBuilder[JobConfig]):
    """Does a job.

    This sentence is not shown.
    """

    def tasks(self) -> None:
        from airflow.providers.standard.operators.empty import EmptyOperator

        EmptyOperator(task_id="first") >> EmptyOperator(task_id="last")


def definition(
    name: str = "Job",
    cls: type[DagBuilder[Any]] = Job,
    *,
    gate: str | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Definition:
    """Return what `@builder` would make of a class, without registering it."""
    return Definition(name, cls, cls.config_model, gate, dict(flags or {}))


def registry_of(*definitions: Definition) -> Registry:
    """Return a registry of these builders; of `Job` alone unless some are given."""
    registry = Registry()
    for each in definitions or (definition(),):
        registry.add(each)
    return registry


def snapshot_of(documents: Mapping[str, Any], *, index: int = 7) -> Snapshot:
    """Return what a store would give: each document as JSON, save bytes, which are left as they are."""
    entries = [
        Entry(key, value if isinstance(value, bytes) else json.dumps(value).encode(), index)
        for key, value in documents.items()
    ]
    return from_reading(Reading(tuple(entries), source="memory://test"), now=0.0)


def json_values(words: str) -> st.SearchStrategy[Any]:
    """Return any JSON that a document may hold, in which these words come up more often than chance would have it."""
    texts = st.sampled_from(words.split()) | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)
    plain = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts
    )
    return st.recursive(
        plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=5), max_leaves=12
    )


@contextmanager
def fresh_registry(folder: Path, *, time_limit: float = 10.0) -> Iterator[Registry]:
    """Give this process's registry as a new process has it; afterwards forget what was imported from `folder`."""
    from dagfactory_consul.registry import registry

    before, path = dict(vars(registry)), list(sys.path)
    vars(registry).update(vars(Registry(time_limit=time_limit)))
    importlib.invalidate_caches()
    try:
        yield registry
    finally:
        vars(registry).update(before)
        sys.path[:] = path
        forget(folder)


def forget(folder: Path) -> None:
    """Make the modules of a folder unknown again, as they are to a new process."""
    importlib.invalidate_caches()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def write(path: Path, text: str) -> Path:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    importlib.invalidate_caches()
    return path


def code(name: str, *, base: str = "DagBuilder", body: str = "pass", top: str = "") -> str:
    """Return the text of a module that defines one builder."""
    return (
        "from dagfactory_consul import DagBuilder, builder\n"
        f"{top}\n"
        f"@builder({name!r})\n"
        f"class {name}({base}):\n"
        f"    {body}\n"
    )
