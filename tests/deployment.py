"""A deployment on a temporary folder: a folder store, builders, DAG files, and Airflow's own DagBag that reads them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.definitions.context import _AIRFLOW_PARSING_CONTEXT_DAG_ID

from dagfactory_consul.attempt import Attempt
from dagfactory_consul.release import Release, load
from dagfactory_consul.runtime import folder_of, release_path
from dagfactory_consul.settings import Settings
from tests.making import fresh_registry, write

JOB = '''
import os

from dagfactory_consul import DagBuilder, DagConfig, builder


class JobConfig(DagConfig):
    limit: int = 10
    mood: str = "good"


@builder("Job", flag="job", flags={"parser": "v1"})
class Job(DagBuilder[JobConfig]):
    """Does a job."""

    def tasks(self):
        from airflow.providers.standard.operators.empty import EmptyOperator

        if self.config.mood == "raising":
            raise ValueError("no such region")
        if self.config.mood == "exit":
            with open(f"{__file__}.ended", "a") as file:
                file.write(".")
            os._exit(7)
        if self.config.mood == "stuck":
            sum(range(10**12))  # no signal breaks off what no Python code does
        EmptyOperator(task_id="only", doc_md=f"{self.config.limit} {self.flags['parser']}")


@builder("Other", flags={"parser": "v1"})
class Other(Job):
    """Does another."""
'''

LOADER = "# Airflow reads files that mention it.\nfrom dagfactory_consul import load_dags\nload_dags(globals(){})\n"
PROBLEMS = "# Airflow reads files that mention it.\nfrom dagfactory_consul import load_problems\nload_problems()\n"


class Deployment:
    """Each parse and each task's start is as in a new process: nothing is left in memory from the one before."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self.set(store=folder / "config", builders=folder / "builders", state_dir=folder / "state", ttl=0)
        write(folder / "builders/job.py", JOB)
        write(folder / "dags/tenants.py", LOADER.format(""))
        write(folder / "dags/tenant_problems.py", PROBLEMS)
        (folder / "config").mkdir()

    def set(self, **settings: object) -> None:
        """Change settings, by the environment as anybody would."""
        for name, value in settings.items():
            self._monkeypatch.setenv(f"AIRFLOW__DAGFACTORY_CONSUL__{name.upper()}", str(value))

    def put(self, key: str, value: Any) -> None:
        """Write a document: bytes as they are, all else as JSON."""
        path = self.folder / "config" / (key if key.startswith("_") else f"{key}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())

    def remove(self, key: str) -> None:
        (self.folder / "config" / f"{key}.yaml").unlink()

    def unmount(self) -> None:
        """Make the store unreachable."""
        shutil.rmtree(self.folder / "config")

    def bag(self, file: str = "tenants.py") -> DagBag:
        """Read one DAG file as Airflow's processor does."""
        with fresh_registry(self.folder):
            return DagBag(dag_folder=self.folder / "dags" / file)

    def parse(self, file: str = "tenants.py") -> dict[str, DAG]:
        """Return the DAGs of one DAG file, which has no import error."""
        bag = self.bag(file)
        assert bag.import_errors == {}
        return dict(bag.dags)

    def errors(self, file: str = "tenant_problems.py") -> str:
        """Return what Airflow shows as the import error of a file that gives no DAG; empty if there is none."""
        bag = self.bag(file)
        assert bag.dags == {}
        return "\n".join(bag.import_errors.values())

    def start(self, dag_id: str, file: str = "tenants.py") -> dict[str, DAG]:
        """Read the DAG file as a task's start does, on a worker."""
        with self.starting(dag_id):
            return self.parse(file)

    @contextmanager
    def starting(self, dag_id: str) -> Iterator[None]:
        """Let Airflow say that a task of this DAG is about to start. Its own helper would leave it said."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(_AIRFLOW_PARSING_CONTEXT_DAG_ID, dag_id)
            yield

    @property
    def settings(self) -> Settings:
        return Settings.read()

    @property
    def state(self) -> Path:
        """The folder of what is known locally."""
        return folder_of(self.settings)

    @property
    def release_file(self) -> Path:
        return release_path(self.settings)

    def release(self) -> Release:
        """Return what is in force."""
        found = load(self.release_file)
        assert found is not None
        return found

    def attempt(self) -> Attempt:
        """Return the last attempt to read the store."""
        return Attempt.load(self.state)

    def later(self, seconds: float) -> None:
        """Let time pass: all that the local files say about time is so much longer ago."""
        attempt = self.attempt()
        attempt._replace(at=attempt.at - seconds).save(self.state)
        for path in self.state.iterdir():
            status = path.stat()
            os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))


def shown(dag: DAG) -> str:
    """Return what the builder has made of limit and flag."""
    return str(dag.get_task("only").doc_md)
