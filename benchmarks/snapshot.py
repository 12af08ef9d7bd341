"""Reading the snapshot of 1,000 tenants in a fresh process, against `json.load` of the same bytes. CPU seconds.

Neither counts the interpreter's start: both processes time only what they read, the imports for it included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dagfactory_consul import snapshot
from dagfactory_consul.stores.base import Entry, Reading

from .workload import documents, ratios, report

OURS = """
import sys, time, json, pathlib, dataclasses, logging
start = time.process_time()
from dagfactory_consul import snapshot
imported = time.process_time()
found = snapshot.load(pathlib.Path(sys.argv[1])).documents
print(time.process_time() - imported, imported - start)
"""
BASELINE = """
import sys, time, json
start = time.process_time()
with open(sys.argv[1]) as file:
    file.readline(), file.readline()
    found = json.load(file)
print(time.process_time() - start, 0)
"""


def main(tenants: int, rounds: int) -> None:
    """Measure both in turn."""
    entries = [Entry(f"tenants/{name}", json.dumps(each).encode(), 1) for name, each in documents(tenants).items()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot"
        snapshot.save(snapshot.from_reading(Reading(tuple(entries)), now=time.time()), path)
        ours, theirs, imports = [], [], []
        for _ in range(rounds):
            theirs.append(_measure(BASELINE, path)[0])
            read, imported = _measure(OURS, path)
            ours.append(read)
            imports.append(imported)
        size = path.stat().st_size
        report("snapshot", tenants=tenants, bytes=size, **ratios(ours, theirs), imports=round(min(imports), 5))


def _measure(code: str, path: Path) -> tuple[float, float]:
    ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    read, imported = ended.stdout.split()
    return float(read), float(imported)


if __name__ == "__main__":
    main(1000, rounds=15)
