"""A task's start: the DAG file parsed for one DAG of N tenants. Wall seconds.

Against the same with few tenants, and against a plain loop that asks `get_parsing_context`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .workload import make_dag_folder, parse, ratios, report


def main(few: int, many: int, rounds: int) -> None:
    """Measure all three in turn."""
    with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
        roots = {few: Path(small), many: Path(large)}
        environments = {size: make_dag_folder(root, size, aware=True) for size, root in roots.items()}
        for size, root in roots.items():
            parse(root / "ours", 2 * size, environments[size])  # what a processor has done before any task starts
            environments[size]["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = f"client-{size // 2:05}__daily"
        figures: dict[str, list[float]] = {"few": [], "many": [], "loop": []}
        for _ in range(rounds):
            figures["few"].append(parse(roots[few] / "ours", 1, environments[few])[0])
            figures["many"].append(parse(roots[many] / "ours", 1, environments[many])[0])
            figures["loop"].append(parse(roots[many] / "loop", 1, environments[many])[0])
        report("task_start", against=f"{few} tenants", tenants=many, **ratios(figures["many"], figures["few"]))
        report("task_start", against="loop", tenants=many, **ratios(figures["many"], figures["loop"]))


if __name__ == "__main__":
    main(10, int(sys.argv[1]) if len(sys.argv) > 1 else 2000, rounds=9)
