"""A real Airflow database, and whether it takes a DAG: as the DAG processor writes it and the scheduler runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bundle.postgres import Postgres

if TYPE_CHECKING:
    from airflow.sdk import DAG

BUNDLE = "fuzz"


def prepare(postgres: Postgres, home: Path) -> None:
    """Make Airflow's tables, and have this process use them: before it imports Airflow."""
    os.environ["AIRFLOW_HOME"] = str(home)
    bundle = {"name": BUNDLE, "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}}
    os.environ["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps([bundle])
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"postgresql+psycopg2://{postgres.address}"
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)


def take(dag: DAG, number: int) -> None:
    """Write a DAG as Airflow's processor does, and a run of it with its tasks as the scheduler does.

    Raises:
        Exception: the database's own, where it does not take it. Airflow's process would end by it.
    """
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    dag.fileloc, dag.relative_fileloc = __file__, "dag.py"  # whatever there is to show as its code
    with create_session() as session:
        session.merge(DagBundleModel(name=BUNDLE))
    errors: dict[tuple[str, str], str] = {}
    with create_session() as session:
        lazy = LazyDeserializedDAG.from_dag(dag)
        update_dag_parsing_results_in_db(BUNDLE, None, [lazy], errors, 0.1, set(), session)
    assert not errors, errors
    with create_session() as session:
        kept = SerializedDagModel.get_dag(dag.dag_id, session=session)
        assert kept is not None, f"{dag.dag_id} was not written"
        now = datetime.now(UTC)
        kept.create_dagrun(
            run_id=f"fuzz-{number}",
            logical_date=None,
            run_after=now,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.QUEUED,
            session=session,
        )
