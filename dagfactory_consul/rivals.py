"""Rivals: other bundles of this Airflow that have DAGs of the same ids. A DAG id belongs to one bundle alone.

If two bundles published one DAG, Airflow would take it from each in turn, and its runs with it. A new DAG whose id
another bundle has is left out, and is a problem that names both bundles.

A rival is a bundle that Airflow has not disabled, and that is in its configuration here or was refreshed lately. A
bundle that was renamed keeps its DAGs in the database, but no processor refreshes it any more.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol
from weakref import WeakSet

from .errors import SettingsError
from .occupancy import Elsewhere
from .problems import Problem, printable, some
from .release import Placement, Release
from .settings import Settings

_CLASSPATH = "dagfactory_consul.bundle.ConsulDagBundle"
_OF_FOLDER = "airflow.dag_processing.bundles.local.LocalDagBundle"
_NAMED = 5
"""DAGs that one problem names."""


class Asked(Protocol):
    """Says which DAGs other bundles have (see `occupancy.elsewhere`); None asks for all DAGs."""

    def __call__(self, bundle: str, dag_ids: Collection[str] | None) -> Mapping[str, Elsewhere]: ...


class Rivals:
    """What other bundles have of the DAGs of one.

    Args:
        bundle: the name of this bundle.
        environment: of this bundle.
        ask: says which DAGs other bundles have.
        tell: takes a line for the log, where the database does not answer.
        published: returns the DAGs that this bundle has deployed.
        clock: seconds since the epoch.
    """

    _of_process: ClassVar[WeakSet[Rivals]] = WeakSet()
    """Those of all bundles of this DAG processor: one knows another's first DAGs before Airflow has parsed them."""

    LATELY: ClassVar[float] = 600.0
    """Seconds within which a bundle in use was refreshed: twice Airflow's default interval."""

    AGAIN: ClassVar[float] = 10.0
    """Seconds between two looks at DAGs that were left out: one that is free follows so soon."""
    ALL: ClassVar[float] = 60.0
    """Seconds between two looks at all DAGs that are deployed: nothing but a rival's first parse changes the answer."""

    def __init__(
        self,
        bundle: str,
        environment: str,
        ask: Asked,
        tell: Callable[[str], None],
        published: Callable[[], Mapping[str, Placement]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._own = _named(bundle, environment)
        self.bundle = bundle
        self._ask = ask
        self._tell = tell
        self.published = published
        self._clock = clock
        self._of_process.add(self)
        self._left_out: set[str] = set()
        self._looked = self._looked_at_all = float("-inf")
        self._problems: tuple[Problem, ...] = ()

    def sift(self, release: Release, before: Release | None) -> Release:
        """Return a release without the new DAGs that other bundles have, and with problems that name both bundles.

        Where the database does not answer nothing is left out.
        """
        known = before.dags if before is not None else {}
        new = [dag_id for dag_id, each in release.dags.items() if each.shown and not _is_shown(known.get(dag_id))]
        taken = self._taken(new) if new else {}
        self._left_out, self._looked = set(taken), time.monotonic()
        if not taken:
            return release
        dags = {dag_id: each for dag_id, each in release.dags.items() if dag_id not in taken}
        dags |= {dag_id: known[dag_id] for dag_id in taken if dag_id in known}  # removed before, and so it stays
        problems = self._explain(taken, release.dags, "is left out here")
        return release._replace(dags=dict(sorted(dags.items())), problems=(*release.problems, *problems))

    def is_one_free(self) -> bool:
        """Say whether a DAG that was left out is no other bundle's any more."""
        if not self._left_out or time.monotonic() - self._looked < self.AGAIN:
            return False
        self._looked = time.monotonic()
        return not self._left_out <= self._taken(self._left_out).keys()

    def look(self, release: Release) -> None:
        """Find out which of the deployed DAGs other bundles have published as well, now and then."""
        if time.monotonic() - self._looked_at_all < self.ALL:
            return
        self._looked_at_all = time.monotonic()
        taken = self._taken(None)
        shown = {dag_id: name for dag_id, name in taken.items() if _is_shown(release.dags.get(dag_id))}
        self._problems = tuple(self._explain(shown, release.dags, "is published here as well"))

    def problems(self) -> list[str]:
        """Return what is wrong with DAGs that are deployed, a line each."""
        return [str(problem) for problem in self._problems]

    def _taken(self, dag_ids: Collection[str] | None) -> Mapping[str, str]:
        try:
            found = self._ask(self.bundle, dag_ids)
        except Exception as error:  # noqa: BLE001  # whatever the database says, the DAGs are ours as far as is known
            self._tell(f"whether another bundle has the same DAGs cannot be known: {error}")
            return {}
        found = {**self._beside(dag_ids or ()), **found}
        entries = configured() if found else {}
        return {dag_id: each.bundle for dag_id, each in found.items() if self._counts(each, entries.get(each.bundle))}

    def _counts(self, found: Elsewhere, entry: Mapping[str, Any] | None) -> bool:
        """Say whether a DAG is still a rival's: its bundle is in use, and its file was not removed."""
        if entry is None:
            return found.refreshed >= self._clock() - self.LATELY
        # A folder is the same on all machines. Airflow itself notices only a moment later that the file is gone.
        return entry.get("classpath") != _OF_FOLDER or not found.file or Path(found.file).exists()

    def _beside(self, dag_ids: Collection[str]) -> dict[str, Elsewhere]:
        """Return which DAGs another bundle of this process has published."""
        now = self._clock()
        published = {each.bundle: each.published() for each in self._of_process if each.bundle != self.bundle}
        return {
            dag_id: Elsewhere(name, now)
            for name, dags in published.items()
            for dag_id in dag_ids
            if _is_shown(dags.get(dag_id))
        }

    def _explain(self, taken: Mapping[str, str], dags: Mapping[str, Placement], how: str) -> Iterable[Problem]:
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for dag_id, bundle in sorted(taken.items()):
            found[dags[dag_id].spec.tenant or "", bundle].append(dag_id)
        for (tenant, bundle), dag_ids in found.items():
            other = _named(bundle, environment_of(bundle))
            message = (
                f"{other} of this Airflow has {some(dag_ids, _NAMED)}, which {how}, in {self._own}: a DAG id belongs "
                "to one bundle. Remove the DAG from one of the two, give it another `name`, or run each environment in "
                "an Airflow of its own"
            )
            yield Problem(f"tenants/{tenant}", message, tenant, dag_ids[0] if len(dag_ids) == 1 else None)


def configured() -> dict[str, Mapping[str, Any]]:
    """Return the entries of the bundles in Airflow's configuration by name; {} where it cannot be read."""
    from airflow.configuration import conf
    from airflow.exceptions import AirflowConfigException

    try:
        found = conf.getjson("dag_processor", "dag_bundle_config_list")
    except AirflowConfigException:  # Airflow itself says so, and starts no processor
        return {}
    entries = found if isinstance(found, list) else []
    return {str(each.get("name")): each for each in entries if isinstance(each, dict)}


def environment_of(bundle: str) -> str | None:
    """Return the environment of a bundle of Airflow's configuration; None if it is none of ours, or not known here."""
    entry = configured().get(bundle, {})
    if entry.get("classpath") != _CLASSPATH:
        return None
    own = {name: value for name, value in (entry.get("kwargs") or {}).items() if name == "environment"}
    try:
        return Settings.read(**own).environment
    except SettingsError:  # that bundle says so itself
        return None


def _is_shown(placed: Placement | None) -> bool:
    return placed is not None and placed.shown


def _named(bundle: str, environment: str | None) -> str:
    return printable(f"the bundle {bundle!r}" + (f" (environment {environment})" if environment else ""), 150)
