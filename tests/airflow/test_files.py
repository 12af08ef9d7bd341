"""The demonstration where there is no Consul: on a folder of files it shows the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from demo import tour
from demo.say import Say
from demo.source import FolderOfFiles
from demo.stack import Stack

STEPS = [
    tour.the_store_tells_what_is_in_force,
    tour.a_flag_flip_removes_dags_and_brings_them_back,
    tour.a_run_keeps_the_configuration_it_began_with,
    tour.nothing_vanishes_while_the_store_is_away,
]


@pytest.fixture(scope="module")
def on_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An Airflow with the bundle that reads from a folder of files, and keeps its history beside it."""
    folder = tmp_path_factory.mktemp("files")
    with Stack(folder, FolderOfFiles(folder / "config", "a test")) as started:
        started.start(Say())
        yield started


@pytest.mark.airflow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_step(on_files: Stack, step: Callable[[Stack], str]) -> None:
    """The steps of the tour in which the store has a part see on files what they see on Consul."""
    assert step(on_files)
