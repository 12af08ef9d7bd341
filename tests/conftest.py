"""What every test stands on: an environment of its own, and a real Consul."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

# Before anybody imports Airflow: a home of its own, and nothing of the developer's own Consul or Airflow.
for _name in [name for name in os.environ if name.startswith(("CONSUL_", "AIRFLOW_"))]:
    del os.environ[_name]
_home = tempfile.mkdtemp(prefix="airflow-home-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ["AIRFLOW_HOME"] = _home
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(_home) / "dags")

import pytest  # noqa: E402  # after the environment is set

from demo.consul import ConsulAgent, ConsulNotFoundError, find_consul  # noqa: E402
from tests.containers import consul_from_image  # noqa: E402


@pytest.fixture(scope="session")
def consul_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real Consul: of the PATH, of the system's package archive, or of a container image; never none."""
    try:
        return find_consul()
    except ConsulNotFoundError as exc:
        missing = exc
    try:
        return consul_from_image(tmp_path_factory.mktemp("consul-image"))
    except Exception as exc:  # noqa: BLE001  # whatever the container engine raises, the tests cannot go on
        pytest.fail(f"these tests need a real Consul. {missing}. From a container image: {exc}", pytrace=False)


@pytest.fixture(scope="session")
def consul_agent(consul_program: Path) -> Iterator[ConsulAgent]:
    """A Consul that lets everybody do everything."""
    with ConsulAgent(consul_program) as agent:
        yield agent


@pytest.fixture(scope="session")
def consul_with_acls(consul_program: Path) -> Iterator[ConsulAgent]:
    """A Consul that refuses whoever has no token; `token` may do everything."""
    with ConsulAgent(consul_program, acls=True) as agent:
        yield agent


@pytest.fixture
def consul_prefix() -> str:
    """A prefix that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}/"
