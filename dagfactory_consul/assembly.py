"""The assembly: builds the DAGs of a release. One that cannot be built falls back on what was in force before."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from .builders import build_dag
from .errors import BuilderError, BuildError, NotTriedError
from .problems import Problem, at_most, some
from .registry import Registry
from .release import DRAINING, Placement, Release
from .time_limit import TenantsShare, TimeLimitExceededError, share_of_parse, time_limit

if TYPE_CHECKING:
    from airflow.sdk import DAG


class Assembly:
    """Builds DAGs, one by one, so that none of them harms another.

    Args:
        registry: the builders, imported.
        build_timeout: seconds that one DAG may take. Once a builder has taken longer only those of its DAGs are
            tried that were seen to build with the same code before.
    """

    TENANTS: ClassVar[int] = 3
    """For so many tenants a builder has to hang before it, and no tenant's configuration, is to blame."""
    HANG_SECONDS: ClassVar[float] = 10.0
    """How long one parse waits for what hangs, at most; then no other DAG of a builder that has hung is tried."""

    def __init__(self, registry: Registry, *, build_timeout: float) -> None:
        self.registry = registry
        self.build_timeout = build_timeout
        self._hung: dict[tuple[str, str | None], str] = {}
        """What was said of builders that hung, by builder and tenant."""
        self._waited = 0.0
        self._share = TenantsShare(share_of_parse())

    def build(self, release: Release) -> tuple[list[DAG], Release]:
        """Build all DAGs that are to be shown; a preflight has found that they can be.

        Returns:
            The DAGs, and the release with the problems of those that could not be built all the same.
        """
        dags: list[DAG] = []

        def make(placed: Placement) -> Placement:
            dags.append(self._build(placed, release.fingerprint))
            return placed

        with _without_garbage_collection():
            return dags, self.keep_good(release, release, make)

    def keep_good(
        self,
        release: Release,
        before: Release | None,
        make: Callable[[Placement], Placement],
        *,
        stays_shown: bool = False,
        now: float = 0.0,
    ) -> Release:
        """Make all DAGs that are to be shown. One that cannot be made falls back on what was in force before.

        Args:
            release: what is to be in force.
            before: what was.
            make: makes one DAG, and says how it is placed then. Raises BuildError where it cannot be made.
            stays_shown: what is in force, and cannot be made from its old spec either, stays exactly as it was, for it
                goes on being shown. At a parse it is not.
            now: seconds since the epoch: since when that which falls back is refused, unless it was already.

        Returns:
            The release as it could be made: with what was fallen back on, and the problems.
        """
        placements: dict[str, Placement] = {}
        problems = list(release.problems)
        untried: list[str] = []
        for dag_id, placed in release.dags.items():
            if not placed.shown:
                placements[dag_id] = placed
                continue
            old = before.dags.get(dag_id) if before is not None else None
            kept, error, made = self._first_good(placed, old, make, now)
            if isinstance(error, NotTriedError):
                untried.append(dag_id)
                kept = kept if made else old
            elif error is not None:
                kept = old if stays_shown and not made else kept
                shown = made or (stays_shown and kept is not None and kept.shown)
                problems.append(_problem(placed, error, shown=shown))
            if kept is not None:
                placements[dag_id] = kept
        if untried:
            problems.append(_not_yet(untried))
        return release._replace(dags=placements, problems=tuple(at_most(problems)))

    def _first_good(
        self, placed: Placement, old: Placement | None, make: Callable[[Placement], Placement], now: float
    ) -> tuple[Placement | None, BuildError | None, bool]:
        """Return the placement that stays, what was wrong with the new one, and whether one of the two was made."""
        if placed.spec.builder not in self.registry and not self._import(placed):
            return placed, None, False  # the plan has said so
        if placed.origin != (origin := self.registry.origin(placed.spec.builder)):
            placed = placed._replace(origin=origin)
        try:
            return make(placed), None, True
        except BuildError as error:
            wrong = error
        if old is None:
            return None, wrong, False  # it never was good: the next plan brings it again
        if old.spec.hash == placed.spec.hash:
            return old, wrong, False
        # Only the spec is what it was: that it drains, say, is news all the same.
        refused = old.refused if isinstance(wrong, NotTriedError) else old.refused or now
        old = placed._replace(spec=old.spec, checked=old.checked, refused=refused)
        try:
            return make(old), wrong, True
        except BuildError:
            return old, wrong, False

    def _import(self, placed: Placement) -> bool:
        """Import a builder that none of the sources has, but the release: it came by an entry point."""
        try:
            self.registry.load_one(placed.spec.builder, placed.origin)
        except BuilderError:
            return False
        return True

    def _build(self, placed: Placement, fingerprint: str) -> DAG:
        name = placed.spec.builder
        if reason := self._why_not_tried(placed, fingerprint):
            raise BuildError(f"{name} is not tried again at this parse: {reason}")
        limit, began = time_limit(self.build_timeout, f"building {placed.spec.dag_id}"), time.monotonic()
        try:
            with limit:
                return build_dag(
                    self.registry[name], placed.spec, draining=placed.state == DRAINING, refused=placed.refused
                )
        except TimeLimitExceededError as error:
            self._hung[name, placed.spec.tenant] = str(error)
            self._waited += self.build_timeout
            raise BuildError(str(error)) from error
        finally:
            self._share.add(placed.spec.tenant, time.monotonic() - began - limit.importing)

    def _why_not_tried(self, placed: Placement, fingerprint: str) -> str | None:
        """Say why a builder is not tried once more; None where it is.

        One tenant's configuration may be all that hangs. So others' DAGs that were seen to build with this code are
        tried, unless the builder hung for several tenants; and those that were not as long as there is time for it.
        """
        builder, tenant = placed.spec.builder, placed.spec.tenant
        if reason := self._share.why_over(tenant):
            return reason
        own = self._hung.get((builder, tenant))
        is_known, is_late = placed.checked == fingerprint, self._waited >= self.HANG_SECONDS
        if own is not None:
            return own if is_late or not is_known else None
        others = [said for (name, _), said in self._hung.items() if name == builder]
        enough = self.TENANTS if is_known else 1
        return others[0] if is_late and len(others) >= enough else None


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Pause the collector: what is built here stays, and each look through all of Airflow's objects takes 0.1 s."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _not_yet(dag_ids: Sequence[str]) -> Problem:
    return Problem("tenants", f"these DAGs are still to be checked, and stay as they were until then: {some(dag_ids)}")


def _problem(placed: Placement, error: BuildError, *, shown: bool) -> Problem:
    instead = "its last good configuration stays in force" if shown else "it is not shown until that is mended"
    spec = placed.spec
    return Problem(f"tenants/{spec.tenant}", f"{error}; {instead}", spec.tenant, spec.dag_id)
