"""Airflow's line about each look at a bundle, which a bundle without a wait between looks would fill the log with."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, MutableMapping
from typing import Any

MANAGER = "airflow.dag_processing.manager.DagFileProcessorManager"
SECONDS = 600.0
"""One line in this time is kept: it shows that the DAG processor still looks."""


class Seldom:
    """A processor of structlog's that leaves out one bundle's lines, but for one in ten minutes.

    It is made at a look that is logged already: the next line is kept ten minutes later.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.line = f"Refreshing bundle {name}"
        self.clock = clock
        self._next = clock() + SECONDS

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the event. Raises structlog.DropEvent: it is left out."""
        if event.get("event") != self.line:
            return event
        now = self.clock()
        if now < self._next:
            from structlog import DropEvent

            raise DropEvent
        self._next = now + SECONDS
        return event


def hush(name: str) -> None:
    """Have this process log its looks at a bundle seldom, unless its manager logs at level DEBUG.

    Airflow's loggers share one list of processors, those that have been used already, too. Where that list or the line
    is another one some day, the log is as full as without this.
    """
    import structlog

    processors = structlog.get_config()["processors"]
    if not isinstance(processors, list) or structlog.get_logger(MANAGER).is_enabled_for(logging.DEBUG):
        return
    if not any(isinstance(each, Seldom) and each.name == name for each in processors):
        processors.insert(0, Seldom(name))
