"""The papers: the files by which a trial tells its parent what it has found. None of them outlives the job."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .keyed_file import dumps
from .note import Thing
from .problems import Problem
from .release import Placement, Release
from .replan import Outcome
from .snapshot import Document
from .spec import DagSpec

VERIFIED, HUNG = "verified", "hung"

Modules = Mapping[str, tuple[str, ...]]


class Result(NamedTuple):
    """What a preflight has found."""

    release: Release
    """What can be put in force. Placements that have not changed are those that the job had."""
    modules: Modules
    """By builder: the modules of Airflow that its own module imports, anywhere in it. All of them can be imported."""
    outcome: Outcome | None = None
    """What the next plan need not find out again."""
    is_whole: bool = True
    """Whether there was time for all of it: else the next job goes on."""

    @property
    def unverified(self) -> tuple[str, ...]:
        """The DAGs in force that cannot be built with this code: they stay as they were, with the code of then."""
        code = self.release.fingerprint
        return tuple(dag_id for dag_id, each in self.release.dags.items() if each.shown and each.checked != code)


class Papers:
    """The files in one folder, which is made, for this user alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = folder / "journal"
        self._result = folder / "result.json"

    def clear(self) -> None:
        """Make the folder ready for a trial."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._journal.unlink(missing_ok=True)
        self._result.unlink(missing_ok=True)

    def note_down(self, outcome: str, thing: Thing, reason: str = "") -> None:
        """Write a line into the journal, where it stands whatever becomes of this process.

        The file is opened each time: a builder may close what it did not open. It only saves work: where it cannot be
        written, that is done again.
        """
        with contextlib.suppress(OSError), self._journal.open("a") as file:
            file.write(dumps([outcome, thing, reason]) + "\n")

    def noted(self) -> Iterator[tuple[str, Thing, str]]:
        """Yield the journal's lines."""
        with contextlib.suppress(FileNotFoundError):
            for line in self._journal.read_text().splitlines():
                with contextlib.suppress(ValueError):  # the last line of a process that was killed
                    outcome, thing, reason = json.loads(line)
                    yield outcome, tuple(thing), reason

    def write(self, result: Result, before: Mapping[str, Placement]) -> None:
        """Write what differs from what is in force: the parent has the rest."""
        release = result.release
        changed = [_to_json(each) for dag_id, each in release.dags.items() if before.get(dag_id) != each]
        content = {
            "changed": changed,
            "gone": [dag_id for dag_id in before if dag_id not in release.dags],
            "problems": release.problems,
            "shared": [[each.key, each.value, each.index] for each in (release.shared or {}).values()],
            "snapshot": release.snapshot,
            "fingerprint": release.fingerprint,
            "modules": result.modules,
            "is_whole": result.is_whole,
            "outcome": [result.outcome.problems, sorted(result.outcome.again)] if result.outcome else None,
        }
        new = self._result.with_suffix(".new")
        new.write_text(json.dumps(content))
        new.replace(self._result)  # it is there as a whole, or not at all

    def read(self, before: Mapping[str, Placement]) -> Result | None:
        """Return what `write` has written, put together with what is in force; None if there is nothing."""
        try:
            content: dict[str, Any] = json.loads(self._result.read_text())
        except FileNotFoundError:
            return None
        changed = map(_from_json, content["changed"])
        dags = {**before, **{placed.spec.dag_id: placed for placed in changed}}
        for dag_id in content["gone"]:
            del dags[dag_id]
        release = Release(
            {dag_id: dags[dag_id] for dag_id in sorted(dags)},
            tuple(Problem(*each) for each in content["problems"]),
            {key: Document(key, value, index) for key, value, index in content["shared"]},
            content["snapshot"],
            content["fingerprint"],
        )
        outcome = _outcome(*content["outcome"]) if content["outcome"] else None
        modules = {name: tuple(each) for name, each in content["modules"].items()}
        return Result(release, modules, outcome, content["is_whole"])


def _outcome(problems: list[list[Any]], again: list[str]) -> Outcome:
    return Outcome(tuple(Problem(*each) for each in problems), frozenset(again))


def _to_json(placed: Placement) -> list[Any]:
    return [placed.spec.to_json(), *placed[1:]]


def _from_json(content: list[Any]) -> Placement:
    return Placement(DagSpec.from_json(content[0]), *content[1:])
