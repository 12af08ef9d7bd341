"""The arrangement: which DAG stands in which file. Pure.

Airflow pays for a parse by the file and by every DAG in it, whether that has changed or not. So DAGs that come or
change in numbers share files; one that changes alone moves into its tenant's own file, and the file that it leaves is
not parsed again for that. Where nothing changes nothing moves.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

ALONE = 8
"""So many tenants that change at once count as single ones."""
SHARD_DAGS = 50
"""How many DAGs a shared file is filled with, unless the limits leave too few files."""


_is_file = re.compile(r"(?:tenants/[a-z0-9][a-z0-9_-]{0,62}|shards/[0-9]{3})\.py", re.ASCII).fullmatch
"""Tenants' ids as in `models.ID_PATTERN`, whose module a task's start does not import."""


class Limits(NamedTuple):
    """How many files there may be."""

    own_files: int
    """Tenants with a file of their own."""
    shards: int
    """Files that tenants share."""


def own_file(tenant: str) -> str:
    """Return the path of a tenant's own file, below the bundle."""
    return f"tenants/{tenant}.py"


def shard(number: int) -> str:
    """Return the path of a shared file, below the bundle."""
    return f"shards/{number:03}.py"


def is_file(path: str) -> bool:
    """Say whether it is the path of a tenant's own file or of a shared one."""
    return _is_file(path) is not None


def arrange(
    previous: Mapping[str, str], tenants: Mapping[str, str], changed: Collection[str], limits: Limits
) -> dict[str, str]:
    """Say which file each DAG stands in.

    Args:
        previous: where DAGs stood before, by their ids.
        tenants: whose each DAG is; one that is not in it is gone.
        changed: the DAGs that have changed, so that they are parsed again anyway.
        limits: how many files there may be.
    """
    shards = [shard(number) for number in range(limits.shards)]
    known = set(shards)
    places = {
        dag_id: file
        for dag_id, file in previous.items()
        if dag_id in tenants and (file in known or file == own_file(tenants[dag_id]))
    }
    moving = sorted(dag_id for dag_id in tenants if dag_id in changed or dag_id not in places)
    if len({tenants[dag_id] for dag_id in moving}) <= ALONE:
        _move_out(places, tenants, moving, limits.own_files)
    else:
        _gather(places, moving, shards)
    _house(places, [dag_id for dag_id in moving if dag_id not in places], shards)
    return places


def _move_out(places: dict[str, str], tenants: Mapping[str, str], moving: Iterable[str], most: int) -> None:
    """Put each into its tenant's own file, as far as the number of those allows."""
    own = {file for dag_id, file in places.items() if file == own_file(tenants[dag_id])}
    for dag_id in moving:
        file = own_file(tenants[dag_id])
        if file in own or len(own) < most:
            places[dag_id] = file
            own.add(file)


def _gather(places: dict[str, str], moving: list[str], shards: list[str]) -> None:
    """Put together what changes together. What fills most of a shared file already stays there."""
    load, touched = Counter(places.values()), Counter(places[dag_id] for dag_id in moving if dag_id in places)
    full = {file for file in shards if load[file] and 2 * touched[file] >= load[file]}
    rest = [dag_id for dag_id in moving if places.get(dag_id) not in full]
    leaving = set(rest)
    used = {file for dag_id, file in places.items() if dag_id not in leaving}
    free = [file for file in shards if file not in used]
    most = math.ceil(len(free) / 2)  # the other half is for others that will change together
    if math.ceil(len(rest) / SHARD_DAGS) > most:
        rest = [dag_id for dag_id in rest if dag_id not in places]  # who has a place stays there
    needed = min(math.ceil(len(rest) / SHARD_DAGS), most)
    for position, dag_id in enumerate(rest if needed else ()):
        places[dag_id] = free[position * needed // len(rest)]


def _house(places: dict[str, str], homeless: list[str], shards: list[str]) -> None:
    """Put those without a place into the shared files that have the least to hold."""
    load = Counter(places.values())
    for dag_id in homeless:
        file = min(shards, key=load.__getitem__)
        places[dag_id] = file
        load[file] += 1
