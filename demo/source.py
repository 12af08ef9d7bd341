"""Where the demonstration's configuration lives: a Consul of its own, a Consul that is there, or a folder of files."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from dagfactory_consul.stores import Store, open_store

from .consul import ConsulAgent, ConsulNotFoundError

SAMPLES = Path(__file__).parent / "config"
MORE = Path(__file__).parent / "more"
DEPLOYMENT = "production"
"""What Airflow's DAG processors call themselves, unless told otherwise."""
BESIDE = ("runtime", "history")
"""What Airflow writes, beside the prefix that it reads."""


class Source(ABC):
    """A place that holds the configuration: Airflow reads it, and the demonstration changes it."""

    url: str
    """As the setting STORE wants it."""
    prefix: str = "dagfactory/"
    env: Mapping[str, str] = MappingProxyType({})
    """What Airflow's processes need besides, to read from it."""
    editor: Mapping[str, str] = MappingProxyType({})
    """What a command needs besides that, to write to it."""
    about: str
    """What it is, for humans."""
    fallible: str | None = None
    """What happens when `go_away` is called, for humans; None where it cannot be taken away."""

    def settings(self) -> dict[str, str]:
        """Return what Airflow's environment needs so that it reads from here."""
        return {
            **self.env,
            "AIRFLOW__DAGFACTORY_CONSUL__STORE": self.url,
            "AIRFLOW__DAGFACTORY_CONSUL__PREFIX": self.prefix,
        }

    @abstractmethod
    def start(self) -> None:
        """Make the place ready."""

    @abstractmethod
    def stop(self) -> None:
        """Take away what `start` made, where it would be in somebody's way."""

    def put(self, key: str, text: str) -> None:
        """Write one document."""
        with self._store() as store:
            store.put(key, text.encode())

    def delete(self, key: str) -> None:
        """Remove one document."""
        with self._store() as store:
            store.delete(key)

    def go_away(self) -> None:
        """Be unreachable."""
        raise NotImplementedError

    def come_back(self) -> None:
        """Be reachable again, with all that was there."""
        raise NotImplementedError

    def status(self) -> dict[str, Any]:
        """Return what Airflow's DAG processor has written of itself beside the configuration; empty before it has."""
        with self._store(beside="runtime") as store:
            entry = store.get(f"{DEPLOYMENT}/status")
        found: dict[str, Any] = json.loads(entry.value) if entry is not None else {}
        return found

    @contextmanager
    def _store(self, *, beside: str | None = None) -> Iterator[Store]:
        store = open_store(self.url, prefix=self.prefix, timeout=5)
        if beside is not None:
            store = store.beside(beside)
        try:
            yield store
        finally:
            store.close()

    @abstractmethod
    def how_to_put(self, key: str, text: str) -> str:
        """Return the command by which somebody at the keyboard writes one document."""


