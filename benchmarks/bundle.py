"""The bundle in one real processor, and what it is compared with in the same run, for N tenants of two DAGs each.

Four processors, one after the other, each with an empty database: one plain file with the same DAGs, the bundle, the
plain loader with the fastest settings and with Airflow's defaults; with `--load` only the first two, and only their
first load. What is measured of them:

- `first_load`: from the processor's start until all DAGs are serialised; and the manager's memory after that
- `quiet`: CPU in a minute in which nothing changes, and what passes between the processor and Consul
- `flip`: from a write to Consul until the one changed DAG is serialised
- `mass_flip`: from turning a flag until all DAGs are that it touches, one of every fifth tenant; and the same with two

    python -m benchmarks.bundle [--sqlite | --postgres] [--load] [N …]
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from demo.wait import TooLateError

from .database import chosen
from .deployment import FAST_LOADER, FLAGS, Deployment, deployment
from .processor import DEFAULTS, Processor, moment, spread
from .relay import Relay
from .workload import report

PLAIN = "one plain file"
BUNDLE = "bundle"
FAST = "loader, fastest settings"
SLOW = "loader, Airflow's defaults"

SLICE = 10.0
"""Seconds over which CPU is averaged."""

UPDATED = "SELECT count(*) FROM serialized_dag WHERE last_updated > ?"
CHANGED = "SELECT count(*) FROM serialized_dag WHERE last_updated > ? AND CAST(data AS TEXT) LIKE ?"


@dataclass(frozen=True)
class Way:
    """One way to load the DAGs, in a running processor."""

    name: str
    made: Deployment
    processor: Processor
    relay: Relay
    patience: float
    """Seconds after which what has not come is late."""

    def report(self, benchmark: str, **figures: Any) -> None:
        """Print one line of figures."""
        about = {"way": self.name, "database": self.processor.database.kind, "tenants": len(self.made.tenants)}
        report(benchmark, **about, **figures)

    def first_load(self, started: float) -> None:
        """Wait for all DAGs; `started` is when the processor was."""
        count = 2 * len(self.made.tenants)
        self.processor.wait_for_dags(count, seconds=60 + count / 3)
        seconds = time.perf_counter() - started
        manager, children = self.processor.cpu()
        self.processor.rest(seconds=60)  # one that parses all the time never does
        cpu = {"manager": round(manager, 1), "children": round(children, 1)}
        self.report("first_load", seconds=round(seconds, 1), cpu=cpu, memory_mib=self.processor.memory())

    def quiet(self, seconds: float) -> None:
        """Measure while nothing changes."""
        before, used = self.relay.counts(), []
        for _ in range(round(seconds / SLICE)):
            with self.processor.measured() as cost:
                time.sleep(SLICE)
                slice_ = cost()
            used.append(100 * (slice_.manager + slice_.children) / slice_.wall)
        after = self.relay.counts()
        consul = {name: after[name] - before[name] for name in after}
        self.report("quiet", unit="% of a core", **spread(used), seconds=seconds, consul=consul)

    def flip(self, samples: int) -> None:
        """Change one tenant after the other."""
        dice = random.Random(1)  # noqa: S311  # which tenant, and when within the processor's tick
        found: list[float] = []
        try:
            for number in range(samples):
                time.sleep(dice.uniform(1, 3))
                # Not what another way has written before: that would be there already.
                command = f"report --{self.processor.airflow.home.name} {number} "
                found.append(self._flip(dice.choice(list(self.made.tenants)), command))
        except TooLateError:
            pass  # the others would be late as well
        self.report("flip", **spread(found), late=samples - len(found))

    def _flip(self, tenant: str, command: str) -> float:
        dag_id, started = f"{tenant}__daily", time.perf_counter()
        self.made.put(tenant, command)
        self.processor.wait(
            lambda: command in self.processor.serialised(dag_id), f"{dag_id} is changed", seconds=self.patience
        )
        return time.perf_counter() - started

    def mass_flip(self, rounds: int, flags: Sequence[str]) -> None:
        """Turn flags for the tenants in the wave, each of which shapes one of their DAGs."""
        count = len(flags) * len(self.made.wave)
        first: list[float] = []
        found: list[float] = []
        try:
            for number in range(rounds):
                self.processor.rest(seconds=20)
                since, started = moment(time.time(), self.processor.database), time.perf_counter()
                value = f"{len(flags)}-{number}"
                self.made.put_format(value, flags)
                for dags, seconds in ((1, first), (count, found)):
                    self._wait_for(dags, since, f"%--format {value} %")
                    seconds.append(time.perf_counter() - started)
        except TooLateError:
            pass  # the others would be late as well
        touched = {"touched_tenants": len(self.made.wave), "touched_dags": count}
        self.report("mass_flip", **touched, **spread(found), late=rounds - len(found), first_dag=spread(first))

    def _wait_for(self, count: int, since: object, value: str) -> None:
        def look() -> bool:
            # What costs the database more, on the cores that Airflow works on, is asked at the end alone.
            questions = ((UPDATED, since), (CHANGED, since, value))
            return all(self.processor.database.rows(*each)[0][0] >= count for each in questions)

        self.processor.wait(look, f"{count} DAGs are changed", seconds=self.patience, every=0.05)


def main(
    sizes: list[int], kinds: tuple[str, ...], *, only_load: bool, seconds: float, samples: int, rounds: int, few: int
) -> None:
    """Measure all of it.

    Args:
        sizes: how many tenants.
        kinds: of databases.
        only_load: nothing but the first load, of the bundle and of one plain file.
        seconds: of quiet.
        samples: flips of one tenant in the bundle.
        rounds: flips of the wave in the bundle.
        few: of both, in the loader, which takes long for each.
    """
    for kind in kinds:
        for tenants in sizes:
            with deployment(tenants, kind) as made, Relay(made.agent.port) as relay:
                processors = {
                    PLAIN: made.plain("plain"),
                    BUNDLE: made.bundle("bundle", url=f"consul://127.0.0.1:{relay.port}"),
                    FAST: made.loader("fast", FAST_LOADER),
                    SLOW: made.loader("slow", DEFAULTS),
                }
                for name, processor in processors.items():
                    if only_load and name not in (PLAIN, BUNDLE):
                        continue
                    way = Way(name, made, processor, relay, patience=60 + tenants / 5)
                    samples_ = samples if name == BUNDLE else few
                    _measure(way, only_load=only_load, seconds=seconds, samples=samples_, rounds=rounds)


def _measure(way: Way, *, only_load: bool, seconds: float, samples: int, rounds: int) -> None:
    way.processor.prepare()
    started = time.perf_counter()
    with way.processor.running():
        try:
            way.first_load(started)
        except TooLateError:
            way.report("first_load", late=True)
            return
        if only_load:
            return
        if way.name != FAST:
            way.quiet(seconds)
        if way.name != PLAIN:
            way.flip(samples)
        if way.name == BUNDLE:
            way.mass_flip(rounds, FLAGS[:1])
            way.mass_flip(rounds, FLAGS)


if __name__ == "__main__":
    databases, words = chosen()
    only_load = "--load" in sys.argv
    sizes = [int(each) for each in words] or ([10, 5000] if only_load else [100, 1000])
    main(sizes, databases, only_load=only_load, seconds=60, samples=30, rounds=5, few=3)
