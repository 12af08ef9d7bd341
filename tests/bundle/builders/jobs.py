"""A builder whose tasks write down with which configuration they ran, and that goes wrong where it is told to."""

from __future__ import annotations

import inspect
import os
from typing import Literal

from dagfactory_consul import DagBuilder, DagConfig, builder


class JobConfig(DagConfig):
    results: str
    """The folder where each task writes what it was built with."""
    limit: int = 1
    seconds: float = 0
    """How long each task takes."""
    gated: bool = False
    """Whether the second task waits until the pool of the tenant's name has a slot."""
    mood: Literal["good", "raising", "cycle", "exit", "endless", "killed"] = "good"


@builder("Job", flag="job", flags={"parser": "v1"})
class Job(DagBuilder[JobConfig]):
    """Two tasks, one after the other."""

    def tasks(self) -> None:
        from airflow.sdk import chain, task

        self._misbehave()

        @task
        def note(built: dict[str, object], results: str, seconds: float) -> None:
            import json
            import time
            from pathlib import Path

            from airflow.sdk import get_current_context

            began = time.time()
            time.sleep(seconds)
            context = get_current_context()
            run = Path(results, context["dag"].dag_id, context["run_id"])
            run.mkdir(parents=True, exist_ok=True)
            about = {**built, "worker": os.environ.get("SCENES_MACHINE"), "began": began}
            file = run / context["ti"].task_id
            file.with_suffix(".new").write_text(json.dumps(about))
            file.with_suffix(".new").replace(file)

        built = self.built()
        before = note.override(task_id="before")(built, self.config.results, self.config.seconds)
        pool = {"pool": self.tenant} if self.config.gated else {}
        after = note.override(task_id="after", **pool)(built, self.config.results, self.config.seconds)
        chain(before, after)
        if self.config.mood == "cycle":
            chain(after, before)

    def built(self) -> dict[str, object]:
        """Return what tells one DAG from another: made anew where a task starts, from the code and the spec there."""
        return {"limit": self.config.limit, "parser": self.flags["parser"]}

    def _misbehave(self) -> None:
        if self.config.mood == "raising":
            raise ValueError("no such region")
        if self.config.mood == "exit":
            os._exit(7)
        if self.config.mood == "killed" and any(each.filename.endswith("generated.py") for each in inspect.stack(0)):
            os._exit(9)  # in Airflow's own parse, and in no trial: as where memory is short for a moment
        while self.config.mood == "endless":
            pass
