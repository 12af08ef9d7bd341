"""A watch on DAGs that nobody touches: none of them may vanish, drain or change, whatever befalls others."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Self

import sqlalchemy

_QUERY = """
select dag.dag_id, dag.is_stale, count(dag_version.id), coalesce(max(dag_tag.name), '')
from dag left join dag_version on dag_version.dag_id = dag.dag_id
left join dag_tag on dag_tag.dag_id = dag.dag_id and dag_tag.name = 'draining'
where dag.dag_id in :dag_ids group by dag.dag_id, dag.is_stale
"""


class Watch:
    """Looks into Airflow's database several times a second, for as long as it is entered.

    Args:
        database: of Airflow.
        dag_ids: that are active when it begins.
    """

    def __init__(self, database: sqlalchemy.Engine, dag_ids: Iterable[str]) -> None:
        self.dag_ids = frozenset(dag_ids)
        self.looks = 0
        self.seen: list[str] = []
        """What was seen that must not be."""
        self.changed: set[str] = set()
        """The DAGs that have got other versions."""
        self._database = database
        self._versions: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def allow(self, *dag_ids: str) -> None:
        """Watch these no longer."""
        self.dag_ids -= set(dag_ids)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        query = sqlalchemy.text(_QUERY).bindparams(sqlalchemy.bindparam("dag_ids", expanding=True))
        with self._database.connect() as connection:
            while not self._stop.wait(0.25):
                rows = connection.execute(query, {"dag_ids": sorted(self.dag_ids) or [""]}).all()
                self._look({row[0]: (row[1], row[2], row[3]) for row in rows})
                self.looks += 1

    def _look(self, found: dict[str, tuple[bool, int, str]]) -> None:
        for dag_id in sorted(self.dag_ids):
            stale, versions, draining = found.get(dag_id, (True, 0, ""))
            known = self._versions.setdefault(dag_id, versions)
            if versions != known:
                self.changed.add(dag_id)
            if stale or draining or versions != known:
                what = "vanished" if stale else draining or f"has {versions - known} more versions"
                if (line := f"{dag_id} {what}") not in self.seen:
                    self.seen.append(line)
