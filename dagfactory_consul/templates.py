"""Templates of Airflow's in documents: refused, unless the builder's model declares the field, and then by a list.

Airflow renders each text that a builder hands to a templated field when the task starts, with all connections and
variables at hand: a text of a document there is code that a writer of documents runs on a worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .problems import printable

Path = tuple[str | int, ...]


def may_hold(text: str) -> bool:
    """Say whether a text, a document's JSON among them, may hold a template."""
    return "{{" in text or "{%" in text or "{#" in text  # what begins an expression, a statement, a comment of Jinja


def find(value: Any, path: Path = ()) -> Iterator[tuple[Path, str | None]]:
    """Yield the texts with templates in a value: where each stands, and the text; None where it is a name there."""
    if isinstance(value, str):
        if may_hold(value):
            yield path, value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if may_hold(str(name)):
                yield (*path, name), None
            yield from find(each, (*path, name))
    elif isinstance(value, list | tuple | set | frozenset):
        for position, each in enumerate(value):
            yield from find(each, (*path, position))


def explain(value: Any, start: str = "") -> str | None:
    """Say where a value that must hold no template holds one, and what to do; None if it holds none."""
    return next((refusal(place_of(start, path)) for path, _ in find(value)), None)


def place_of(start: str, path: Path) -> str:
    """Return a place in a document, for humans."""
    place = start
    for part in path:
        if isinstance(part, int):
            place += f"[{part}]"
        else:
            place += ("." if place else "") + printable(part, 100)
    return place or "the document"


def refusal(place: str, *, can_declare: bool = False) -> str:
    """Say that a template is refused, and what to do."""
    declare = " Or have the builder's model declare the field as Templated" if can_declare else ""
    return (
        f"{place} holds a template ({{{{, {{% or {{#), which Airflow would render as code when a task starts: write it "
        f"without, or keep it in the builder.{declare}"
    )
