"""The services of docker-compose.yml started on this machine, without containers: what the file says is what runs.

Commands, environment, order and health checks are the file's own. Only what a container has to itself is put elsewhere:
hosts and ports on loopback, folders under one temporary folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import processes
from demo.consul import find_consul, free_ports

from . import programs

AIRFLOW_HOME = "/opt/airflow"


class ServiceFailedError(AssertionError):
    """A service ended that should not have, or did not get healthy in time."""


@dataclass
class Service:
    """One service as the file describes it, with a place on this machine."""

    name: str
    command: list[str]
    env: dict[str, str]
    health: list[str]
    """The health check's command; empty for a service that does its work and ends."""
    after: dict[str, str]
    """The services it waits for, and what for."""
    process: subprocess.Popen[bytes] | None = None
    healthy: bool = False
    said: str = "not asked yet"

    def reached(self, condition: str) -> bool:
        """Tell whether a `depends_on` condition holds."""
        if condition == "service_healthy":
            return self.healthy
        if condition == "service_completed_successfully":
            return self.process is not None and self.process.poll() == 0
        return self.process is not None

    @property
    def done(self) -> bool:
        """Whether it is as it should stay: healthy, or through with its work."""
        return self.healthy or (not self.health and self.reached("service_completed_successfully"))


