"""Two bundles of one Airflow that would publish the same DAG id, on a real DAG processor."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from demo.airflow import Airflow
from demo.stack import FOR_BUNDLE
from demo.wait import until

pytestmark = pytest.mark.airflow

BUILDER = """
from airflow.providers.standard.operators.empty import EmptyOperator

from dagfactory_consul import DagBuilder, builder


@builder("Job")
class Job(DagBuilder):
    def tasks(self):
        EmptyOperator(task_id="only")
"""
SOON = 90.0


def bundles(**environments: str) -> dict[str, str]:
    """Return the setting that gives Airflow a bundle for each of these environments."""
    entries = [
        {
            "name": name,
            "classpath": "dagfactory_consul.bundle.ConsulDagBundle",
            "kwargs": {"refresh_interval": 0, "environment": environment, "deployment": name},
        }
        for name, environment in environments.items()
    ]
    return {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(entries)}


class Processor(Airflow):
    """A DAG processor, and its database."""

    def ask(self, query: str) -> list[tuple[str, str]]:
        with closing(sqlite3.connect(self.home / "airflow.db", timeout=10)) as database:
            return database.execute(query).fetchall()

    def dags(self) -> dict[str, str]:
        """Return the bundle of each current DAG."""
        return dict(self.ask("SELECT dag_id, bundle_name FROM dag WHERE NOT is_stale"))

    def errors(self, bundle: str) -> str:
        """Return what Airflow shows of a bundle."""
        return "\n".join(
            text for name, text in self.ask("SELECT bundle_name, stacktrace FROM import_error") if name == bundle
        )

    def restart(self, settings: dict[str, str]) -> None:
        self.stop()
        self.env |= settings
        self.start()


@pytest.fixture
def processor(tmp_path: Path) -> Iterator[Processor]:
    """A DAG processor with two environments of one store, each in a bundle of its own."""
    for name, text in {
        "config/tenants/acme.yaml": "dags: {Job: {}}",
        "builders/job.py": BUILDER,
        "dags/.keep": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    settings = {
        **FOR_BUNDLE,
        **bundles(first="production", second="staging"),
        "AIRFLOW__DAGFACTORY_CONSUL__STORE": str(tmp_path / "config"),
        "AIRFLOW__DAGFACTORY_CONSUL__BUILDERS": str(tmp_path / "builders"),
    }
    made = Processor(tmp_path / "airflow", tmp_path / "dags", settings, components=("dag-processor",))
    made.prepare()
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_one_dag_id_belongs_to_one_bundle(processor: Processor) -> None:
    """The second bundle leaves the DAG out and names both; it takes it over when the first one is gone, or renamed."""
    until(lambda: processor.dags() == {"acme__job": "first"}, "the first bundle has it", seconds=SOON)
    until(lambda: processor.errors("second"), "the second one says why it has not", seconds=SOON)
    shown = processor.errors("second")
    assert "the bundle 'first' (environment production) of this Airflow has acme__job" in shown
    assert "in the bundle 'second' (environment staging)" in shown
    assert processor.errors("first") == ""
    processor.restart(bundles(second="staging"))
    until(lambda: processor.dags() == {"acme__job": "second"}, "the other bundle has it", seconds=SOON)
    processor.restart(bundles(renamed="staging"))
    until(lambda: processor.dags() == {"acme__job": "renamed"}, "it follows its bundle's new name", seconds=SOON)
    until(lambda: not processor.errors("renamed"), "nothing is wrong", seconds=SOON)
