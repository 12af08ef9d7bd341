"""A parse of N tenants x 2 DAGs x 3 tasks through `load_dags`, against a plain loop that builds the same DAGs.

`first` is the parse that reads the store and verifies every DAG; `ratio` is every later one. CPU seconds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .workload import make_dag_folder, parse, ratios, report


def main(sizes: list[int], rounds: int) -> None:
    """Measure each size, both ways in turn."""
    for tenants in sizes:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            environment = make_dag_folder(root, tenants)
            first = parse(root / "ours", 2 * tenants, environment)[1]
            ours, theirs = [], []
            for _ in range(rounds):
                theirs.append(parse(root / "loop", 2 * tenants, environment)[1])
                ours.append(parse(root / "ours", 2 * tenants, environment)[1])
            report("parse", tenants=tenants, first=round(first, 3), **ratios(ours, theirs))


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or [100, 500, 2000], rounds=5)
