"""A builder whose runs wait, between two tasks, until somebody opens a gate."""

from __future__ import annotations

from dagfactory_consul import DagBuilder, DagConfig, builder


class GatedConfig(DagConfig):
    folder: str
    """Where each task leaves a file when it has run, and where the file `open` opens the gate."""


@builder("Gated", flag="gated")
class Gated(DagBuilder[GatedConfig]):
    def tasks(self) -> None:
        from pathlib import Path

        from airflow.sdk import chain, task

        @task
        def leave(folder: str, name: str) -> None:
            Path(folder, name).touch()

        # "reschedule": nothing of the run is running while it waits, as between any two tasks
        @task.sensor(mode="reschedule", poke_interval=2, timeout=300)
        def gate(folder: str) -> bool:
            return Path(folder, "open").exists()

        folder = self.config.folder
        chain(
            leave.override(task_id="before")(folder, "before"),
            gate(folder),
            leave.override(task_id="after")(folder, "after"),
        )
