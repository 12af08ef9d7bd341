"""Random changes, while runs start all the time: none of them may be stranded, fail, or mix what was never in force.

`python -m tests.bundle.flips [--flips 200] [--minutes 20] [--seed N]` prints a summary and ends with 1 if something was
wrong.
"""

from __future__ import annotations

import argparse
import operator
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from demo.consul import find_consul
from demo.wait import until

from .cluster import Cluster
from .machines import PROCESSORS, Deployment
from .postgres import Postgres
from .tenant import Tenant

TENANTS = 8
LATE = 75.0
"""Seconds after which what a run began with must have been replaced in Airflow too. It takes a second or two, but 30
more where the processor that has published a change is lost before Airflow has seen it: so long the other one waits."""


@dataclass
class Flight:
    """One tenant with all that was ever in force for it, and its runs."""

    tenant: Tenant
    written: list[tuple[float, tuple[int, str] | None]] = field(default_factory=list)
    """When Consul said what: limit and parser, None while the tenant was off or deleted."""
    runs: list[str] = field(default_factory=list)

    def told(self, now: float, said: tuple[int, str] | None) -> None:
        """Note what Consul says from now on."""
        if not self.written or self.written[-1][1] != said:
            self.written.append((now, said))

    def age(self, began: float, built: tuple[int, str]) -> float | None:
        """Return how long ago it was replaced what a run was built with, when that began; None: never in force."""
        ends = [
            self.written[index + 1][0] if index + 1 < len(self.written) else began
            for index, (_, said) in enumerate(self.written)
            if said == built
        ]
        starts = [since for since, said in self.written if said == built]
        ages = [max(0.0, began - end) for start, end in zip(starts, ends, strict=True) if start <= began]
        return min(ages, default=None)


