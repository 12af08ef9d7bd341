"""A deployment of Airflow on machines that share nothing: each has a disk of its own, and Consul and the database.

Every machine is a folder: AIRFLOW_HOME, and below it logs, bundles and what the project keeps locally. A scheduler with
the LocalExecutor is a worker too, so two schedulers are two workers that share no disk.
"""

from __future__ import annotations

import difflib
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import sqlalchemy

from demo import processes
from demo.airflow import Airflow
from demo.api import AirflowApi
from demo.wait import until

from .cluster import PREFIX, Cluster
from .postgres import Postgres

BUNDLE = "tenants"
DEPLOYMENT = "scenes"
BUILDERS = Path(__file__).parent / "builders"
SOON = 40.0
"""Seconds that a change may take to show. It takes one or two; a machine under load gets the rest."""

BEYOND_TTLS = 12.0
"""Seconds that are more than every time after which something is asked for anew."""

FRONT = "api-server"
WORKERS = ("worker-1", "worker-2")
PROCESSORS = ("processor-1", "processor-2")
_RUNS = {FRONT: "api-server", **dict.fromkeys(WORKERS, "scheduler"), **dict.fromkeys(PROCESSORS, "dag-processor")}
"""What runs on each machine."""

FAST = {
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__FILE_PARSING_SORT_MODE": "modified_time",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "10",  # by default 50: so long Airflow shows what left a shard
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "300",  # a frozen scheduler is not a dead one
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__API__WORKERS": "1",
}
"""As the documentation says that a deployment with a bundle should be set."""

HEAD = f"{PREFIX[:-1]}-runtime/{DEPLOYMENT}/head"
"""The key of what the processors have agreed on."""

_SHARED = ("SECRET_KEY", "JWT_SECRET", "EXECUTION_API_SERVER_URL", "FERNET_KEY")

_ALIVE = "select id from job where state = 'running' and latest_heartbeat > now() - interval '60 seconds'"
_VERSIONS = """
select data from serialized_dag join dag_version on dag_version.id = dag_version_id
where dag_version.dag_id = :dag_id order by version_number desc limit 2
"""