class OwnConsul(Source):
    """A Consul agent that is started here and stopped again.

    Args:
        folder: of its data.
        program: the Consul program, found by itself unless given.
        acls: let nobody in without a token. Airflow's may only read, but for what it writes beside the prefix.

    Raises:
        ConsulNotFoundError: no program is given, there is none, and none can be brought.
    """

    def __init__(self, folder: Path, *, program: Path | None = None, acls: bool = False) -> None:
        self.agent = ConsulAgent(program, folder=folder, acls=acls)
        self.url = self.agent.url
        self.about = f"a Consul agent of this demonstration's own, at http://{self.agent.address}"
        self.fallible = "Consul is stopped"

    def start(self) -> None:
        self.agent.start()
        if self.agent.acls:
            self.editor = {"CONSUL_HTTP_TOKEN": self.agent.token}
            self.env = {"CONSUL_HTTP_TOKEN": self.agent.make_token(" ".join(self._rules()))}

    def stop(self) -> None:
        self.agent.stop()

    def put(self, key: str, text: str) -> None:
        self._ask("PUT", key, content=text.encode())

    def delete(self, key: str) -> None:
        self._ask("DELETE", key)

    def status(self) -> dict[str, Any]:
        url = f"http://{self.agent.address}/v1/kv/{self.prefix[:-1]}-runtime/{DEPLOYMENT}/status?raw"
        answer = httpx.get(url, headers={"X-Consul-Token": self.agent.token}, trust_env=False, timeout=10)
        found: dict[str, Any] = answer.json() if answer.is_success else {}
        return found

    def go_away(self) -> None:
        self.agent.kill()

    def come_back(self) -> None:
        self.agent.start()

    def how_to_put(self, key: str, text: str) -> str:
        program = "consul" if shutil.which("consul") else _shown(self.agent.program)
        return f"{program} kv put -http-addr={self.agent.address} {self.prefix}{key} {text}"

    def _rules(self) -> Iterator[str]:
        yield f'key_prefix "{self.prefix}" {{ policy = "read" }}'
        for name in BESIDE:
            yield f'key_prefix "{self.prefix[:-1]}-{name}/" {{ policy = "write" }}'

    def _ask(self, method: str, key: str, content: bytes = b"") -> None:
        """Ask Consul itself, as its own command does: what is shown here should not lean on what it shows."""
        headers = {"X-Consul-Token": self.agent.token}
        url = f"http://{self.agent.address}/v1/kv/{self.prefix}{key}"
        with httpx.Client(trust_env=False, timeout=10) as http:
            answer = http.request(method, url, content=content, headers=headers)
        assert answer.text.strip() == "true", f"{method} {url}: {answer.status_code} {answer.text[:200]}"


class OtherConsul(Source):
    """A Consul that somebody else runs: a prefix of its own and those beside it are written, and removed in the end."""

    def __init__(self, address: str, environment: Mapping[str, str]) -> None:
        self.url = "consul://"  # all else stands in the CONSUL_* variables, which are handed on
        self.prefix = "dagfactory-demo/"
        self.env = {name: value for name, value in environment.items() if name.startswith("CONSUL_")}
        self.about = f"the Consul at {address} (CONSUL_HTTP_ADDR), below {self.prefix}"

    def start(self) -> None:
        self._clear()  # what a killed demonstration left there

    def stop(self) -> None:
        self._clear()

    def how_to_put(self, key: str, text: str) -> str:
        command = _shown(Path(sys.executable).with_name("dagfactory-consul"))
        return f"{command} put {key} {text} --store {self.url} --prefix {self.prefix}"

    def _clear(self) -> None:
        for name in (None, *BESIDE):
            with self._store(beside=name) as store:
                for key in store.keys():  # noqa: SIM118  # a store is no mapping
                    store.delete(key)


class FolderOfFiles(Source):
    """A folder of YAML files, one for each key."""

    def __init__(self, folder: Path, why: str) -> None:
        self.folder = folder
        self.url = str(folder)
        self.about = f"the YAML files below {folder} ({why})"
        self.fallible = "the folder of files is taken away"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def stop(self) -> None:
        pass  # it lies in the demonstration's folder and is in nobody's way

    def go_away(self) -> None:
        self.folder.rename(self.folder.with_name(f"{self.folder.name}.away"))

    def come_back(self) -> None:
        self.folder.with_name(f"{self.folder.name}.away").rename(self.folder)

    def how_to_put(self, key: str, text: str) -> str:
        return f"echo {text} > {_shown(self.folder / key)}.yaml"


def choose(folder: Path) -> Source:
    """Return the place to use: the Consul of CONSUL_HTTP_ADDR, else one of our own, else files."""
    if address := os.environ.get("CONSUL_HTTP_ADDR"):
        return OtherConsul(address, os.environ)
    try:
        return OwnConsul(folder / "consul")
    except ConsulNotFoundError as error:
        return FolderOfFiles(folder / "config", str(error))


def sample(key: str, *, folder: Path = SAMPLES) -> str:
    """Return the text of a sample document."""
    return next(folder.glob(f"{key}.*")).read_text(encoding="utf-8")


def _shown(path: Path) -> str:
    """Return a path as one would type it here, quoted for the shell."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
