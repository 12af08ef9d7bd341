"""The file that shows problems: what it raises, and that it is touched until Airflow shows what it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dagfactory_consul.bulletin import BULLETIN, Bulletin
from tests.bundles import Clock
from tests.test_contents import NASTY
from tests.test_layout import load


class Board:
    """A bulletin, and what Airflow shows of it."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.shown: str | None = None
        self.bulletin = Bulletin(folder, lambda file: self.shown if file == BULLETIN else "of another file", self.clock)

    def parse(self) -> None:
        """Have Airflow show what the file raises."""
        try:
            load(self.bulletin.path)
        except Exception as error:  # noqa: BLE001  # of a module that is made here
            self.shown = f"Traceback …\n{error}"
        else:
            self.shown = None

    def touches(self, seconds: int) -> list[int]:
        """Return after how many seconds the file is touched, of those that come."""
        found = []
        for second in range(1, seconds + 1):
            os.utime(self.bulletin.path, ns=(1_000, 1_000))
            self.clock.now += 1
            self.bulletin.look()
            if self.bulletin.path.stat().st_mtime_ns != 1_000:
                found.append(second)
        return found


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.mark.parametrize("lines", [[], ["one"], [NASTY, "two\nlines", "'''"]])
def test_problems_are_raised_as_they_are(board: Board, lines: list[str]) -> None:
    """The file raises one error that holds every line, whatever they hold, and that is then seen to be shown."""
    board.bulletin.write(lines)
    board.parse()
    assert all(line in (board.shown or "") for line in lines)
    assert bool(board.shown) == bool(lines)
    assert board.touches(100) == []


def test_problems_are_written_only_when_they_change(board: Board) -> None:
    """Each look says the problems again: the file is the same until they are others, or it is gone."""
    board.bulletin.write(["one"])
    os.utime(board.bulletin.path, ns=(1_000, 1_000))
    before = board.bulletin.path.stat()
    board.bulletin.write(["one"])
    assert board.bulletin.path.stat() == before
    board.bulletin.path.unlink()
    board.bulletin.look()
    board.bulletin.write(["one"])
    assert board.bulletin.path.exists()


@pytest.mark.parametrize(
    ("lines", "shown"), [(["one"], None), (["one"], "two"), (["one", "two"], "one"), ([], "one"), ([], "")]
)
def test_what_is_not_shown_is_touched(board: Board, lines: list[str], shown: str | None) -> None:
    """While Airflow shows something else the file is touched, at ever longer intervals."""
    board.shown = shown
    board.bulletin.write(lines)
    assert board.touches(100) == [2, 8, 26, 80]
    assert len(board.touches(6000)) == pytest.approx(6000 / board.bulletin.LONGEST, abs=2)


def test_what_another_processor_shows_later_is_touched(board: Board) -> None:
    """That the problems were shown once is not the end of it: a processor that knows less may show its own."""
    board.bulletin.write(["one"])
    board.parse()
    assert board.touches(60) == []
    board.shown = None
    assert len(board.touches(round(board.bulletin.INTERVAL))) >= 1
    board.parse()
    assert board.touches(60) == []


def test_other_problems_are_not_waited_for_longer(board: Board) -> None:
    """However long the last ones were not shown, new ones are touched as soon as any."""
    board.bulletin.write(["one"])
    board.touches(500)
    board.bulletin.write([])
    board.shown = "one"
    assert board.touches(10) == [2, 8]


def test_the_clock_is_set_back(board: Board) -> None:
    """A clock that is set back by more than the longest interval stops nothing."""
    board.bulletin.write(["one"])
    board.clock.now -= 10_000
    assert board.touches(3) == [1]
