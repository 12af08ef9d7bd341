"""What a demonstration runs, together: the configuration's place and an Airflow that reads from it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from .airflow import COMPONENTS, Airflow
from .say import Say
from .source import SAMPLES, FolderOfFiles, Source

ROOT = Path(__file__).resolve().parent.parent
DAGS = ROOT / "dags"
LOCAL = "airflow.dag_processing.bundles.local.LocalDagBundle"

PROJECTS = {"name": "projects", "classpath": LOCAL, "kwargs": {"refresh_interval": 5}}
"""The DAGs that are written by hand, in the DAG folder."""
TENANTS = {
    "name": "tenants",
    "classpath": "dagfactory_consul.bundle.ConsulDagBundle",
    "kwargs": {"refresh_interval": 0},
}
"""The tenants' DAGs. What else the bundle needs to know stands in the settings."""
FOR_BUNDLE = {
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__FILE_PARSING_SORT_MODE": "modified_time",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
}
"""What makes a change arrive at once, and nothing be parsed that has not changed."""

LOADER = {"name": "tenants", "classpath": LOCAL, "kwargs": {"path": str(DAGS / "loader")}}
"""The tenants' DAGs by the plain loader."""
FOR_LOADER = {"AIRFLOW__DAGFACTORY_CONSUL__TTL": "1"}
"""Seconds: how old the configuration may be that a parse uses. Parses are one after the other."""


class Stack:
    """A source and an Airflow, in the folder of a demonstration. Used as a context, it ends all that it started.

    Args:
        folder: the demonstration's own.
        source: where the configuration lives.
        builders: folders of builders.
        settings: more of Airflow's settings, by environment variable's name.
        triggerer: also start the component that runs what operators defer.
        loader: the tenants' DAGs come by the plain loader, not by the bundle.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        *,
        builders: tuple[Path, ...] = (DAGS / "builders",),
        settings: Mapping[str, str] | None = None,
        triggerer: bool = False,
        loader: bool = False,
    ) -> None:
        self.folder = folder
        self.source = source
        self._builders = builders
        self._settings = settings or {}
        self._loader = loader
        self._components = (*COMPONENTS, "triggerer") if triggerer else COMPONENTS
        self._airflow: Airflow | None = None

    @property
    def airflow(self) -> Airflow:
        """The Airflow; there is one after `start`."""
        assert self._airflow is not None, "the stack has not been started"
        return self._airflow

    def start(self, say: Say) -> None:
        """Start all, push the samples, and return when Airflow is healthy. `stop` is due even if this raises."""
        with say.step("the configuration's place is ready") as notes:
            self.source.start()
            notes.append(self.source.about)
        bundles = [PROJECTS, LOADER if self._loader else TENANTS]
        settings = {
            **self.source.settings(),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__DAGFACTORY_CONSUL__BUILDERS": ",".join(map(str, self._builders)),
            **(FOR_LOADER if self._loader else FOR_BUNDLE),
            **self._settings,
        }
        self._airflow = Airflow(self.folder / "airflow", DAGS, settings, components=self._components)
        with say.step("the sample tenants are pushed"):
            self.push(SAMPLES)
        with say.step("Airflow's database is made"):
            self.airflow.prepare()
        with say.step("Airflow is healthy"):
            self.airflow.start()
            self.airflow.wait_healthy()

    def push(self, folder: Path) -> None:
        """Write a folder of documents, as a user does: by the command, or by copying where the place is a folder."""
        if isinstance(self.source, FolderOfFiles):
            shutil.copytree(folder, self.source.folder, dirs_exist_ok=True)
            return
        command = str(Path(sys.executable).with_name("dagfactory-consul"))
        self.airflow.run(command, "push", str(folder), env=self.source.editor)

    def stop(self) -> None:
        """End all that was started. May be called at any time, and twice."""
        try:
            if self._airflow is not None:
                self._airflow.stop()
        finally:
            self.source.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
