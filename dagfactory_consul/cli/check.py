"""The check of documents before they are written: the problems that they have without regard to builders."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..problems import INSTEAD, NO_BUILDERS, told
from .terminal import fail

if TYPE_CHECKING:
    from ..settings import Settings
    from ..stores.base import Entry

_NOTHING = "Nothing was written; --force writes it all the same"


def is_document(key: str) -> bool:
    """Say whether a key is part of the layout."""
    from ..snapshot import LIST
    from ..stores.base import FOLDERS, READY

    folder, slash, _ = key.partition("/")
    return (bool(slash) and folder in FOLDERS) or key in (LIST, "defaults", READY)


def refuse_problems(entries: Iterable[Entry], settings: Settings, *, force: bool) -> None:
    """Refuse what cannot be decoded (DocumentError); unless forced, also what has a problem."""
    from ..documents import decode
    from ..stores.base import READY

    found = list(entries)
    for entry in found:
        if entry.key != READY:
            decode(entry.key, entry.value)
    if not force and (lines := _problems(found, settings)):
        told_all = "\n".join(f"problem: {line}" for line in lines)
        one = lines[0] + ("" if lines[0].endswith("?") else ".")
        fail(f"{one} {_NOTHING}" if len(lines) == 1 else f"{len(lines):,} problems. {_NOTHING}\n{told_all}")


def _problems(entries: list[Entry], settings: Settings) -> list[str]:
    """Return what is wrong with documents, as lines. Builders and what the defaults allow are for `plan` to check."""
    from ..checks import explain_invalid
    from ..plan import plan
    from ..problems import Problem
    from ..registry import Registry
    from ..snapshot import from_reading
    from ..stores.base import Reading
    from ..tenants import Defaults

    rest = tuple(entry for entry in entries if entry.key != "defaults")
    limit = settings.max_document_bytes
    read = from_reading(Reading(rest), now=0.0, largest=limit)
    problems = plan(read, Registry(), settings.environment, max_dags=settings.max_dags).problems
    # What applies instead is about what is deployed, and these documents are not even written.
    found = [
        each._replace(message=each.message.partition(INSTEAD)[0]) for each in problems if each.message != NO_BUILDERS
    ]
    # Not by the plan: without builders it knows no field that may hold a template.
    defaults = tuple(entry for entry in entries if entry.key == "defaults")
    documents = from_reading(Reading(defaults), now=0.0, largest=limit).values()
    reasons = {each.key: each.malformed or explain_invalid(each, Defaults) for each in documents}
    return told([*found, *(Problem(key, reason) for key, reason in reasons.items() if reason)])
