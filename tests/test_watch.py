"""Whether Airflow has found what was written into DAG files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from dagfactory_consul.occupancy import Parsed
from dagfactory_consul.watch import Watch
from tests.bundles import Clock

A, B = "tenants/a.py", "tenants/b.py"


class Watched:
    """A folder under watch, and what Airflow says that it has found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.found: dict[str, Parsed] = {}
        self.asked = 0
        self.watch = Watch(folder, self._parsed, self.clock)
        (folder / "tenants").mkdir()

    def write(self, path: str, *dags: str, is_new: bool = False, former: Collection[str] = ()) -> None:
        (self.folder / path).write_text("")
        self.watch.add(path, dags, is_new=is_new, former=former)

    def parse(self, path: str, *dags: str, version: str = "new") -> None:
        """Have Airflow find these DAGs in a file, now."""
        self.found |= {dag_id: Parsed(path, self.clock(), version) for dag_id in dags}

    def touched(self, path: str, *, after: float = 1.0, in_force: Collection[str] = ()) -> bool:
        """Look some seconds later, and say whether the file was touched for it."""
        os.utime(self.folder / path, ns=(1_000, 1_000))
        self.clock.now += after
        self.watch.look(in_force)
        return (self.folder / path).stat().st_mtime_ns != 1_000

    def _parsed(self, dag_ids: Collection[str]) -> Mapping[str, Parsed]:
        self.asked += 1
        return {dag_id: self.found[dag_id] for dag_id in dag_ids if dag_id in self.found}


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_changed_file_is_touched_once_a_parse_has_ended(watched: Watched) -> None:
    """That parse may have begun before the change: there has to be another one, and when that has ended it is over."""
    watched.write(A, "a")
    assert not watched.touched(A)
    watched.parse(A, "a")
    assert watched.touched(A)
    watched.clock.now += 1
    watched.parse(A, "a")
    assert not any(watched.touched(A) for _ in range(100))


def test_a_new_file_needs_one_parse(watched: Watched) -> None:
    """Nothing can have been reading it before it was there."""
    watched.write(A, "a", is_new=True)
    watched.clock.now += 1
    watched.parse(A, "a")
    assert not any(watched.touched(A) for _ in range(100))


@pytest.mark.parametrize("is_new", [False, True])
def test_what_is_not_found_is_touched_more_and_more_seldom(watched: Watched, *, is_new: bool) -> None:
    """A file that Airflow does not find is touched again, each time after longer, and left alone in the end."""
    watched.write(A, "a", is_new=is_new)
    seconds = [second for second in range(1, 5_000) if watched.touched(A)]
    assert 3 <= len(seconds) <= 8
    gaps = [later - earlier for earlier, later in itertools.pairwise(seconds)]
    assert gaps == sorted(gaps)
    assert seconds[-1] <= Watch.LONGEST


def test_a_dag_found_where_it_was_before_is_called_back(watched: Watched) -> None:
    """A late parse of the file that it left says that it stands there: its own file has to be parsed after that."""
    watched.write(B, "a", is_new=True)
    watched.clock.now += 1
    watched.parse(A, "a")
    assert watched.touched(B)
    watched.parse(B, "a")
    assert not watched.touched(B)


def test_a_dag_found_in_a_former_version_is_called_back(watched: Watched) -> None:
    """A late parse of another processor, which has not followed yet, says what was: it is touched once for that."""
    watched.write(A, "a", is_new=True, former={"old"})
    watched.clock.now += 1
    watched.parse(A, "a")
    assert not watched.touched(A)
    watched.parse(A, "a", version="old")
    assert watched.touched(A)
    assert not watched.touched(A)
    watched.parse(A, "a", version="newer than anybody here knows")
    assert not any(watched.touched(A) for _ in range(100))


def test_what_has_returned_is_no_former_version(watched: Watched) -> None:
    """A deployment that returns to what was has its old name again: who has not followed yet calls nothing back."""
    watched.write(A, "a", is_new=True, former={"old"})
    watched.clock.now += 1
    watched.parse(A, "a", version="old")
    assert not any(watched.touched(A, in_force={"old"}) for _ in range(100))


def test_a_former_version_that_others_show_again_and_again(watched: Watched) -> None:
    """A processor that cannot follow parses its own files as often as it likes: nobody competes with it for long."""
    watched.write(A, "a", is_new=True, former={"old"})
    touched = 0
    for _ in range(50):
        watched.clock.now += 0.5
        watched.parse(A, "a", version="old")
        touched += watched.touched(A, after=0.5)
    assert touched == Watch.RECALLS


def test_one_of_several_is_not_enough(watched: Watched) -> None:
    """A file is found when all that it gives is."""
    watched.write(A, "a", "b", is_new=True)
    watched.clock.now += 1
    watched.parse(A, "a")
    assert watched.touched(A, after=Watch.PATIENCE + 1)


def test_what_has_left_a_file_is_not_looked_for_there(watched: Watched) -> None:
    """A DAG that moves to another file leaves the first one's watch, and takes nothing with it."""
    watched.write(A, "a", "b", is_new=True)
    watched.watch.keep({A: ["b"], B: ["a"]})
    watched.clock.now += 1
    watched.parse(B, "a")
    watched.parse(A, "b")
    assert not any(watched.touched(A) for _ in range(100))


def test_a_file_that_is_gone_is_no_failure(watched: Watched) -> None:
    """A file that somebody has deleted does not keep the others from being looked after."""
    watched.write(A, "a")
    watched.write(B, "b")
    (watched.folder / A).unlink()
    assert watched.touched(B, after=Watch.PATIENCE + 1)


def test_the_folder_is_at_rest_once_all_is_found(watched: Watched) -> None:
    """What was written is surely found after a parse that began later: then nothing more is to come."""
    assert watched.watch.at_rest
    watched.write(A, "a")
    assert not watched.watch.at_rest
    for rest in (False, True):
        watched.clock.now += 1
        watched.parse(A, "a")
        watched.clock.now += 1
        watched.watch.look()
        assert watched.watch.at_rest == rest
    watched.clock.now += Watch.SECONDS
    watched.watch.look()
    assert watched.watch.at_rest


def test_many_dags_are_asked_for_seldom(watched: Watched) -> None:
    """A first load writes thousands, and Airflow waits for each question: there are the fewer the more it asks for."""
    watched.write(A, *(f"d{number}" for number in range(10 * Watch.DAGS_A_SECOND)), is_new=True)
    for _ in range(20):
        watched.touched(A)
    assert watched.asked == 2


def test_a_quiet_folder_costs_no_question(watched: Watched) -> None:
    """Airflow's database is asked only while there is something to be found."""
    watched.watch.look()
    assert watched.asked == 0
    watched.write(A, "a", is_new=True)
    watched.clock.now += 1
    watched.parse(A, "a")
    for _ in range(100):
        watched.touched(A)
    asked = watched.asked
    watched.touched(A)
    assert watched.asked == asked


def test_what_airflow_has_not_found_is_pending(watched: Watched) -> None:
    """Until a parse has found a DAG in its file since that was written, be it one that had begun before."""
    watched.parse(A, "a")
    watched.parse(B, "b")
    watched.clock.now += 1
    watched.write(A, "a", "b")
    watched.touched(A)
    assert watched.watch.pending == {A: ["a", "b"]}
    watched.parse(A, "a")
    watched.parse(B, "b")
    watched.touched(A)
    assert watched.watch.pending == {A: ["b"]}
    watched.watch.keep({})
    watched.watch.look()
    assert watched.watch.pending == {}
