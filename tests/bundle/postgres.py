"""A Postgres of the tests' own, on loopback and a free port: several schedulers need one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import sqlalchemy

from demo import processes
from demo.consul import free_ports
from demo.wait import until
from tests import programs

NOBODY = 65534
"""By number: Postgres refuses to run as root, and this user is everywhere and owns nothing else here."""


class Postgres:
    """A server with one empty database. Used as a context; nothing of it is left behind."""

    def __init__(self) -> None:
        self._bin, self._env = programs.postgres()
        self._home = Path(tempfile.mkdtemp(prefix="postgres-"))  # its user may not be able to enter a test's folder
        self._port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """User, host, port and database, as a URL has them after its scheme."""
        return f"airflow@127.0.0.1:{self._port}/postgres"

    def connect(self) -> sqlalchemy.Engine:
        """Return an engine for looks into the database."""
        return sqlalchemy.create_engine(f"postgresql+psycopg2://{self.address}", isolation_level="AUTOCOMMIT")

    def __enter__(self) -> Self:
        data = self._home / "data"
        if os.geteuid() == 0:
            shutil.chown(self._home, NOBODY)
        self._run("initdb", f"--pgdata={data}", "--auth=trust", "--username=airflow", "--encoding=UTF8", "--no-sync")
        with (data / "postgresql.conf").open("a") as file:
            # What is in it is worth nothing after a crash, so nobody waits for the disk.
            file.write(
                f"port = {self._port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n"
            )
        self._process = processes.start(
            self._command("postgres", "-D", str(data)), home=self._home, env=self._environment, log=self._home / "log"
        )
        until(self._answers, "Postgres answers", seconds=30)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # ends connections instead of waiting for them
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                processes.stop([self._process], home=self._home, patience=0)
        shutil.rmtree(self._home, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with self.connect().connect():
                return True
        except sqlalchemy.exc.OperationalError as error:
            raise AssertionError(str(error)) from error  # not yet

    @property
    def _environment(self) -> dict[str, str]:
        return {**self._env, "PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(self._home)}

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            self._command(*words), env=self._environment, cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words[0]}: {done.returncode}\n{done.stdout}{done.stderr}"

    def _command(self, program: str, *words: str) -> list[str]:
        command = [str(self._bin / program), *words]
        if os.geteuid() != 0:
            return command
        return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", *command]
