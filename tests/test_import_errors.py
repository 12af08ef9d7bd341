"""What Airflow shows as import errors: what the problems' file raises, what is touched, and what is forgotten."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from dagfactory_consul.import_errors import PROBLEMS, ImportErrors
from tests.bundles import Clock
from tests.test_contents import NASTY
from tests.test_layout import load

FILE = "tenants/acme.py"
LONG_AGO = 1_000


class Board:
    """What Airflow shows of a folder's files, and what is done about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / FILE).parent.mkdir()
        (folder / FILE).touch()
        self.clock = Clock()
        self.shown: dict[str, str] = {}
        self.errors = ImportErrors(folder, lambda: self.shown, self.forget, self.clock)

    def forget(self, files: Collection[str]) -> None:
        self.shown = {file: text for file, text in self.shown.items() if file not in files}

    def parse(self) -> None:
        """Have Airflow show what the problems' file raises."""
        self.shown.pop(PROBLEMS, None)
        try:
            load(self.folder / PROBLEMS)
        except Exception as error:  # noqa: BLE001  # of a module that is made here
            self.shown[PROBLEMS] = f"Traceback …\n{error}"

    def touches(self, file: str, seconds: float) -> list[int]:
        """Return after how many seconds a file is touched, within the next ones."""
        found = []
        path = self.folder / file
        for second in range(1, round(seconds) + 1):
            os.utime(path, ns=(LONG_AGO, LONG_AGO))
            self.clock.now += 1
            self.errors.look()
            if path.stat().st_mtime_ns != LONG_AGO:
                found.append(second)
        return found


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.mark.parametrize("lines", [[], ["one"], [NASTY, "two\nlines", "'''"]])
def test_problems_are_raised_as_they_are(board: Board, lines: list[str]) -> None:
    """The file raises one error that holds every line, whatever they hold, and that is then seen to be shown."""
    board.errors.write_problems(lines)
    board.parse()
    assert all(line in board.shown.get(PROBLEMS, "") for line in lines)
    assert bool(board.shown) == bool(lines)
    assert board.touches(PROBLEMS, 100) == []


def test_problems_are_written_only_when_they_change(board: Board) -> None:
    """Each look says the problems again: the file is the same until they are others, or it is gone."""
    file = board.folder / PROBLEMS
    board.errors.write_problems(["one"])
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    before = file.stat()
    board.errors.write_problems(["one"])
    assert file.stat() == before
    file.unlink()
    board.clock.now += 5
    board.errors.look()
    board.errors.write_problems(["one"])
    assert file.exists()


@pytest.mark.parametrize(
    ("lines", "shown"), [(["one"], None), (["one"], "two"), (["one", "two"], "one"), ([], "one"), ([], "")]
)
def test_problems_that_are_not_shown_are_touched(board: Board, lines: list[str], shown: str | None) -> None:
    """While Airflow shows something else the file is touched, at ever longer intervals."""
    board.shown = {} if shown is None else {PROBLEMS: shown}
    board.errors.write_problems(lines)
    assert board.touches(PROBLEMS, 100) == [2, 8, 26, 80]
    assert len(board.touches(PROBLEMS, 6000)) == pytest.approx(6000 / board.errors.LONGEST, abs=2)


def test_problems_that_another_processor_no_longer_shows_are_touched(board: Board) -> None:
    """That they were shown once is not the end of it: a processor that knows less may show its own."""
    board.errors.write_problems(["one"])
    board.parse()
    assert board.touches(PROBLEMS, 60) == []
    board.shown = {}
    assert len(board.touches(PROBLEMS, board.errors.INTERVAL)) >= 1
    board.parse()
    assert board.touches(PROBLEMS, 60) == []


def test_two_processors_that_disagree_show_theirs_in_turn(board: Board) -> None:
    """One that shows nothing each time makes the other one touch again, but not for ever as often."""
    board.errors.write_problems(["one"])
    found = []
    for _ in range(3600):
        found.extend(board.touches(PROBLEMS, 1))
        board.shown = {PROBLEMS: "one"} if found and len(found) % 2 and not board.shown else {}
    assert 5 <= len(found) <= 20


def test_other_problems_are_not_waited_for_longer(board: Board) -> None:
    """However long the last ones were not shown, new ones are touched as soon as any."""
    board.errors.write_problems(["one"])
    board.touches(PROBLEMS, 500)
    board.errors.write_problems([])
    board.shown = {PROBLEMS: "one"}
    assert board.touches(PROBLEMS, 10) == [2, 8]


def test_a_file_of_dags_that_fails_is_parsed_again(board: Board) -> None:
    """It was tried before it was published: what it fails by is passing. When it is, nothing is touched any more."""
    board.errors.write_problems([])
    board.shown = {FILE: "timed out"}
    assert board.touches(FILE, 100) == [2, 8, 26, 80]
    board.shown = {}
    assert board.touches(FILE, 1000) == []
    board.shown = {FILE: "timed out again"}
    assert board.touches(FILE, 20)[0] <= board.errors.INTERVAL


def test_the_error_of_a_file_that_is_gone_is_forgotten(board: Board) -> None:
    """Airflow forgets it only with the next change. Not at once: another processor may just have made the file."""
    board.errors.write_problems([])
    board.shown = {"tenants/gone.py": "timed out", FILE: "timed out"}
    board.touches(FILE, board.errors.GONE / 2)
    assert "tenants/gone.py" in board.shown
    board.touches(FILE, board.errors.GONE)
    assert board.shown == {FILE: "timed out"}


def test_the_clock_is_set_back(board: Board) -> None:
    """A clock that is set back by more than the longest interval stops nothing."""
    board.errors.write_problems(["one"])
    board.clock.now -= 10_000
    assert board.touches(PROBLEMS, 3) == [1]
