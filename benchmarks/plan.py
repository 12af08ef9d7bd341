"""The plan of 10,000 tenants x 2 DAGs, against `json.loads` of the same documents. CPU seconds, in one process."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from dagfactory_consul.plan import plan
from dagfactory_consul.registry import Registry
from dagfactory_consul.registry import registry as registered
from dagfactory_consul.snapshot import from_reading
from dagfactory_consul.stores.base import Entry, Reading

from .workload import documents, make_dag_folder, ratios, report


def main(tenants: int, rounds: int) -> None:
    """Measure both in turn."""
    texts = {f"tenants/{name}": json.dumps(each).encode() for name, each in documents(tenants).items()}
    snapshot = from_reading(Reading(tuple(Entry(key, text, 1) for key, text in texts.items())), now=0)
    registry = _builders()
    ours, theirs = [], []
    for _ in range(rounds):
        started = time.process_time()
        for text in texts.values():
            json.loads(text)
        theirs.append(time.process_time() - started)
        started = time.process_time()
        found = plan(snapshot, registry, "production")
        hashes = {spec.hash for spec in found.specs.values()}
        ours.append(time.process_time() - started)
        if len(hashes) != 2 * tenants:
            raise SystemExit(f"{len(hashes)} DAGs, and {found.problems[:3]}")
    report("plan", tenants=tenants, **ratios(ours, theirs))


def _builders() -> Registry:
    with tempfile.TemporaryDirectory() as folder:
        make_dag_folder(Path(folder), 1)
        registered.load([f"{folder}/builders"])
    return registered


if __name__ == "__main__":
    main(10_000, rounds=5)
