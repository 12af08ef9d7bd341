"""The metadata databases that the benchmarks run Airflow on: SQLite as it comes, and a Postgres of its own.

Both are watched by reading alone: SQLite in its WAL mode, which Airflow sets, and Postgres let a reader disturb nobody.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg2  # type: ignore[import-untyped]

from demo.consul import free_ports
from demo.wait import until
from tests import programs

KINDS = ("sqlite", "postgres")

_POSTGRES_USER = 65534
"""`nobody`, by number: Postgres refuses to run as root."""


def chosen() -> tuple[tuple[str, ...], list[str]]:
    """Return which databases the command line names (`--sqlite`, `--postgres`; else both), and its other words."""
    words = sys.argv[1:]
    named = tuple(kind for kind in KINDS if f"--{kind}" in words)
    return named or KINDS, [word for word in words if not word.startswith("--")]


class Database(ABC):
    """A metadata database: `url` is what Airflow is told, `rows` what is read in it."""

    kind: str
    url: str

    @abstractmethod
    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one query, with `?` for each value, outside any transaction."""

    @abstractmethod
    def changes(self) -> str:
        """Return what differs when somebody has written since it was asked last; costs next to nothing."""

    @abstractmethod
    def close(self) -> None:
        """End the connection."""


class Sqlite(Database):
    """The file `airflow.db` in a folder."""

    kind = "sqlite"

    def __init__(self, home: Path) -> None:
        self._file = home.resolve() / "airflow.db"
        self.url = f"sqlite:///{self._file}"
        self._connection: sqlite3.Connection | None = None

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connected().execute(query, values).fetchall()

    def changes(self) -> str:
        (number,) = self._connected().execute("PRAGMA data_version").fetchone()
        return str(number)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        """Connect at the first question: Airflow makes the file."""
        if self._connection is None:
            uri = f"file:{self._file}?mode=ro"
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)
        return self._connection


class Postgres(Database):
    """One database of a `PostgresServer`."""

    kind = "postgres"

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.url = f"postgresql+psycopg2://{server.address}/{name}"
        self._connection = psycopg2.connect(f"postgresql://{server.address}/{name}")
        self._connection.set_session(readonly=True, autocommit=True)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query.replace("?", "%s"), values)
            return list(cursor.fetchall())

    def changes(self) -> str:
        # Which transactions are over: unlike the counters of pg_stat it is never late.
        ((snapshot,),) = self.rows("SELECT txid_current_snapshot()::text")
        return str(snapshot)

    def close(self) -> None:
        self._connection.close()


class PostgresServer:
    """A Postgres server on a free port of the loopback address, with its defaults: every commit is synced.

    Used as a context; its data live in a temporary folder.
    """

    def __init__(self) -> None:
        self._programs, libraries = programs.postgres()
        self._env = {**os.environ, **libraries}
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        (self._port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self.address = f"bench:bench@127.0.0.1:{self._port}"

    def database(self) -> Postgres:
        """Make one more database."""
        self._count += 1
        name = f"airflow{self._count}"
        connection = psycopg2.connect(f"postgresql://{self.address}/template1")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        connection.close()
        return Postgres(self, name)

    def __enter__(self) -> Self:
        data = self._folder / "data"
        if os.geteuid() == 0:
            os.chown(self._folder, _POSTGRES_USER, _POSTGRES_USER)
        create = ["--auth=trust", "--username=bench", "--encoding=UTF8", "--no-locale"]
        subprocess.run(
            self._command("initdb", f"--pgdata={data}", *create),
            env=self._env,
            cwd="/",
            stdout=subprocess.DEVNULL,
            check=True,
        )
        options = ["-p", str(self._port), "-h", "127.0.0.1", "-k", "", "-c", "max_connections=200"]
        with (self._folder / "log").open("wb") as log:
            command = self._command("postgres", "-D", str(data), *options)
            self._process = subprocess.Popen(command, env=self._env, cwd="/", stdout=log, stderr=log)
        until(self._answers, "Postgres answers", seconds=30, every=0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # ends connections instead of waiting for them
            self._process.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            psycopg2.connect(f"postgresql://{self.address}/template1").close()
        except psycopg2.OperationalError:
            return False
        return True

    def _command(self, program: str, *words: str) -> Sequence[str]:
        command = [str(self._programs / program), *words]
        if os.geteuid() != 0:
            return command
        return ["setpriv", f"--reuid={_POSTGRES_USER}", f"--regid={_POSTGRES_USER}", "--clear-groups", "--", *command]
