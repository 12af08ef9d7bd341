"""Takes each DAG of `poisons` the way that Airflow's processes take it, on the database of Airflow's settings.

A program of its own: Airflow knows one database a process. It prints what each has ended with, as JSON.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.models.dag import DagModel
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select

from tests.poisons import FIT, POISONS, a_dag


def take(dag: DAG) -> str:
    """Do what a parse, the DAG processor and the scheduler do with a DAG; return the error that this ends with."""
    try:
        dag.relative_fileloc = "dags.py"
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(DagSerialization.to_dict(dag)))
        lazy = LazyDeserializedDAG(data=sent)
        errors: dict[tuple[str, str], str] = {}
        with create_session() as session:
            update_dag_parsing_results_in_db("dags-folder", None, [lazy], errors, 0.1, set(), session)
        if errors:
            return next(iter(errors.values()))
        return _run(dag.dag_id)
    except Exception as error:  # noqa: BLE001  # it is what this program is for
        return f"{type(error).__name__}: {str(error)[:200]}"


def _run(dag_id: str) -> str:
    now = datetime.now(UTC)
    with create_session() as session:
        found = SerializedDagModel.get_dag(dag_id, session=session)
        model = session.scalar(select(DagModel).where(DagModel.dag_id == dag_id))
        assert found is not None and model is not None, "it was not written"  # noqa: PT018  # this is no test
        if found.timetable.can_be_scheduled and model.next_dagrun is None:
            return "it never runs"
        run = found.create_dagrun(
            run_id="one",
            logical_date=now,
            data_interval=(now, now),
            run_after=now,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            start_date=now,
            session=session,
        )
        for instance in run.task_instances:
            instance.refresh_from_task(found.get_task(instance.task_id))
            _ = now + (found.get_task(instance.task_id).retry_delay or timedelta())
        if found.dagrun_timeout is not None:
            _ = now - found.dagrun_timeout
    return ""


def main() -> None:
    """Take them all."""
    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]  # Airflow's own
    cases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {name: each[:2] for name, each in POISONS.items()} | FIT
    ended = {name: take(a_dag(task, dag_id=f"dag-{n}", **rest)) for n, (name, (task, rest)) in enumerate(cases.items())}
    json.dump(ended, sys.stdout)


if __name__ == "__main__":
    main()