class NativeStack:
    """All services of one rendered compose file. `up` starts them, `down` ends them and all that they forked."""

    def __init__(self, rendered: Mapping[str, Any], home: Path) -> None:
        self.home = home
        names = ("api", "health", "logs", "trigger", "postgres", "http", "server", "lan", "wan")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._postgres_home = Path(tempfile.mkdtemp(prefix="postgres-"))  # its user may not be able to enter `home`
        self._postgres_bin, self._postgres_env = programs.postgres()
        self._moved = self._places()
        self.services = {name: self._service(name, said) for name, said in rendered["services"].items()}
        self.url = f"http://127.0.0.1:{self.ports['api']}"

    def up(self, *, seconds: float) -> None:
        """Start every service when what it waits for is there, and wait until all are healthy or through.

        Raises:
            ServiceFailedError: names the service, its last health check's words and the end of its log.
        """
        self._make_database()
        deadline = time.monotonic() + seconds
        while not all(service.done for service in self.services.values()):
            for service in self.services.values():
                self._advance(service)
            if time.monotonic() > deadline:
                late = [service for service in self.services.values() if not service.done]
                raise ServiceFailedError("\n".join(map(self._report, late)))
            time.sleep(0.2)

    def down(self) -> None:
        """End everything, the database last, and remove its folder."""
        running = {name: each.process for name, each in self.services.items() if each.process is not None}
        database = running.pop("postgres", None)
        processes.stop(list(running.values()), home=self.home, patience=5)
        if database is not None:
            database.send_signal(signal.SIGINT)  # ends connections instead of waiting for them
            database.wait(timeout=10)
        shutil.rmtree(self._postgres_home, ignore_errors=True)

    def log(self, name: str) -> str:
        """Return what a service has printed."""
        file = self.home / "out" / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _advance(self, service: Service) -> None:
        """Start a service, or look at its health; once healthy it is not asked again."""
        if service.process is None:
            if all(self.services[name].reached(condition) for name, condition in service.after.items()):
                service.process = processes.start(
                    service.command, home=self.home, env=service.env, log=self.home / "out" / f"{service.name}.log"
                )
        elif service.process.poll() is not None:
            if service.health or service.process.returncode:
                raise ServiceFailedError(self._report(service))
        elif service.health and not service.healthy:
            service.healthy, service.said = self._ask(service)

    def _ask(self, service: Service) -> tuple[bool, str]:
        asked = subprocess.run(
            service.health, env=service.env, cwd=self.home, capture_output=True, text=True, check=False, timeout=60
        )
        return asked.returncode == 0, (asked.stdout + asked.stderr).strip()[-500:]

    def _report(self, service: Service) -> str:
        code = service.process.poll() if service.process else "not started"
        log = "\n".join(self.log(service.name).splitlines()[-15:])
        return f"{service.name}: exit code {code}; health: {service.said}\n{log}"

    def _service(self, name: str, said: Mapping[str, Any]) -> Service:
        command = [self._move(word) for word in [*(said.get("entrypoint") or []), *(said.get("command") or [])]]
        kind, *test = (said.get("healthcheck") or {}).get("test") or ["CMD"]
        health = ["/bin/sh", "-c", *test] if kind == "CMD-SHELL" else test
        if name.startswith("postgres"):
            command = self._as_postgres("postgres", "-D", str(self._postgres_home / "data"))
        if name.startswith("consul"):
            command += [f"-{each}-port={self.ports[each]}" for each in ("http", "server")]
            command += [f"-serf-{each}-port={self.ports[each]}" for each in ("lan", "wan")]
            command += ["-dns-port=-1"]
        self._mount(said.get("volumes") or [])
        env = {key: self._move(str(value)) for key, value in (said.get("environment") or {}).items()}
        return Service(
            name=name,
            command=command,
            env={**self._surroundings(name), **env},
            health=[self._move(word) for word in health],
            after={other: on["condition"] for other, on in (said.get("depends_on") or {}).items()},
        )

    def _places(self) -> dict[str, str]:
        """Return what stands for what: a container's hosts, ports and folders, and those on this machine."""
        return {
            "airflow-apiserver:8080": f"127.0.0.1:{self.ports['api']}",
            "//localhost:8080": f"//127.0.0.1:{self.ports['api']}",
            "//localhost:8974": f"//127.0.0.1:{self.ports['health']}",
            "@postgres/": f"@127.0.0.1:{self.ports['postgres']}/",
            "//consul:8500": f"//127.0.0.1:{self.ports['http']}",
            "=0.0.0.0": "=127.0.0.1",
            "/consul/data": str(self.home / "consul"),
            AIRFLOW_HOME: str(self.home),
        }

    def _move(self, text: str) -> str:
        text = text.replace("$$", "$")  # as compose prints a dollar sign
        for there, here in self._moved.items():
            text = text.replace(there, here)
        return text

    def _mount(self, volumes: list[Any]) -> None:
        """Lay a copy of each mounted folder where the service looks for it; a named volume is an empty folder."""
        for source, target in map(mount, volumes):
            if not target.startswith(AIRFLOW_HOME):
                continue
            here = Path(self._move(target))
            if source.startswith("/"):
                shutil.copytree(source, here, dirs_exist_ok=True)
            here.mkdir(parents=True, exist_ok=True)

    def _surroundings(self, name: str) -> dict[str, str]:
        """Return what an image gives its programs, and where this machine has ports for them."""
        consul = find_consul()
        path = [Path(sys.executable).parent, self._postgres_bin, consul.parent, "/usr/local/bin", "/usr/bin", "/bin"]
        env = {"PATH": os.pathsep.join(map(str, path)), "HOME": str(self.home), "LANG": "C.UTF-8"}
        if name.startswith("postgres"):
            return {**env, **self._postgres_env, "PGPORT": str(self.ports["postgres"])}
        if name.startswith("consul"):
            return {**env, "CONSUL_HTTP_ADDR": f"127.0.0.1:{self.ports['http']}"}
        return {
            **env,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.ports["api"]),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(self.ports["health"]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self.ports["logs"]),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self.ports["trigger"]),
        }

    def _make_database(self) -> None:
        """Do what the image of Postgres does in a new folder: make the user, password and database that it is told."""
        given = self.services["postgres"].env
        secret = self._postgres_home / "password"
        secret.write_text(given["POSTGRES_PASSWORD"])
        settings = f"port = {self.ports['postgres']}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
        data = self._postgres_home / "data"
        for each in (self._postgres_home, secret):
            if os.geteuid() == 0:
                shutil.chown(each, _POSTGRES_USER)
        create = ["--auth=scram-sha-256", f"--username={given['POSTGRES_USER']}", f"--pwfile={secret}", "--no-sync"]
        self._run(self._as_postgres("initdb", f"--pgdata={data}", "--encoding=UTF8", "--no-locale", *create), given)
        with (data / "postgresql.conf").open("a") as file:
            file.write(settings)
        single = self._as_postgres("postgres", "--single", "-D", str(data), "template1")
        self._run(single, given, f'CREATE DATABASE "{given["POSTGRES_DB"]}"\n')

    def _run(self, command: list[str], env: Mapping[str, str], stdin: str = "") -> None:
        done = subprocess.run(
            command, env=dict(env), input=stdin, cwd="/", capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode:
            raise ServiceFailedError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")

    def _as_postgres(self, program: str, *words: str) -> list[str]:
        """Return a command of Postgres, which refuses to run as root."""
        command = [str(self._postgres_bin / program), *words]
        if os.geteuid() != 0:
            return command
        return ["setpriv", f"--reuid={_POSTGRES_USER}", f"--regid={_POSTGRES_USER}", "--clear-groups", "--", *command]


_POSTGRES_USER = 65534
"""`nobody`, by number: it is everywhere, and owns nothing else here."""


def mount(volume: Any) -> tuple[str, str]:
    """Return source and target of a mount, in whichever form the compose program prints it."""
    if isinstance(volume, dict):
        return volume.get("source", ""), volume["target"]
    source, target = volume.split(":")[:2]
    return source, target


def published(services: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the address of this machine that each published port is bound to, with the service's name."""
    for name, service in services.items():
        for port in service.get("ports") or []:
            if isinstance(port, dict):
                yield name, port.get("host_ip", "")
            else:
                yield name, port.split(":")[0] if port.count(":") > 1 else ""
