"""The plain loader on a real Airflow and a real Consul: two DAG files, for an Airflow that cannot have the bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from demo import tour
from demo.look import DRAINING, SOON, active, become, between_two_tasks, edited, finish_run, settled
from demo.say import Say
from demo.source import OwnConsul
from demo.stack import Stack
from demo.wait import until

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]
DAG = f"acme__{tour.MESSAGES}"


@pytest.fixture(scope="module")
def loader(consul: OwnConsul, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An Airflow whose DAG processor parses the plain loader's files."""
    with Stack(tmp_path_factory.mktemp("loader"), consul, loader=True) as started:
        started.start(Say())
        yield started


def test_a_run_ends_although_its_flag_goes_off_between_two_tasks(loader: Stack) -> None:
    """A flag that goes off strands no run: the DAG drains, its run goes on to the end, and then the DAG goes."""
    before = settled(loader)
    rest = {dag_id for dag_id in before if not dag_id.endswith(tour.MESSAGES)}
    with ExitStack() as flip:
        with between_two_tasks(loader, DAG) as run_id:
            flip.enter_context(edited(loader, "flags/process-messages", "false"))
            until(lambda: DRAINING in active(loader).get(DAG, ()), "the DAG is draining", seconds=SOON)
        finish_run(loader, DAG, run_id)
        become(loader, rest, keep=rest)
    become(loader, before, keep=rest)


def test_a_bad_edit_keeps_the_dags(loader: Stack) -> None:
    """A tenant whose document is broken by an edit keeps its DAGs, and Airflow shows the error: by the second file."""
    assert tour.a_bad_edit_keeps_the_dags(loader)
