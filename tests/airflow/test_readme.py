"""The README's own Airflow: its builder, its airflow.cfg and its two lines for Consul, on a cold and busy machine."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from demo.airflow import Airflow
from demo.consul import ConsulAgent
from demo.wait import until

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

README = (Path(__file__).parents[2] / "README.md").read_text()
OWN_DAG = "from airflow.sdk import DAG\n\nwith DAG('own'):\n    pass\n"
REPORT = '#!/bin/sh\nprintf "%s\\n" "$@" > "$(dirname "$0")/reported"\n'
LATE = 240.0
"""Seconds within which a machine that has to compile everything, and is busy, has shown what it has."""


def block(kind: str, words: str) -> str:
    """Return the README's block of a kind that has these words."""
    found: list[str] = re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)
    return next(each for each in found if words in each)


def configuration(folder: Path) -> dict[str, str]:
    """Return the README's airflow.cfg as environment variables, with a folder for bundles and a key of its own."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(block("ini", "[dagfactory_consul]"))
    assert parser["core"]["fernet_key"].endswith("openssl rand -base64 32 | tr +/ -_")
    parser["core"]["fernet_key"] = Fernet.generate_key().decode()
    parser["dag_processor"]["dag_bundle_storage_path"] = str(folder / "bundles")
    return {
        f"AIRFLOW__{section}__{name}".upper(): value
        for section in parser.sections()
        for name, value in parser[section].items()
    }


@pytest.fixture
def busy() -> Iterator[None]:
    """Two processes that use whatever a core gives them."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


@pytest.fixture
def airflow(tmp_path: Path, consul_agent: ConsulAgent, busy: None) -> Iterator[Airflow]:  # noqa: ARG001  # works beside
    """An Airflow as the README sets it up, with a DAG of the user's own, and nothing compiled yet."""
    for file, text in {
        "code/acme/__init__.py": "",
        "code/acme/builders.py": block("python", "@builder"),
        "dags/own.py": OWN_DAG,
        "bin/report": REPORT,
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    (tmp_path / "bin/report").chmod(0o755)
    own = {
        "PYTHONPATH": str(tmp_path / "code"),
        "PYTHONPYCACHEPREFIX": str(tmp_path / "cold"),
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CONSUL_HTTP_ADDR": consul_agent.address,
    }
    started = Airflow(tmp_path / "airflow", tmp_path / "dags", {**configuration(tmp_path), **own})
    try:
        started.prepare(seconds=LATE)
        started.start()
        started.wait_healthy(seconds=LATE)
        yield started
    finally:
        started.stop()


def test_a_client_of_the_readme_runs(airflow: Airflow, consul_program: Path, tmp_path: Path) -> None:
    """The client's DAG is there beside the user's own, without an import error, and its run hands the values on."""
    for line in block("text", "consul kv put").strip().splitlines():
        _, *words = shlex.split(line)
        subprocess.run([consul_program, *words], env=airflow.env, check=True)
    api = airflow.api
    until(lambda: {"own", "acme__report"} <= api.dags().keys(), "both DAGs are there", seconds=LATE)
    assert api.import_errors() == {}
    run = api.trigger("acme__report")
    until(lambda: api.run("acme__report", run)["state"] in {"success", "failed"}, "the run ends", seconds=LATE)
    assert api.run("acme__report", run)["state"] == "success"
    assert (tmp_path / "bin/reported").read_text().split() == ["acme", "14", "csv"]
