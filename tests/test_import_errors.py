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
        (folder / FILE).parent.mkdir(parents=True)
        (folder / FILE).touch()
        self.clock = Clock()
        self.shown: dict[str, str] = {}
        self.missed: dict[str, set[str]] = {}
        self.pending: dict[str, list[str]] = {}
        self.errors = ImportErrors(
            folder, lambda: self.shown, lambda: self.missed, lambda: self.pending, self.forget, self.clock
        )

    def forget(self, files: Collection[str]) -> None:
        for file in files:
            del self.shown[file]

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
    board.errors.write_problems(["one"])
    assert file.stat().st_mtime_ns == LONG_AGO
    file.unlink()
    board.clock.now += 5
    board.errors.look()
    board.errors.write_problems(["one"])
    assert file.exists()


@pytest.mark.parametrize(
    ("lines", "shown"),
    [(["one"], None), (["one"], ["two"]), (["one", "two"], ["one"]), (["one"], ["one", "two"]), ([], ["one"])],
)
def test_problems_that_are_not_shown_are_touched(board: Board, lines: list[str], shown: list[str] | None) -> None:
    """While Airflow shows something else, be it too much, the file is touched, at ever longer intervals."""
    if shown is not None:
        board.errors.write_problems(shown)
        board.parse()
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


def test_two_processors_that_disagree_show_theirs_in_turn(tmp_path: Path) -> None:
    """Each touches its file when the other one's problems are shown, but not for ever as often."""
    boards = [Board(tmp_path / name) for name in ("one", "two")]
    boards[1].shown, boards[1].clock = boards[0].shown, boards[0].clock
    boards[1].errors.clock = boards[0].clock
    boards[0].errors.write_problems(["common", "the store is away"])
    boards[1].errors.write_problems(["common"])
    found: list[list[int]] = [[], []]
    for second in range(7200):
        for board, touched in zip(boards, found, strict=True):
            if board.touches(PROBLEMS, 1):
                touched.append(second)
                board.parse()
    assert all(3 <= len(touched) <= 40 for touched in found), found
    assert all(touched[-1] > 3600 for touched in found)


def test_other_problems_are_not_waited_for_longer(board: Board) -> None:
    """However long the last ones were not shown, new ones are touched as soon as any."""
    board.errors.write_problems(["one"])
    board.touches(PROBLEMS, 500)
    board.parse()
    board.errors.write_problems([])
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


def test_a_file_whose_dags_are_stale_is_parsed_again(board: Board) -> None:
    """A parse that was killed shows no error; but a file that was just written is not parsed yet."""
    board.errors.write_problems([])
    board.missed = {FILE: {"acme__job"}}
    file = board.folder / FILE
    os.utime(file, (board.clock(), board.clock()))
    for _ in range(59):
        before = file.stat().st_mtime
        board.clock.now += 1
        board.errors.look()
        assert file.stat().st_mtime == before
    assert board.touches(FILE, 20)


def test_the_error_of_a_file_that_is_gone_is_forgotten(board: Board) -> None:
    """Airflow forgets it only with the next change. Not at once: another processor may just have made the file."""
    board.errors.write_problems([])
    board.shown = {"tenants/gone.py": "timed out", FILE: "timed out"}
    board.touches(FILE, board.errors.GONE / 2)
    assert "tenants/gone.py" in board.shown
    board.touches(FILE, board.errors.GONE)
    assert board.shown == {FILE: "timed out"}


def test_the_error_of_a_file_that_another_processor_has_stays(board: Board) -> None:
    """A machine whose files are not those that were agreed on cannot say that a file is gone."""
    board.errors.write_problems([])
    board.shown = {"tenants/new.py": "timed out"}
    for _ in range(100):
        board.clock.now += board.errors.INTERVAL
        board.errors.look(may_forget=False)
    assert "tenants/new.py" in board.shown


