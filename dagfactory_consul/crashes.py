"""The crashes: for which tenants a builder has crashed or hung, and whether the builder or a tenant is to blame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

CRASHES = 3
"""DAGs of one tenant after which that tenant's others are not tried, and tenants after which a builder gets less time:
a few whose configurations hang must not hold up the changes of all others."""
BROKEN = 10
"""Tenants after which a builder that has built nothing is not tried for anybody: its code is at fault."""
SHARE = 5
"""A builder that hangs for some gets this part of its time for the others. Most take a hundredth of it."""


class Crashes:
    """What is known of the builders, with one version of their code.

    Args:
        good: the builders that have built a DAG with this code.
    """

    def __init__(self, good: Iterable[str]) -> None:
        self._good = set(good)
        self._found: dict[str, list[tuple[str | None, str]]] = defaultdict(list)

    def succeeded(self, builder: str) -> None:
        """Note that a builder has built a DAG."""
        self._good.add(builder)

    def add(self, builder: str, tenant: str | None, dag_id: str) -> None:
        """Note that a builder has crashed or hung."""
        self._found[builder].append((tenant, dag_id))

    def why_not_tried(self, builder: str, tenant: str | None) -> list[str]:
        """Return the DAGs for whose sake a builder is not tried for a tenant; none where it is.

        A configuration may be all that is wrong, so one tenant's crashes count for that tenant alone.
        """
        found = self._found[builder]
        if builder not in self._good and len(_tenants(found)) >= BROKEN:
            return [dag_id for _, dag_id in found]
        own = [dag_id for each, dag_id in found if each == tenant]
        return own if len(own) >= CRASHES else []

    def limit(self, builder: str, seconds: float) -> float:
        """Return the seconds that a builder may take for one DAG, of those that it may take in general."""
        return seconds / SHARE if len(_tenants(self._found[builder])) >= CRASHES else seconds


def _tenants(found: Iterable[tuple[str | None, str]]) -> set[str | None]:
    return {tenant for tenant, _ in found}