class Deployment:
    """An Airflow on several machines that reads from a Consul cluster. Used as a context, it ends all that it started.

    Args:
        folder: of its own.
        cluster: started.
        postgres: started.
        settings: more of Airflow's settings, by environment variable's name.
        bundle: more of the bundle's own arguments.
    """

    def __init__(
        self,
        folder: Path,
        cluster: Cluster,
        postgres: Postgres,
        *,
        settings: Mapping[str, str] | None = None,
        bundle: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.cluster = cluster
        self.results = folder / "results"
        self.database = postgres.connect()
        self._common = {
            **FAST,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{postgres.address}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{postgres.address}",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([self._bundle(bundle or {})]),
            "AIRFLOW__DAGFACTORY_CONSUL__STORE": cluster.url,
            "AIRFLOW__DAGFACTORY_CONSUL__PREFIX": PREFIX,
            **(settings or {}),
        }
        self.machines = {FRONT: self._machine(FRONT, {})}
        secrets = {name: text for name, text in self.machines[FRONT].env.items() if name.endswith(_SHARED)}
        self.machines |= {name: self._machine(name, secrets) for name in _RUNS if name != FRONT}

    @property
    def api(self) -> AirflowApi:
        """Airflow's API."""
        return self.machines[FRONT].api

    def start(self) -> None:
        """Make the database, start every machine, and return when all are healthy."""
        self.machines[FRONT].prepare()
        *others, last = self.machines
        for name in others:
            self.boot(name)
        # Two processors that write the bundle's row at once would be one too many for Airflow.
        until(lambda: self._ask("select name from dag_bundle"), "Airflow knows the bundle", seconds=120)
        self.boot(last)
        until(self._is_healthy, "every machine is healthy", seconds=120)

    def boot(self, name: str) -> None:
        """Start a machine. A processor has a copy of the builders' code, as it is deployed; a worker has none."""
        machine = self.machines[name]
        if name in PROCESSORS and not self.builders(name).exists():
            shutil.copytree(BUILDERS, self.builders(name), ignore=shutil.ignore_patterns("__pycache__"))
        machine.start(_RUNS[name])

    def kill(self, name: str, *, wipe: bool = False) -> None:
        """End all that runs on a machine, at once; with `wipe` its disk is lost too."""
        machine = self.machines[name]
        machine.kill(_RUNS[name])
        processes.kill(machine.home)
        if wipe:
            shutil.rmtree(machine.home)

    def heal(self, documents: Mapping[str, bytes]) -> None:
        """Mend what a test has broken and, since it failed, has left so.

        Args:
            documents: that have to be there.
        """
        self.cluster.heal(documents)
        for name, machine in self.machines.items():
            if not machine.running:
                self.boot(name)
        for name in PROCESSORS:
            for file in BUILDERS.glob("*.py"):
                if (self.builders(name) / file.name).read_text() != file.read_text():
                    self.deploy(file.name, to=[name])

    def builders(self, name: str) -> Path:
        """Return where a processor's machine has the builders' code."""
        return self.machines[name].home / "builders"

    def deploy(self, file: str, change: Callable[[str], str] = str, *, to: Iterable[str] = PROCESSORS) -> None:
        """Replace one file of the builders' code on the processors' machines by a changed form of what it is here."""
        text = change((BUILDERS / file).read_text())
        for name in to:
            target = self.builders(name) / file
            target.with_suffix(".new").write_text(text)
            target.with_suffix(".new").replace(target)

    def status(self) -> dict[str, Any]:
        """Return the status that the deployment has written; empty before there is one."""
        found = self.cluster.get(f"{PREFIX[:-1]}-runtime/{DEPLOYMENT}/status")
        return json.loads(found) if found else {}

    def head(self) -> dict[str, Any]:
        """Return what the processors have agreed on."""
        found = self.cluster.get(HEAD)
        return json.loads(found) if found else {}

    def layout(self, name: str) -> Path:
        """Return the folder that a processor's machine has laid out for Airflow."""
        return self.machines[name].home / "bundles" / BUNDLE / "dags"

    def layouts(self) -> list[Path]:
        """Return that of each processor."""
        return [self.layout(each) for each in PROCESSORS]

    def files(self, name: str) -> dict[str, str]:
        """Return the files that a processor's machine has laid out for Airflow, and the code that they name."""
        root = self.layout(name)
        found = {}
        for path in sorted(root.rglob("*.py")):
            with suppress(FileNotFoundError):  # it has gone meanwhile
                found[str(path.relative_to(root))] = path.read_text()
        of_dags = "".join(text for path, text in found.items() if not path.startswith("code/"))
        # Which former code is still there depends on the changes that a machine has skipped.
        return {path: text for path, text in found.items() if (folder := _code_of(path)) is None or folder in of_dags}

    def agree(self) -> None:
        """Wait until the processors' machines have the same files."""

        def look() -> bool:
            self.check_running()
            first, second = (self.files(name) for name in PROCESSORS)
            found = sorted(path for path in first.keys() | second.keys() if first.get(path) != second.get(path))
            assert not found, found
            return bool(first)  # two that have just begun have none

        until(look, "both processors have the same files", seconds=SOON)

    def have_listed(self) -> None:
        """Wait until each processor has looked at its bundle again: by then Airflow has listed what was laid out."""
        seen = {name: self._looks(name) for name in PROCESSORS}
        until(
            lambda: all(self._looks(name) >= seen[name] + 3 for name in PROCESSORS),
            "each processor has gone round its loop",
            seconds=SOON,
        )

    def dag_versions(self, dag_id: str) -> int:
        """Return how many versions of a DAG Airflow has."""
        return len(self._ask("select id from dag_version where dag_id = :dag_id", dag_id=dag_id))

    def last_difference(self, dag_id: str) -> str:
        """Return how the last two versions of a DAG differ, as Airflow has serialised them."""
        found = self._ask(_VERSIONS, dag_id=dag_id)
        new, old = (json.dumps(data, indent=1, sort_keys=True).splitlines() for data in (*found, {}, {})[:2])
        return "\n".join(difflib.unified_diff(old, new, lineterm="", n=1))

    def run(self, name: str, *command: str) -> str:
        """Run a command as one would on a machine, and return what it prints."""
        return self.machines[name].run(*command)

    def problem_about(self, *words: str) -> None:
        """Wait until Airflow shows a problem with these words."""
        until(lambda: self.shows(*words), f"there is a problem with {words}", seconds=SOON)

    def shows(self, *words: str) -> bool:
        """Return that Airflow shows a problem with these words; else raise AssertionError with what it shows."""
        shown = self.problems()
        assert all(word.lower() in shown.lower() for word in words), f"what is shown is {shown!r}"
        return True

    def problems(self) -> str:
        """Return what Airflow shows as import errors."""
        return "\n".join(self.api.import_errors().values())

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stop a scheduler from handing out work for a while; all tasks that start meanwhile start elsewhere."""
        process = self.machines[name].running[_RUNS[name]]
        until(lambda: self._freeze(name), f"{name} is between two transactions", seconds=20, every=0.05)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def gate(self, tenant: str, *, is_open: bool) -> None:
        """Let the second tasks of a tenant's runs go on, or not."""
        pool = {"slots": 100 if is_open else 0, "description": None, "include_deferred": False}
        if self.api._send("GET", f"/api/v2/pools/{tenant}").is_success:
            self.api._ask("PATCH", f"/api/v2/pools/{tenant}", json={**pool, "pool": tenant})
        else:
            self.api._ask("POST", "/api/v2/pools", json={**pool, "name": tenant})

    def noted(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return what each task of a run has written: with what it was built, and where it ran."""
        run = self.results / dag_id / run_id
        found = run.iterdir() if run.exists() else iter(())
        return {each.name: json.loads(each.read_text()) for each in found if not each.suffix}

    def stop(self) -> None:
        """End all that was started, without asking: nobody looks at it any more."""
        processes.kill(self.folder)
        for machine in self.machines.values():
            machine.stop()
        self.database.dispose()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def check_running(self) -> None:
        """Raise RuntimeError, with the end of its log, where a component has ended by a fault that is not Airflow's.

        One that has ended by Airflow's own is started again.
        """
        for name, machine in self.machines.items():
            try:
                machine.check_running()
            except RuntimeError as error:
                if name not in PROCESSORS or "UniqueViolation" not in str(error):
                    raise
                # Airflow's own: two processors that write the same new row. A supervisor starts the one again.
                machine.start(_RUNS[name])

    def _looks(self, name: str) -> int:
        """Return how often a processor has logged that it looks at its bundle, which it does before it lists files."""
        return self.machines[name].out(_RUNS[name]).read_text(errors="replace").count("Refreshing bundle")

    def _bundle(self, more: Mapping[str, Any]) -> dict[str, Any]:
        kwargs = {"refresh_interval": 0, "deployment": DEPLOYMENT, **more}
        return {"name": BUNDLE, "classpath": "dagfactory_consul.bundle.ConsulDagBundle", "kwargs": kwargs}

    def _machine(self, name: str, secrets: Mapping[str, str]) -> Airflow:
        home = self.folder / name
        settings = {
            **secrets,
            **self._common,
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
            "AIRFLOW__DAGFACTORY_CONSUL__STATE_DIR": str(home / "state"),
            "AIRFLOW__DAGFACTORY_CONSUL__BUILDERS": str(home / "builders"),
            # Each look at a bundle is logged: `_looks` counts them.
            "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow.dag_processing.manager=DEBUG",
            "CONSUL_HTTP_TOKEN": self.cluster.token if name in PROCESSORS else self.cluster.reading_token,
            "PGAPPNAME": name,
            "SCENES_MACHINE": name,
        }
        return Airflow(home, self.folder / "dags", settings, components=(_RUNS[name],))

    def _is_healthy(self) -> bool:
        self.check_running()
        return self.api.healthy().get("metadatabase") == "healthy" and len(self._ask(_ALIVE)) == len(_RUNS) - 1

    def _ask(self, query: str, **values: str) -> list[Any]:
        with self.database.connect() as connection:
            return [row[0] for row in connection.execute(sqlalchemy.text(query), values)]

    def _freeze(self, name: str) -> bool:
        """Stop a process, and let it go on again if it was in a transaction, whose locks others would wait for."""
        process = self.machines[name].running[_RUNS[name]]
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)  # for what it has sent to arrive
        if not self._ask(
            "select pid from pg_stat_activity where application_name = :name and state <> 'idle'", name=name
        ):
            return True
        process.send_signal(signal.SIGCONT)
        return False


def _code_of(path: str) -> str | None:
    """Return the folder of the version of the builders' code that a file belongs to; None where it is none of them."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "code" else None
