"""What a task's start pays for its DAG: `bundle_prepare_ms` + `dag_file_parse_ms` of the worker's own log.

Real runs by a real scheduler and LocalExecutor: a DAG of the bundle with N tenants, against a local bundle with one
file that makes that one DAG and no other; in turn. In the bundle, the first task of a DAG on a worker lays it out.

    python -m benchmarks.bundle_task_start [--sqlite | --postgres] [N]
"""

from __future__ import annotations

import json
from pathlib import Path

from demo.wait import until

from .database import chosen
from .deployment import deployment
from .processor import BUNDLE, PATIENT, Processor, spread
from .workload import report

SETTINGS = {
    **BUNDLE,
    **PATIENT,
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
}
OTHERS = ("api-server", "scheduler")
EVENT = "Worker startup parse complete"


def main(tenants: int, kinds: tuple[str, ...], *, runs: int) -> None:
    """Start the runs of both in turn, one after the other."""
    for kind in kinds:
        with deployment(tenants, kind) as made:
            names = list(made.tenants)[:: max(1, tenants // runs)][:runs]
            for name in made.tenants:  # without a schedule: else the scheduler starts runs of them all
                made.tenants[name]["dags"] = {
                    each: {"schedule": None, "command": "true"} for each in ("Daily", "Weekly")
                }
                made.put(name)
            made.tenants[names[0]]["dags"] = {"Daily": {"schedule": None, "command": "true"}}  # all of the plain file
            # Each in an Airflow of its own: a worker imports the classes of all bundles that are configured.
            bundle = made.processor("bundle", {"tenants": made.tenants_bundle()}, SETTINGS, others=OTHERS)
            hand = made.processor("hand", {"hand": made.plain_bundle("hand", names[0])}, SETTINGS, others=OTHERS)
            with bundle.running(), hand.running():
                hand.airflow.wait_healthy(seconds=300)
                bundle.airflow.wait_healthy(seconds=300)
                hand.wait_for_dags(1, seconds=60)
                bundle.wait_for_dags(2 * tenants, seconds=900)
                bundle.rest(seconds=60)
                ours, theirs = [], []
                for name in names:
                    theirs.append(_run(hand, f"{names[0]}__daily"))
                    ours.append(_run(bundle, f"{name}__daily"))
            _report(ours, theirs, database=kind, tenants=tenants)


def _report(ours: list[list[float]], theirs: list[list[float]], **about: object) -> None:
    # A run's first task by itself, in both: those after it start while Airflow is still busy with the one before.
    for which, tasks in (("first", slice(1)), ("later", slice(1, None))):
        baseline = spread([ms for run in theirs for ms in run[tasks]])
        figures = spread([ms for run in ours for ms in run[tasks]])
        report("task_start_ms", way="hand-written file", tasks=which, **about, **baseline)
        ratio = round(figures["median"] / baseline["median"], 3)
        report("task_start_ms", way="bundle", tasks=which, **about, **figures, ratio=ratio)


def _run(airflow: Processor, dag_id: str) -> list[float]:
    """Run a DAG once, and return the milliseconds of its tasks, in their order."""
    api = airflow.airflow.api
    run = api.trigger(dag_id)
    until(lambda: api.run(dag_id, run)["state"] in {"success", "failed"}, f"{dag_id} ends", seconds=300, every=0.5)
    return [_logged(airflow.airflow.home / "logs", dag_id, run, task) for task in ("fetch", "make", "send")]


def _logged(logs: Path, dag_id: str, run: str, task: str) -> float:
    file = logs / f"dag_id={dag_id}" / f"run_id={run}" / f"task_id={task}" / "attempt=1.log"
    for line in file.read_text().splitlines():
        said = json.loads(line)
        if said.get("event") == EVENT:
            return float(said["bundle_prepare_ms"] + said["dag_file_parse_ms"])
    raise RuntimeError(f"{file} does not say {EVENT!r}")


if __name__ == "__main__":
    kinds, words = chosen()
    main(int(words[0]) if words else 1000, kinds, runs=20)
