from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from demo.stack import LOADER, PROJECTS

from .conftest import DAGS, ROOT

pytestmark = pytest.mark.airflow

GROUPS = ["process_invoices", "process_messages"]
STEPS = ["fetch", "validate", "process", "report"]
LIST = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
bags = [BundleDagBag(folder, bundle_path=Path(folder)) for folder in sys.argv[1:]]
dags = {name: sorted(dag.task_ids) for bag in bags for name, dag in bag.dags.items()}
shown = {"dags": dags, "errors": [bag.import_errors for bag in bags if bag.import_errors]}
print("\\n" + json.dumps(shown))
"""


class Airflow:
    """An Airflow of its own with this project's DAG folder and the plain loader, which reads the samples as files."""

    def __init__(self, home: Path) -> None:
        self.home = home
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "CONSUL"))}
        self.env = {
            **inherited,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([PROJECTS, LOADER]),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__DAGFACTORY_CONSUL__STORE": str(ROOT / "demo" / "config"),
            "AIRFLOW__DAGFACTORY_CONSUL__BUILDERS": str(DAGS / "builders"),
            "DAGFACTORY_EXAMPLE_OUTPUT": str(home / "results"),
        }

    def run(self, *arguments: str) -> str:
        """Run Python with these arguments there, and return what it printed."""
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=self.env, cwd=self.home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def result(self, name: str) -> dict[str, Any]:
        """Return what the one run of a DAG or group has written."""
        (file,) = (self.home / "results" / name).glob("*/result.json")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    started = Airflow(tmp_path_factory.mktemp("airflow"))
    started.run("-m", "airflow", "db", "migrate")
    started.run("-m", "airflow", "dags", "reserialize")
    return started


def test_the_folder_gives_the_tenants_dags_and_the_projects(airflow: Airflow) -> None:
    """Airflow finds the tenants' DAGs and the project's, and no file that it cannot import."""
    found = json.loads(airflow.run("-c", LIST, str(DAGS), str(DAGS / "loader")).splitlines()[-1])
    assert found["errors"] == []
    assert len(found["dags"]) == 8
    assert found["dags"]["acme__process_messages"] == sorted(STEPS)
    assert found["dags"]["flywheel"] == sorted([f"{group}.{step}" for group in GROUPS for step in STEPS] + ["report"])


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Airflow's own
def test_only_dag_files_are_parsed_as_such() -> None:
    """Builders, pipelines and a project's configuration are no DAG files; the plain loader's are another bundle's."""
    from airflow._shared.module_loading.file_discovery import find_path_from_directory

    found = {str(Path(path).relative_to(DAGS)) for path in find_path_from_directory(DAGS, ".airflowignore", "glob")}
    python = {path for path in found if path.endswith(".py")}
    assert python == {"projects/flywheel/dag.py"}


def test_a_tenants_dag_runs(airflow: Airflow) -> None:
    """A run of a DAG that exists only as data does real work: acme, a gold tenant, gets the newer parser's result."""
    airflow.run("-m", "airflow", "dags", "test", "acme__process_messages")
    result = airflow.result("acme/process_messages")
    assert (result["parser"], result["by_customer"]) == ("v2", {"acme": 150})


def test_hostile_values_are_data_in_a_run(airflow: Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run reads the records of customers of hostile names, of which there are none, and does nothing else."""
    hostile = ["; touch owned", "$(touch owned)", "`touch owned`", "../..", "x.sh", "x.sql", "-rf"]
    project = {name: {"customers": ["acme", *hostile]} for name in GROUPS}
    store, results = tmp_path / "config", tmp_path / "$(touch owned); x.sh"
    shutil.copytree(ROOT / "demo" / "config", store)
    (store / "projects" / "flywheel.yaml").write_text(json.dumps({"environment": "x.sh", "schedule": None, **project}))
    monkeypatch.setitem(airflow.env, "AIRFLOW__DAGFACTORY_CONSUL__STORE", str(store))
    monkeypatch.setitem(airflow.env, "DAGFACTORY_EXAMPLE_OUTPUT", str(results))
    airflow.run("-m", "airflow", "dags", "test", "flywheel")
    (report,) = (results / "flywheel" / "report").glob("*/result.json")
    assert json.loads(report.read_text())["customers"].keys() == {"acme"}
    assert not [*tmp_path.rglob("owned"), *airflow.home.rglob("owned")]


def test_the_projects_dag_runs_both_builders_and_joins_what_they_found(airflow: Airflow) -> None:
    """The parent DAG runs both groups, and its report holds the customers of both."""
    airflow.run("-m", "airflow", "dags", "test", "flywheel")
    report, invoices = airflow.result("flywheel/report"), airflow.result("flywheel/process_invoices")
    assert {name: each["messages"] for name, each in report["customers"].items()} == {
        "acme": 150,
        "globex": 120,
        "initech": 100,
    }
    assert sum(Decimal(each["gross"]) for each in report["customers"].values()) == Decimal(invoices["gross"])
