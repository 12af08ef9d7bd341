"""Runs one step on the command line: what a pod does, and handy for a try, in the folder `dags`.

python -m pipelines messages fetch --owner acme --name try --run-id 1 --options '{"customers": ["acme"]}'
"""

from __future__ import annotations

import argparse
import json
import sys

from pipelines.steps import PIPELINES, STEPS, run_step


def main(argv: list[str] | None = None) -> int:
    """Run the step that the arguments name and print its summary as JSON."""
    parser = argparse.ArgumentParser(prog="python -m pipelines", description="Run one step of a pipeline.")
    parser.add_argument("pipeline", choices=PIPELINES)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--owner", required=True, help="the tenant or the project")
    parser.add_argument("--name", required=True, help="of the DAG or the task group")
    parser.add_argument("--run-id", required=True, help="the same one again writes the same files")
    parser.add_argument("--output-dir", help="default: $DAGFACTORY_EXAMPLE_OUTPUT, else $AIRFLOW_HOME/results")
    parser.add_argument("--options", type=json.loads, default={}, help="the pipeline's options, as JSON")
    summary = run_step(**vars(parser.parse_args(argv)))
    sys.stdout.write(json.dumps(summary) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
