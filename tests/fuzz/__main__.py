"""`make fuzz`: whatever is written into a document or a flag, each step ends soon and well, and Airflow takes the rest.

Each text is decoded, planned beside a good tenant, and each DAG of it built, verified and rendered into its file. Of
those that pass, a sample is written into a real Airflow database, with a run. One line of JSON says how it went.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.bundle.postgres import Postgres

from . import database, documents

if TYPE_CHECKING:
    from dagfactory_consul.plan import Plan
    from dagfactory_consul.registry import Registry

BUDGET = 2.0
"""Seconds of this process's CPU that one text may take in all."""
ROUND = 1_000
"""Texts of a kind that hypothesis makes up together: it remembers all of them, in gigabytes after some ten thousand."""
GOOD = b'{"dags": {"Job": {"limit": 3}}}'
BUILDERS = Path(__file__).parents[1] / "system" / "builders"


class Fuzz:
    """Counts what becomes of texts. `sample`: every so many DAGs that pass are written into the database."""

    def __init__(self, registry: Registry, sample: int) -> None:
        self.registry = registry
        self.sample = sample
        self.outcomes: Counter[str] = Counter()
        self.slowest = (0.0, b"")
        self.written = 0

    def tenant(self, text: bytes) -> None:
        """Put a text through all steps as a tenant's document."""
        self._timed(text, {"tenants/evil": text})

    def warm_up(self) -> None:
        """Have everything imported: that is no text's fault."""
        self._steps({"tenants/good": GOOD})
        self.outcomes.clear()

    def flag(self, text: bytes) -> None:
        """The same, as the definition of a flag that the builder asks for."""
        self._timed(text, {"flags/parser": text, "tenants/evil": b'{"dags": {"Job": {}}}'})

    def _timed(self, text: bytes, entries: dict[str, bytes]) -> None:
        began = time.process_time()
        passed = self._steps({**entries, "tenants/good": GOOD})
        took = time.process_time() - began
        self.slowest = max(self.slowest, (took, text))
        assert took < BUDGET, f"{took:.1f} s of CPU for {text[:300]!r}… ({len(text)} bytes)"
        self._write(passed)

    def _steps(self, entries: dict[str, bytes]) -> list[Any]:
        from dagfactory_consul.plan import plan
        from dagfactory_consul.snapshot import from_reading
        from dagfactory_consul.stores.base import Entry, Reading

        reading = Reading(tuple(Entry(key, text, 1) for key, text in entries.items()))
        planned = plan(from_reading(reading, now=0), self.registry, "production", now=1.7e9)
        assert "good__job" in planned.specs, "the neighbour has lost its DAG"
        self._check_problems(planned)
        return [dag for spec in planned.specs.values() if (dag := self._built(spec)) is not None]

    def _check_problems(self, planned: Plan) -> None:
        for problem in planned.problems:
            line = str(problem)
            assert line.isprintable(), ascii(line)
            assert len(line) <= 600, line  # 500, and where it is
        self.outcomes["with problems" if planned.problems else "without problems"] += 1

    def _built(self, spec: Any) -> Any:
        from dagfactory_consul.builders import build_dag
        from dagfactory_consul.contents import Contents
        from dagfactory_consul.errors import BuildError
        from dagfactory_consul.release import Placement
        from dagfactory_consul.verify import verify

        definition = self.registry[spec.builder]
        try:
            verify(build_dag(definition, spec))
        except BuildError:
            self.outcomes["DAGs refused"] += 1
            return None
        self.outcomes["DAGs passed"] += 1
        ast.parse(Contents("memory://fuzz", {spec.tenant: 1}, {spec.dag_id: Placement(spec)}).text(None))
        return build_dag(definition, spec)  # the first one has met the policies

    def _write(self, dags: list[Any]) -> None:
        for dag in dags:
            if dag.dag_id != "good__job" and self.outcomes["DAGs passed"] % self.sample == 0:
                self.written += 1
                database.take(dag, self.written)


def main() -> None:
    """Take the options, and end with 1 where a text does harm: hypothesis prints the smallest that does."""
    options = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    options.add_argument("--documents", type=int, default=100_000, help="how many texts in all (about 3 ms each)")
    options.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="begins the same texts again")
    options.add_argument("--sample", type=int, default=50, help="write every so many DAGs into a database")
    found = options.parse_args()
    with Postgres() as postgres, tempfile.TemporaryDirectory() as home:
        database.prepare(postgres, Path(home))
        _run(found.documents, found.seed, found.sample)


def _run(count: int, start: int, sample: int) -> None:
    from dagfactory_consul.registry import registry

    registry.load([str(BUILDERS)])
    fuzz = Fuzz(registry, sample)
    fuzz.warm_up()
    began = time.monotonic()
    for number in range(math.ceil(count / (2 * ROUND))):
        rules = settings(
            max_examples=min(ROUND, count // 2 - number * ROUND),
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        for texts, step in ((documents.tenants, fuzz.tenant), (documents.flags, fuzz.flag)):
            rules(seed(start + number)(given(texts)(step)))()
        sys.stderr.write(f"{2 * ROUND * (number + 1):,} texts in {time.monotonic() - began:.0f} s\n")
    seconds, text = fuzz.slowest
    figures = {
        "benchmark": "fuzz",
        "documents": sum(fuzz.outcomes[each] for each in ("with problems", "without problems")),
        "seed": start,
        **fuzz.outcomes,
        "written to the database": fuzz.written,
        "slowest": {"cpu_seconds": round(seconds, 3), "bytes": len(text), "text": ascii(text[:80])},
        "seconds": round(time.monotonic() - began),
    }
    json.dump(figures, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
