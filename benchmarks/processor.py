"""A real `airflow dag-processor` on a database of its own: its CPU, its memory, and when DAGs change.

What changes is read in the metadata database itself, by a light query each few milliseconds.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from demo.airflow import Airflow
from demo.wait import TooLateError

from .database import Database

POLL_SECONDS = 0.01

DEFAULTS = {
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "30",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "5",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "300",
    "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "50",
    "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "60",
}
"""Airflow's own defaults of what demo.airflow sets to its liking."""

BUNDLE = {
    **DEFAULTS,
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__FILE_PARSING_SORT_MODE": "modified_time",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
}
"""What the documentation tells to set for the bundle."""

PATIENT = {
    "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "900",
    "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "1800",
}
"""What a single file with thousands of DAGs needs; the defaults (30 s, 50 s) would end its parse."""

LATEST = """
SELECT s.data FROM dag_version v JOIN serialized_dag s ON s.dag_version_id = v.id
WHERE v.dag_id = ? ORDER BY v.version_number DESC LIMIT 1
"""


Bundle = tuple[str, Mapping[str, object]]
"""Classpath and arguments."""


@dataclass(frozen=True)
class Cost:
    """What something cost the processor; seconds."""

    wall: float
    manager: float
    """CPU of the process that looks after the files and writes to the database."""
    children: float
    """CPU of the parsers, and of whatever else it started, that have ended."""


class Processor:
    """Airflow's DAG processor.

    Args:
        home: a folder of its own.
        database: the metadata database, empty.
        bundles: classpath and arguments of each bundle, by its name.
        settings: more of Airflow's settings, by environment variable's name.
        others: more of Airflow's components to start.
    """

    def __init__(
        self,
        home: Path,
        database: Database,
        bundles: Mapping[str, Bundle],
        settings: Mapping[str, str],
        others: Sequence[str] = (),
    ) -> None:
        listed = [{"name": name, "classpath": each[0], "kwargs": dict(each[1])} for name, each in bundles.items()]
        self.database = database
        self.airflow = Airflow(
            home,
            home,
            {
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url,
                "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(listed),
                # So that another checkout can be measured.
                **{name: value for name, value in os.environ.items() if name == "PYTHONPATH"},
                **settings,
            },
            components=("dag-processor", *others),
        )
        self._process: psutil.Process | None = None

    def prepare(self) -> None:
        """Make the database's tables, unless they are there."""
        if not (self.airflow.home / "out").exists():
            self.airflow.prepare()

    @contextmanager
    def running(self) -> Iterator[Processor]:
        """Run the processor, and end it."""
        self.prepare()
        self.airflow.start()
        try:
            self._process = psutil.Process(self.airflow.running["dag-processor"].pid)
            yield self
        finally:
            self.airflow.stop()

    @property
    def log(self) -> str:
        """What the processor has said."""
        return self.airflow.out("dag-processor").read_text(errors="replace")

    def cpu(self) -> tuple[float, float]:
        """Return CPU seconds so far: the manager's own, and those of its children that have ended."""
        assert self._process is not None
        times = self._process.cpu_times()
        return times.user + times.system, times.children_user + times.children_system

    def memory(self) -> dict[str, float]:
        """Return the manager's memory in MiB: what is resident, and what only it has."""
        assert self._process is not None
        full = self._process.memory_full_info()
        return {"rss": round(full.rss / 2**20, 1), "uss": round(full.uss / 2**20, 1)}

    def rest(self, *, seconds: float) -> bool:
        """Wait until three seconds in a row have cost less than a tenth of a core; False if `seconds` did not do."""
        deadline, calm = time.monotonic() + seconds, 0
        while calm < 3 and time.monotonic() < deadline:
            before = sum(self.cpu())
            time.sleep(1)
            calm = calm + 1 if sum(self.cpu()) - before < 0.1 else 0
        return calm == 3

    @contextmanager
    def measured(self) -> Iterator[Callable[[], Cost]]:
        """Give a function that tells what has passed since."""
        wall, (manager, children) = time.perf_counter(), self.cpu()

        def cost() -> Cost:
            own, theirs = self.cpu()
            return Cost(time.perf_counter() - wall, own - manager, theirs - children)

        yield cost

    def wait(self, look: Callable[[], Any], what: str, *, seconds: float, every: float = POLL_SECONDS) -> Any:
        """Return what `look` returns as soon as that is true, asked whenever somebody has written to the database.

        Raises:
            TooLateError: after `seconds`, with the end of the processor's log.
            RuntimeError: the processor has ended.
        """
        deadline, seen = time.monotonic() + seconds, ""
        while True:
            changes = self.database.changes()
            if changes != seen:
                seen = changes
                if found := look():
                    return found
            if time.monotonic() > deadline:
                raise TooLateError(
                    f"after {seconds:.0f} s still waiting until {what}; the log ends:\n{self.log[-3000:]}"
                )
            self.airflow.check_running()
            time.sleep(every)

    def wait_for_dags(self, count: int, *, seconds: float) -> None:
        """Wait until so many DAGs are serialised."""
        query = "SELECT count(*) FROM serialized_dag"
        self.wait(
            lambda: self.database.rows(query)[0][0] >= count, f"{count} DAGs are there", seconds=seconds, every=0.05
        )

    def serialised(self, dag_id: str) -> str:
        """Return what is serialised of a DAG, as text; empty if nothing is."""
        rows = self.database.rows(LATEST, dag_id)
        return str(rows[0][0]) if rows else ""


def spread(seconds: Sequence[float]) -> dict[str, float | int]:
    """Summarise samples: how many, the least, the median, the 95th percentile (the nearest sample), the most."""
    if not seconds:
        return {"samples": 0}
    ordered = sorted(seconds)
    return {
        "samples": len(ordered),
        "min": round(ordered[0], 3),
        "median": round(statistics.median(ordered), 3),
        "p95": round(ordered[math.ceil(0.95 * len(ordered)) - 1], 3),
        "max": round(ordered[-1], 3),
    }


def moment(seconds: float, database: Database) -> object:
    """Return a time (of `time.time()`) as the database compares it: SQLite has text, as Airflow writes it."""
    when = datetime.fromtimestamp(seconds, UTC)
    return when.strftime("%Y-%m-%d %H:%M:%S.%f") if database.kind == "sqlite" else when
