"""What a processor tells of itself: its log once, its status into the store, its figures to Airflow's metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from .edition import Edition
from .errors import StoreError
from .head import this_processor
from .keyed_file import dumps
from .stores.base import Store

log = logging.getLogger(__name__)

STATUS = "status"
"""The key, below the deployment's name and beside the prefix, that holds its status."""

NAMED = 1_000
"""Keys, or DAGs, that a status names of a hold or among those that drain: a store's value has room for so many."""
REFUSED = 100
"""DAGs that a status names with what keeps them as they were."""
LINES = 200
"""Problems that a status tells."""


class Reporter:
    """Reports on one bundle.

    Args:
        name: of the bundle.
        deployment: whose processor this is.
        store: beside the polled prefix.
    """

    METRICS_INTERVAL: ClassVar[float] = 10.0
    """Seconds between two reports of the figures."""
    RETRY_INTERVAL: ClassVar[float] = 15.0
    """Seconds after which a status that could not be written is tried again: each try may take its whole time-out."""

    def __init__(self, name: str, deployment: str, store: Store) -> None:
        self.name = name
        self.store = store
        self.key = f"{deployment}/{STATUS}"
        self.deployment = deployment
        self._said: dict[str, float] = {}
        self._status: dict[str, Any] | None = None
        self._reported = float("-inf")
        self._failed = float("-inf")

    def once(self, message: str, *, error: Exception | None = None) -> None:
        """Log a warning, and the same one not again within a minute; with an error's traceback if one is given."""
        now = time.monotonic()
        if now - self._said.get(message, float("-inf")) >= 60:
            self._said = {each: at for each, at in self._said.items() if now - at < 60}
            self._said[message] = now
            log.warning("%s", message, exc_info=error)

    def failed(self) -> None:
        """Count a refresh that has failed."""
        from airflow.sdk.observability import stats

        stats.incr("dagfactory_consul.errors", tags={"bundle_name": self.name})

    def report(self, edition: Edition, problems: list[str], *, age: float, seconds: float, write: bool) -> None:
        """Report what is in force.

        Args:
            edition: that it is.
            problems: all that is wrong, a line each.
            age: seconds since the store last confirmed the configuration.
            seconds: that the refresh took.
            write: the status into the store, if it has changed.
        """
        status = self._status_of(edition, problems)
        if write and status != self._status and time.monotonic() - self._failed >= self.RETRY_INTERVAL:
            try:
                now = {**status, "at": time.time(), "by": this_processor()}
                self.store.put(self.key, dumps(now).encode())
                self._status = status
            except StoreError as error:
                self._failed = time.monotonic()
                self.once(f"{error}. The status is not written")
        if time.monotonic() - self._reported >= self.METRICS_INTERVAL:
            self._reported = time.monotonic()
            self._measure(edition, len(problems), age, seconds)

    def _status_of(self, edition: Edition, problems: list[str]) -> dict[str, Any]:
        draining = [placed.spec.dag_id for placed in edition.draining()]
        held = edition.snapshot.held
        return {
            "deployment": self.deployment,
            "bundle": self.name,
            "version": edition.version.name,
            "snapshot": edition.snapshot.version,
            "index": edition.snapshot.mark,
            "agreed": edition.head.at,
            "dags": len(edition.release.specs()) - len(draining),
            "draining": draining[:NAMED],
            "draining_count": len(draining),
            "refused": edition.release.former(REFUSED),
            "held": _held(held) if held else None,
            "problems": _bounded(problems),
        }

    def _measure(self, edition: Edition, problems: int, age: float, seconds: float) -> None:
        from airflow.sdk.observability import stats

        tags = {"bundle_name": self.name}
        held = edition.snapshot.held
        figures = {
            "snapshot_age": age,
            "dags": len(edition.release.specs()),
            "draining": len(edition.draining()),
            "held": len(held["missing"]) if held else 0,
            "problems": problems,
        }
        for figure, value in figures.items():
            stats.gauge(f"dagfactory_consul.{figure}", value, tags=tags)
        stats.timing("dagfactory_consul.refresh", seconds * 1000, tags=tags)


def _held(held: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of a hold: keys and DAGs by name, as many as a status has room for."""
    named = {name: held.get(name, [])[:NAMED] for name in ("missing", "dags")}
    return {"version": held["version"], "reason": held["reason"], **named}


def _bounded(problems: list[str]) -> list[str]:
    """Return the lines that a status has room for; the rest is in Airflow's import errors."""
    more = len(problems) - LINES
    return problems if more <= 0 else [*problems[:LINES], f"and {more:,} more: see Airflow's import errors"]
