"""One Airflow of its own: database, components, log-in and ports, in a folder that nothing else uses.

What `airflow standalone` starts is started here one by one, with the same commands: a component can be killed and
started again by itself, and none of them is left behind.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import processes
from .api import AirflowApi
from .consul import free_ports
from .wait import until

USER = "admin"

COMPONENTS = ("api-server", "scheduler", "dag-processor")
"""What runs DAGs. The triggerer is needed only by operators that defer."""

_FROM_OUTSIDE = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER", "LOGNAME", "KUBECONFIG")
"""All that a demonstration takes over from its surroundings: a developer's own AIRFLOW__* settings stay out."""

QUICK: dict[str, dict[str, object]] = {
    "core": {"min_serialized_dag_update_interval": 0, "parallelism": 4, "max_active_runs_per_dag": 4},
    "dag_processor": {
        "bundle_refresh_check_interval": 1,
        "min_file_process_interval": 1,
        "refresh_interval": 1,
        "stale_dag_threshold": 1,
    },
    "scheduler": {
        "parsing_cleanup_interval": 1,
        "scheduler_heartbeat_sec": 1,
        "scheduler_idle_sleep_time": 0.3,
        "job_heartbeat_sec": 2,
    },
}
"""Settings by section that make every change show within seconds. They cost CPU: nothing for a production's file."""


class Airflow:
    """A real Airflow on SQLite with the LocalExecutor, in the folder `home`.

    Args:
        home: the folder of its own, made if it is not there.
        dags: the DAG folder.
        settings: more settings, by environment variable's name.
        port: of the UI and the API; a free one if None.
        components: what to start besides the database.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        settings: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        components: Sequence[str] = COMPONENTS,
    ) -> None:
        self.home = home.resolve()
        free, self._logs_port, self._trigger_logs_port = free_ports(3)
        self.port = port or free
        self.url = f"http://127.0.0.1:{self.port}"
        self.components = components
        self.password = self._own_password()
        self.env = self._environment(dags.resolve(), settings or {})
        self.api = AirflowApi(self.url, user=USER, password=self.password)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def prepare(self, *, seconds: float = 120) -> None:
        """Make the database. Raises AssertionError, with the end of the log, if Airflow cannot."""
        log = self.home / "out" / "db-migrate.log"
        migrating = self._start("db", "migrate", log=log)
        try:
            code = migrating.wait(seconds)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            processes.stop([migrating], home=self.home, patience=0)
        assert code == 0, f"`airflow db migrate` ended with {code}:\n{tail(log)}"

    def start(self, *names: str) -> None:
        """Start the named components, or all. `wait_healthy` tells when they work.

        A component may have arguments: `dag-processor --bundle-name tenants`.
        """
        for words in names or self.components:
            name, *arguments = words.split()
            self.running[name] = self._start(name, *arguments, log=self.out(name))

    def out(self, name: str) -> Path:
        """Return the file that holds what a component prints."""
        return self.home / "out" / f"{name}.log"

    def wait_healthy(self, *, seconds: float = 120) -> None:
        """Wait until every component reports its heartbeat. Raises AssertionError if one has ended, or is late."""
        until(self.is_healthy, "Airflow is healthy", seconds=seconds)

    def is_healthy(self) -> bool:
        """Tell whether all components work. Raises RuntimeError if one has ended."""
        self.check_running()
        health = self.api.healthy()
        names = {"api-server": "metadatabase", "dag-processor": "dag_processor"}
        return all(health.get(names.get(name, name)) == "healthy" for name in self.running)

    def check_running(self) -> None:
        """Raise RuntimeError, with the end of its log, if a component has ended by itself."""
        for name, process in self.running.items():
            if process.poll() is not None:
                log = self.out(name)
                raise RuntimeError(f"Airflow's {name} ended with {process.returncode}; {log} ends:\n{tail(log)}")

    def kill(self, name: str) -> None:
        """End one component at once (SIGKILL), as a machine that runs out of memory does. What it forked lives on."""
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> int:
        """End all components and all that they forked. Returns how many had to be killed. May be called twice."""
        killed = processes.stop(list(self.running.values()), home=self.home)
        self.running.clear()
        self.api.close()
        return killed

    def open_pool(self, slots: int) -> None:
        """Let so many tasks of Airflow's default pool run at once; with 0 none starts any more.

        Written into the database, as `airflow pools set` does. The API server would write it beside its audit log, and
        on SQLite the two can block each other, and with them the calls of the tasks under way, until both give up.
        """
        with contextlib.closing(sqlite3.connect(self.home / "airflow.db", timeout=60)) as database, database:
            changed = database.execute("update slot_pool set slots = ? where pool = 'default_pool'", (slots,))
            assert changed.rowcount == 1, "Airflow has no default pool"

    def run(self, *command: str, env: Mapping[str, str] | None = None, seconds: float = 60) -> str:
        """Run another program with this Airflow's environment and `env`, and return what it prints."""
        done = subprocess.run(
            command,
            env={**self.env, **(env or {}), processes.MARK: str(self.home)},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _start(self, *words: str, log: Path) -> subprocess.Popen[bytes]:
        return processes.start([sys.executable, "-m", "airflow", *words], home=self.home, env=self.env, log=log)

    def _own_password(self) -> str:
        """Return the admin's password: made once for a folder."""
        text = self._kept("passwords.json", lambda: json.dumps({USER: secrets.token_urlsafe(9)}))
        return str(json.loads(text)[USER])

    def _fernet_key(self) -> str:
        """Return Airflow's key for connections, by which deployments sign: made once for a folder."""
        return self._kept("fernet.key", lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        """Return a file's text, made if it is not there, and readable by its owner alone."""
        file = self.home / name
        if not file.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                out.write(make())
        return file.read_text()

    def _environment(self, dags: Path, settings: Mapping[str, str]) -> dict[str, str]:
        env = {name: os.environ[name] for name in _FROM_OUTSIDE if name in os.environ}
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
        env["AIRFLOW_HOME"] = str(self.home)
        sections: dict[str, dict[str, object]] = {
            "core": {
                "dags_folder": dags,
                "load_examples": False,
                "executor": "LocalExecutor",
                "simple_auth_manager_users": f"{USER}:admin",
                "simple_auth_manager_passwords_file": self.home / "passwords.json",
                "execution_api_server_url": f"{self.url}/execution/",
                "fernet_key": self._fernet_key(),
            },
            "api": {"host": "127.0.0.1", "port": self.port, "base_url": self.url, "secret_key": secrets.token_hex(16)},
            "api_auth": {"jwt_secret": secrets.token_hex(32)},
            "dag_processor": {"dag_bundle_storage_path": self.home / "bundles"},  # the default is shared, below /tmp
            "logging": {
                "worker_log_server_port": self._logs_port,
                "trigger_log_server_port": self._trigger_logs_port,
            },
            # SQLite waits 5 s for another's lock: an answer may take longer than the 5 s of Airflow's default.
            "workers": {"execution_api_timeout": 30},
            "usage_data_collection": {"enabled": False},  # nothing here tells anybody that it runs
        }
        for section in {**sections, **QUICK}:
            for name, value in {**sections.get(section, {}), **QUICK.get(section, {})}.items():
                env[f"AIRFLOW__{section}__{name}".upper()] = str(value)
        return {**env, **settings}


def tail(file: Path, lines: int = 15) -> str:
    """Return the last lines of a log."""
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else "(no log)"
