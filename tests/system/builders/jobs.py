"""Builders for documents that mean harm: one that is careful, and one that hands all that it is told to an operator."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field

from dagfactory_consul import DagBuilder, DagConfig, builder


class JobConfig(DagConfig):
    limit: int = 1
    note: str = ""
    mood: Literal["good", "slow", "endless", "exit", "greedy"] = "good"


@builder("Job", flag="job", flags={"parser": "v1"})
class Job(DagBuilder[JobConfig]):
    """One task that succeeds."""

    def tasks(self) -> None:
        from airflow.sdk import task

        _behave(self.config.mood)

        @task(task_id="only", doc_md=self.config.note or None)
        def only(limit: int, parser: str) -> str:
            return f"{limit} {parser}"

        only(self.config.limit, self.flags["parser"])


class LooseConfig(DagConfig):
    task_id: str = "only"
    operator: dict[str, Any] = Field(default_factory=dict)


@builder("Loose")
class Loose(DagBuilder[LooseConfig]):
    """One operator that takes whatever a document says, as builders do that check nothing themselves."""

    def tasks(self) -> None:
        from airflow.providers.standard.operators.empty import EmptyOperator

        EmptyOperator(task_id=self.config.task_id, **self.config.operator)


def _behave(mood: str) -> None:
    if mood == "exit":
        os._exit(7)
    held = []
    while mood in ("endless", "greedy"):
        if mood == "greedy":
            held.append(b"x" * 2**26)
    if mood == "slow":
        _ = sum(range(10**10))