class Flips:
    """Changes what the tenants have at random, and starts runs meanwhile.

    Args:
        deployment: where the tenants are to be.
        seed: of all that is random.
        kills: how many times a processor's machine is lost in between.
    """

    def __init__(self, deployment: Deployment, *, seed: int, kills: int) -> None:
        self.deployment = deployment
        self.random = random.Random(seed)  # noqa: S311  # nothing secret
        self.kills = kills
        self.flights = [Flight(Tenant(deployment, f"flight-{number}")) for number in range(TENANTS)]
        self.done: Counter[str] = Counter()
        self.refused = 0
        self._limits = iter(range(1, 1_000_000))
        self._off: set[str] = set()
        self._parsers = dict.fromkeys((each.tenant.name for each in self.flights), "v1")
        self._state: dict[str, int | None] = {}

    def fly(self, flips: int, seconds: float, *, runs: int) -> list[str]:
        """Make the changes and start the runs, wait for all that began, and return what was wrong."""
        for flight in self.flights:
            self._write(flight)
        until(lambda: not any(flight.tenant.is_gone() for flight in self.flights), "all are there", seconds=60)
        timetable = [(seconds * number / flips, self._change) for number in range(flips)]
        timetable += [(seconds * (number + 0.5) / runs, self._start_a_run) for number in range(runs)]
        timetable += [(seconds * (number + 0.5) / self.kills, self._lose_a_processor) for number in range(self.kills)]
        began = time.monotonic()
        for at, act in sorted(timetable, key=operator.itemgetter(0)):
            time.sleep(max(0.0, began + at - time.monotonic()))
            act()
        return self._judge()  # with all as it is: a DAG that came back would take up runs that were stranded

    def clean_up(self) -> None:
        """Remove all that was written, and wait until its DAGs are gone."""
        for flight in self.flights:
            flight.tenant.disable()
        for flight in self.flights:
            until(flight.tenant.is_gone, f"{flight.tenant.dag_id} is gone", seconds=60)
            flight.tenant.delete()
        for name in ("flags/job", "flags/parser"):
            self.deployment.cluster.delete(name)

    def summary(self) -> str:
        """Return what was done, in a few lines."""
        runs = sum(len(each.runs) for each in self.flights)
        changes = ", ".join(f"{count} {what}" for what, count in sorted(self.done.items()))
        ages = sorted(self.ages)
        middle, most = (ages[len(ages) // 2], ages[-1]) if ages else (0.0, 0.0)
        return (
            f"{sum(self.done.values())} changes ({changes}); {runs} runs, {self.refused} not started since the DAG was "
            f"off\nruns began with what had been replaced for {middle:.2f} s (median), {most:.2f} s at most\n"
            f"ends: {', '.join(f'{count} {state}' for state, count in sorted(self.ends.items()))}; "
            f"on {', '.join(f'{worker} {count}' for worker, count in sorted(self.workers.items()))} tasks"
        )

    def _change(self) -> None:
        flight = self.random.choice(self.flights)
        changes: list[tuple[str, Callable[[Flight], None], int]] = [
            ("settings", self._write, 5),
            ("flag off or on", self._switch, 3),
            ("flag values", self._vary, 2),
            ("deletions", self._delete, 1),
            ("touching all", self._write_all, 1),
        ]
        what, change, _ = self.random.choices(changes, [weight for *_, weight in changes])[0]
        change(flight)
        self.done[what] += 1

    def _write(self, flight: Flight) -> None:
        limit = next(self._limits)
        flight.tenant.write(limit=limit, seconds=round(self.random.uniform(0, 2), 1))
        self._state[flight.tenant.name] = limit
        self._note(flight)

    def _write_all(self, _: Flight) -> None:
        for each in self.flights:
            self._write(each)

    def _delete(self, flight: Flight) -> None:
        flight.tenant.delete()
        self._state[flight.tenant.name] = None
        self._note(flight)

    def _switch(self, flight: Flight) -> None:
        self._off ^= {flight.tenant.name}
        self._put_flag()
        self._note(flight)

    def _put_flag(self) -> None:
        self._put("job", {"on": True, "off": False}, dict.fromkeys(self._off, "off"), "on")

    def _vary(self, flight: Flight) -> None:
        name = flight.tenant.name
        self._parsers[name] = "v2" if self._parsers[name] == "v1" else "v1"
        self._put("parser", {"v1": "v1", "v2": "v2"}, self._parsers, "v1")
        self._note(flight)

    def _put(self, name: str, variants: dict[str, Any], of: dict[str, str], default: str) -> None:
        rule: Any = default
        for tenant, variant in of.items():
            rule = {"if": [{"==": [{"var": "tenant"}, tenant]}, variant, rule]}
        document = {"state": "ENABLED", "variants": variants, "defaultVariant": default}
        self.deployment.cluster.put(f"flags/{name}", {**document, **({"targeting": rule} if of else {})})

    def _note(self, flight: Flight) -> None:
        name = flight.tenant.name
        limit = self._state[name]
        is_off = limit is None or name in self._off
        flight.told(time.time(), None if is_off or limit is None else (limit, self._parsers[name]))

    def _start_a_run(self) -> None:
        on = [flight for flight in self.flights if flight.written[-1][1] is not None]
        flight = self.random.choice(on or self.flights)
        try:
            self.deployment.api.trigger(flight.tenant.dag_id)
        except AssertionError as error:
            if "404" in str(error) or "400" in str(error):
                self.refused += 1
            elif "does not answer" not in str(error):  # what it does all the same is found in the end
                raise

    def _lose_a_processor(self) -> None:
        name = self.random.choice(PROCESSORS)
        self.deployment.kill(name, wipe=True)
        self.deployment.boot(name)
        self.done["lost processors"] += 1

    def _judge(self) -> list[str]:
        wrong: list[str] = []
        self.ages: list[float] = []
        self.ends: Counter[str] = Counter()
        self.workers: Counter[str] = Counter()
        for flight in self.flights:
            flight.runs = [str(run["dag_run_id"]) for run in self.deployment.api.runs(flight.tenant.dag_id)]
            for run in flight.runs:
                wrong += self._judge_run(flight, run)
        return wrong

    def _judge_run(self, flight: Flight, run: str) -> list[str]:
        tenant = flight.tenant
        try:
            until(lambda: self._end(tenant, run), f"{run} has ended", seconds=120)
        except AssertionError as error:
            self.ends["stranded"] += 1
            return [f"{tenant.dag_id} {run} is stranded: {error}; {tenant.states(run)}"]
        end = self._end(tenant, run)
        self.ends[end] += 1
        if end != "success":
            return [f"{tenant.dag_id} {run} ended with {end}: {tenant.states(run)}"]
        noted = self.deployment.noted(tenant.dag_id, run)
        self.workers.update(each["worker"] for each in noted.values())
        built = {(each["limit"], each["parser"]) for each in noted.values()}
        if len(built) != 1 or len(noted) != 2:
            return [f"{tenant.dag_id} {run} ran with more than one configuration: {noted}"]
        asked = datetime.fromisoformat(str(self.deployment.api.run(tenant.dag_id, run)["queued_at"])).timestamp()
        age = flight.age(asked, *built)
        if age is None:
            return [f"{tenant.dag_id} {run} ran with what was never in force: {built}"]
        self.ages.append(age)
        return [f"{tenant.dag_id} {run} began with what had been replaced for {age:.1f} s"] if age > LATE else []

    def _end(self, tenant: Tenant, run: str) -> str:
        state = str(self.deployment.api.run(tenant.dag_id, run)["state"])
        return state if state in {"success", "failed"} else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bundle.flips", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--kills", type=int, default=4, help="how often a processor and its disk are lost")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flips-") as name:
        folder = Path(name)
        with (
            Postgres() as postgres,
            Cluster(folder / "cluster", find_consul()) as cluster,
            Deployment(folder / "deployment", cluster, postgres, bundle={"own_files": 4, "shards": 2}) as deployment,
        ):
            flips = Flips(deployment, seed=options.seed, kills=options.kills)
            wrong = flips.fly(options.flips, options.minutes * 60, runs=options.runs)
            deployment.check_running()
    sys.stdout.write("\n".join([f"seed {options.seed}: {flips.summary()}", f"{len(wrong)} wrong", *wrong, ""]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
