"""The stacks that the demonstration runs, one at a time: each module here has its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.say import Say
from demo.source import OwnConsul
from demo.stack import Stack


@pytest.fixture(scope="module")
def consul(consul_program: Path, tmp_path_factory: pytest.TempPathFactory) -> OwnConsul:
    """The Consul that the stack starts: nobody reads or writes without a token."""
    return OwnConsul(tmp_path_factory.mktemp("consul"), program=consul_program, acls=True)


@pytest.fixture(scope="module")
def stack(consul: OwnConsul, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real Consul and a real Airflow with the bundle, and the sample tenants."""
    with Stack(tmp_path_factory.mktemp("stack"), consul) as started:
        started.start(Say())
        yield started
