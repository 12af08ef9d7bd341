"""A problem: what is wrong with one document, tenant or DAG, said so that somebody can mend it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

MAX_LETTERS = 500
"""Letters of one problem, at most: a document could make the text of its own problem as long as it likes."""

MAX_PROBLEMS = 20
"""Problems that are shown of one document, at most: nobody reads more, and each of them is compared and kept."""

NO_BUILDERS = (
    "no builders are configured: name their modules or folders by AIRFLOW__DAGFACTORY_CONSUL__BUILDERS, or among the "
    "bundle's kwargs by `builders`"
)
"""The problem of each document that names a builder, where there are no builders at all."""
INSTEAD = ". In force instead: "
"""Begins the part of a problem that says what applies as long as a flag or the defaults cannot be used."""
_NAMES = 10
"""DAGs, keys or tenants that are named where many are meant."""


class Problem(NamedTuple):
    """What is wrong, where, and whom it touches. It harms nothing beyond what it names."""

    key: str
    """The document that has to be mended, relative to the prefix (`tenants/acme`), or the builder's module."""
    message: str
    """What is wrong there, with the near miss and the next step."""
    tenant: str | None = None
    """The tenant that keeps its last good DAGs because of it; None where no single tenant is concerned."""
    dag_id: str | None = None
    """The one DAG concerned; None where it is all of the tenant's."""

    def __str__(self) -> str:
        where = self.key + (f" (DAG {self.dag_id})" if self.dag_id else "")
        return printable(f"{where}: {self.message}")


def printable(text: str, most: int = MAX_LETTERS) -> str:
    """Return a text on one line that a terminal, a log and a page show as it is: short, and without control characters.

    Keys, names and servers' answers come from anybody: an escape in them could hide lines or move a cursor.
    """
    shown = text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def told(problems: Iterable[Problem]) -> list[str]:
    """Return problems as lines. All tenants that name a builder where there are none share one line."""
    lines = []
    without: set[str] = set()
    for problem in problems:
        if problem.message == NO_BUILDERS:
            without.add(problem.key)
        else:
            lines.append(str(problem))
    if without:
        lines.insert(0, f"{NO_BUILDERS}. Named by {some(sorted(without))}")
    return lines


def some(names: Sequence[str], most: int = _NAMES) -> str:
    """Return the first names of many, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def touched_by(problems: Iterable[Problem]) -> Callable[[str | None, str], bool]:
    """Return what says of a tenant's DAG whether a problem touches it, or all of the tenant's."""
    touched = {(each.tenant, each.dag_id) for each in problems}
    return lambda tenant, dag_id: (tenant, None) in touched or (tenant, dag_id) in touched


def at_most(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Yield the problems, of each document no more than `MAX_PROBLEMS`; the rest keep all that the tenant has."""
    by_key: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_key[problem.key].append(problem)
    for key, found in by_key.items():
        ordered = sorted(found, key=str) if len(found) > MAX_PROBLEMS else found
        yield from ordered[:MAX_PROBLEMS]
        if rest := len(ordered[MAX_PROBLEMS:]):
            yield Problem(key, f"and {rest:,} more", next((each.tenant for each in found if each.tenant), None))
