"""One Consul with access rules and one Airflow for all tests here: the stack that the demonstration runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.say import Say
from demo.source import OwnConsul
from demo.stack import DAGS, Stack

BUILDERS = Path(__file__).parent / "waiting"


@pytest.fixture(scope="session")
def consul(consul_program: Path, tmp_path_factory: pytest.TempPathFactory) -> OwnConsul:
    """The Consul that the stack starts: nobody reads or writes without a token."""
    return OwnConsul(tmp_path_factory.mktemp("consul"), program=consul_program, acls=True)


@pytest.fixture(scope="session")
def stack(consul: OwnConsul, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real Consul and a real Airflow, with the sample tenants."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, consul, builders=(DAGS / "builders", BUILDERS)) as started:
        started.start(Say())
        yield started
