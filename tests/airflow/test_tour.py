"""The demonstration's tour, step by step, on a real Consul and a real Airflow with the bundle."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from demo.source import OwnConsul
from demo.stack import Stack
from demo.tour import STEPS

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_step(stack: Stack, step: Callable[[Stack], str]) -> None:
    """Each step of the tour sees what its own first line promises."""
    assert step(stack)


def test_the_settings_are_as_the_bundle_wants_them(stack: Stack) -> None:
    """The bundle warns of each of Airflow's settings that slows or breaks it: here only of the test's own folder."""
    log = stack.airflow.out("dag-processor").read_text()
    assert "DAGs new" in log
    lines = [line for line in log.splitlines() if ". Set AIRFLOW__" in line or "refresh_interval is" in line]
    assert all("below a folder for temporary files" in line for line in lines), lines


def test_the_token_is_in_no_file(stack: Stack, consul: OwnConsul) -> None:
    """Whatever has happened before, Consul's token is in no file of Airflow's: no log, no snapshot, no bundle."""
    files = [path for path in stack.folder.rglob("*") if path.is_file()]
    secrets = [token.encode() for token in (consul.env["CONSUL_HTTP_TOKEN"], consul.agent.token)]
    assert {".log", ".py", ".db"} <= {path.suffix for path in files}
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []
