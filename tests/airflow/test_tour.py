"""The demonstration's tour, step by step, on a real Consul and a real Airflow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from demo.stack import Stack
from demo.tour import STEPS


@pytest.mark.airflow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_step(stack: Stack, step: Callable[[Stack], str]) -> None:
    """Each step of the tour sees what its own first line promises."""
    assert step(stack)
