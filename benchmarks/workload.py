"""What the benchmarks measure with: tenants' documents, builders of three tasks, and a plain loop to compare with."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import textwrap
from pathlib import Path

BUILDERS = '''
from airflow.providers.standard.operators.bash import BashOperator
from dagfactory_consul import DagBuilder, DagConfig, builder


class ReportConfig(DagConfig):
    command: str


class Report(DagBuilder[ReportConfig]):
    """A report for a client."""

    def tasks(self) -> None:
        first, second, third = (
            BashOperator(task_id=task, bash_command=f"{self.config.command} {task}")
            for task in ("fetch", "make", "send")
        )
        first >> second >> third


@builder("Daily", flag="daily")
class Daily(Report): ...


@builder("Weekly", flag="weekly")
class Weekly(Report): ...
'''

LOOP = """
import json
from datetime import datetime, timezone
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator
{imports}

with open({tenants!r}) as file:
    tenants = json.load(file)
for tenant, document in tenants.items():
    for name, config in document["dags"].items():
        dag_id = f"{{tenant}}__{{name.lower()}}"
        {skip}
        with DAG(
            dag_id,
            schedule=config["schedule"],
            start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
            catchup=False,
            description="A report for a client.",
            default_args={{"owner": tenant, "retries": 1}},
            tags=[tenant, name],
            is_paused_upon_creation=False,
        ) as dag:
            first, second, third = (
                BashOperator(task_id=task, bash_command=f"{{config['command']}} {{task}}")
                for task in ("fetch", "make", "send")
            )
            first >> second >> third
        globals()[dag_id] = dag
"""

SKIP = "if wanted and dag_id != wanted: continue"
IMPORTS = "from airflow.sdk import get_parsing_context\nwanted = get_parsing_context().dag_id"


def documents(tenants: int) -> dict[str, dict[str, object]]:
    """Make the documents of that many tenants, two DAGs each."""
    return {
        f"client-{number:05}": {
            "attributes": {"tier": ("gold", "silver")[number % 2], "region": "eu"},
            "airflow": {"retries": 1},
            "dags": {
                "Daily": {"schedule": "0 3 * * *", "command": f"report --client {number} --daily"},
                "Weekly": {"schedule": "0 4 * * 1", "command": f"report --client {number} --weekly"},
            },
        }
        for number in range(tenants)
    }


def make_dag_folder(root: Path, tenants: int, *, aware: bool = False) -> dict[str, str]:
    """Write the DAG files of both ways into `root`, and return the environment that they need.

    `aware`: the plain loop asks `get_parsing_context`, and so builds one DAG where a task starts.
    """
    content = documents(tenants)
    (root / "store" / "tenants").mkdir(parents=True)
    (root / "store" / "tenants.json").write_text(json.dumps([{"id": name, **each} for name, each in content.items()]))
    (root / "builders").mkdir()
    (root / "builders" / "report.py").write_text(BUILDERS)
    (root / "ours").mkdir()
    (root / "ours" / "dags.py").write_text(
        "# An Airflow DAG file\nfrom dagfactory_consul import load_dags\n\nload_dags(globals())\n"
    )
    (root / "loop").mkdir()
    (root / "tenants.json").write_text(json.dumps(content))
    imports, skip = (IMPORTS, SKIP) if aware else ("", "")
    text = textwrap.dedent(LOOP).format(tenants=str(root / "tenants.json"), imports=imports, skip=skip)
    (root / "loop" / "dags.py").write_text(text)
    (root / "store" / "tenants").rmdir()
    return {
        **os.environ,
        "AIRFLOW_HOME": str(root / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "600",
        "AIRFLOW__DAGFACTORY_CONSUL__STORE": str(root / "store"),
        "AIRFLOW__DAGFACTORY_CONSUL__BUILDERS": str(root / "builders"),
        "AIRFLOW__DAGFACTORY_CONSUL__TTL": "3600",
    }


PARSE = """
import sys, time
import airflow.settings, airflow.serialization.serialized_objects
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.standard.operators.bash import BashOperator
import httpx, pydantic
wall, cpu = time.perf_counter(), time.process_time()
bag = DagBag(sys.argv[1], bundle_name=None)
print(time.perf_counter() - wall, time.process_time() - cpu, len(bag.dags), bag.import_errors or "", file=sys.stderr)
assert len(bag.dags) == int(sys.argv[2]), (len(bag.dags), bag.import_errors)
"""


def parse(folder: Path, expected: int, environment: dict[str, str]) -> tuple[float, float]:
    """Parse a DAG folder in a fresh process, Airflow's own import not counted; return seconds: wall, CPU."""
    ended = subprocess.run(
        [sys.executable, "-c", PARSE, str(folder), str(expected)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    wall, cpu = ended.stderr.strip().splitlines()[-1].split()[:2]
    return float(wall), float(cpu)


def ratios(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Summarise pairs that were measured in turn: medians, and the ratio pair by pair."""
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "ours": round(statistics.median(ours), 5),
        "baseline": round(statistics.median(theirs), 5),
        "ratio": round(statistics.median(pairs), 3),
        "ratio_min": round(min(pairs), 3),
        "ratio_max": round(max(pairs), 3),
    }


def report(name: str, **figures: object) -> None:
    """Print one line of figures."""
    print(json.dumps({"benchmark": name, **figures}), flush=True)
