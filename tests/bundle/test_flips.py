"""The short form of `python -m tests.bundle.flips`."""

from __future__ import annotations

import sys

import pytest

from .flips import Flips
from .machines import Deployment


@pytest.mark.airflow
@pytest.mark.timeout(240)
def test_random_flips_strand_no_run(deployment: Deployment) -> None:
    """While everything changes at random no run is stranded, fails, or has a configuration that was never in force."""
    flips = Flips(deployment, seed=1, kills=1)
    try:
        assert flips.fly(30, 45, runs=30) == []
        assert {"success"} == flips.ends.keys(), flips.summary()
    finally:
        sys.stdout.write(flips.summary())
        flips.clean_up()