def test_a_file_that_somebody_has_damaged_is_written_again(board: Board) -> None:
    """The next look says the problems again, and finds that the file says something else."""
    board.errors.write_problems(["one"])
    before = (board.folder / PROBLEMS).read_text()
    (board.folder / PROBLEMS).write_text("damaged")
    board.errors.write_problems(["one"])
    assert (board.folder / PROBLEMS).read_text() == before


@pytest.mark.parametrize("seconds", [60, 590, 10_000])
def test_the_clock_is_set_back(board: Board, seconds: float) -> None:
    """A clock that is set back stops nothing for longer than the longest interval between two looks."""
    board.errors.write_problems(["one"])
    board.shown = {"tenants/gone.py": "timed out"}
    board.touches(PROBLEMS, 20)
    board.clock.now -= seconds
    assert board.touches(PROBLEMS, board.errors.LONGEST)
    board.touches(PROBLEMS, board.errors.GONE)
    assert board.shown == {}


def said(board: Board, seconds: float) -> dict[str, int]:
    """Return after how many seconds each problem of files is first told, within the next ones."""
    found: dict[str, int] = {}
    for second in range(1, round(seconds) + 1):
        board.clock.now += 1
        board.errors.look()
        for line in board.errors.problems():
            found.setdefault(line, second)
    return found


@pytest.mark.parametrize("how", ["missed", "pending"])
def test_a_file_that_was_parsed_in_vain_is_a_problem_within_a_minute(board: Board, how: str) -> None:
    """Airflow shows neither its DAG nor an error: the line names both, and where to look."""
    board.errors.write_problems([])
    setattr(board, how, {FILE: ["acme__job"]})
    ((line, second),) = said(board, 60).items()
    assert 30 < second < 55
    assert line.startswith(f"DAG file {FILE}: Airflow has found neither acme__job in it nor an error")
    assert "DAG processor's log" in line


def test_a_file_with_an_error_is_told_by_that(board: Board) -> None:
    """Airflow shows what is wrong there already."""
    board.errors.write_problems([])
    board.missed = {FILE: {"acme__job"}}
    board.shown = {FILE: "timed out"}
    assert said(board, 300) == {}


def test_a_file_whose_dags_are_found_is_a_problem_no_more(board: Board) -> None:
    """The line goes with the look that finds them."""
    board.errors.write_problems([])
    board.missed = {FILE: {"acme__job"}}
    assert said(board, 60)
    board.missed = {}
    board.touches(FILE, board.errors.INTERVAL)
    assert board.errors.problems() == []


def test_files_that_wait_among_many_are_no_problem(board: Board) -> None:
    """While Airflow finds one after the other, as at a first load, none was parsed in vain; the last of them was."""
    board.errors.write_problems([])
    board.pending = {f"tenants/{number}.py": [f"{number}__job"] for number in range(20)}
    for number in range(19):
        assert said(board, 25) == {}
        del board.pending[f"tenants/{number}.py"]
    assert [line.split(":")[0] for line in said(board, 60)] == ["DAG file tenants/19.py"]


def test_a_file_is_parsed_in_vain_while_others_change(board: Board) -> None:
    """Files that were written later, and that Airflow has found since, are no reason to wait for this one."""
    board.errors.write_problems([])
    board.pending = {FILE: ["acme__job"]}
    board.errors.look()
    told: dict[str, int] = {}
    for number in range(6):
        board.pending = {FILE: ["acme__job"], f"tenants/{number}.py": [f"{number}__job"]}
        told |= said(board, 10)
    assert [line.split(":")[0] for line in told] == [f"DAG file {FILE}"]


def test_no_more_files_are_named_than_somebody_reads(board: Board) -> None:
    """Twenty files and ten DAGs of each are named, and the number of the others."""
    board.errors.write_problems([])
    board.missed = {f"tenants/{number}.py": {f"{number}__{one}" for one in range(12)} for number in range(25)}
    lines = list(said(board, 60))
    assert len(lines) == 21
    assert lines[-1] == "DAG files: 5 more were parsed in vain"
    assert "more in it nor an error" in lines[0]
