from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any

from dagfactory_consul.plan import plan
from tests.making import definition, registry_of, snapshot_of

CALLS = 50
"""Calls of this package's functions that a plan makes for a tenant with one DAG, at most: 41 when this was written."""


def calls_of_a_plan(tenants: int) -> Counter[str]:
    """Return how often a plan of that many plain tenants calls each of the package's functions, by module."""
    document = {"attributes": {"tier": "gold"}, "airflow": {"retries": 1}, "dags": {"Job": {"limit": 3}}}
    snapshot = snapshot_of({f"tenants/t{number}": document for number in range(tenants)})
    registry = registry_of(definition("Job", flags={"shape": "plain"}))
    plan(snapshot, registry, "production")  # reads the lines, and builds the model, once
    counted: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (module := str(frame.f_globals.get("__name__"))).startswith("dagfactory_consul."):
            counted[module.removeprefix("dagfactory_consul.")] += 1

    sys.setprofile(count)
    try:
        plan(snapshot, registry, "production")
    finally:
        sys.setprofile(None)
    return counted


def test_a_plain_tenant_costs_a_plan_few_calls() -> None:
    """Checks of what a document may not hold ask first whether there is anything to look at."""
    few, many = calls_of_a_plan(10), calls_of_a_plan(110)
    assert (many.total() - few.total()) / 100 <= CALLS
    assert many["sensitive"] == many["references"] == many["fields"] == 0
