"""A bundle's files on the processor's disk: what is written, what keeps its time, what stays, and what goes."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from dagfactory_consul.contents import Contents
from dagfactory_consul.layout import Layout, write_if_changed
from dagfactory_consul.occupancy import Parsed
from dagfactory_consul.release import Placement
from tests.bundles import Clock
from tests.test_contents import placed

Files = dict[str, Contents]


class Disk:
    """A layout, what it says now, and what Airflow would say of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.found: dict[str, Parsed] = {}
        self.pointing: set[str] = set()
        self.files: Files = {}
        self.layout = self._layout()

    def write(self, files: Files, *, code: str = "code/one", same_code: bool = True) -> Disk:
        """Lay out an edition after the one before."""
        self.layout.write(files, self.files, code, {"Job": ("os",)}, same_code=same_code)
        self.files = files
        return self

    def restart(self) -> Disk:
        """Forget what the process knows; an edition that is laid out again is its own past then."""
        self.layout = self._layout()
        return self

    def settle(self, seconds: float = 1.0) -> Disk:
        self.clock.now += seconds
        self.layout.settle()
        return self

    def parse(self, path: str) -> None:
        """Have Airflow find the DAGs of a file."""
        self.found |= {dag_id: Parsed(path, self.clock()) for dag_id in self.files[path].dags}

    def state(self, path: str) -> tuple[int, int, str]:
        """Return inode, time and text of a file, of which the time is long ago from now on."""
        file = self.path / path
        os.utime(file, ns=(1_000, 1_000))
        return self.seen(path)

    def seen(self, path: str) -> tuple[int, int, str]:
        file = self.path / path
        return file.stat().st_ino, file.stat().st_mtime_ns, file.read_text()

    def _layout(self) -> Layout:
        return Layout(self.path, self._pointed_at, self._parsed, self.clock)

    def _pointed_at(self, files: Collection[str]) -> Collection[str]:
        return self.pointing & set(files)

    def _parsed(self, dag_ids: Collection[str]) -> Mapping[str, Parsed]:
        return {dag_id: self.found[dag_id] for dag_id in dag_ids if dag_id in self.found}


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "dags")


def of(*dag_ids: str, limit: int = 10) -> Contents:
    """Return contents with these DAGs."""
    dags: list[Placement] = [placed(dag_id, config={"limit": limit}) for dag_id in dag_ids]
    return Contents("consul://here", {"acme": 7}, {each.spec.dag_id: each for each in dags})


A, B, SHARD = "tenants/a.py", "tenants/b.py", "shards/000.py"


def test_unchanged_files_are_not_rewritten(disk: Disk) -> None:
    """A file that says what it should keeps its inode and its time, by this process and by the next."""
    disk.write({A: of("a"), B: of("b")})
    before = disk.state(A)
    disk.write({A: of("a"), B: of("b", limit=11)})
    disk.restart().write({A: of("a"), B: of("b", limit=11)})
    assert disk.settle(100).seen(A) == before


def test_a_changed_file_has_a_new_time(disk: Disk) -> None:
    """A file whose DAGs have changed is another one, with a time of now."""
    disk.write({A: of("a")})
    before = disk.state(A)
    disk.write({A: of("a", limit=11)})
    assert disk.seen(A)[1] > before[1]


def test_a_changed_file_is_touched_once_more_when_it_was_found(disk: Disk) -> None:
    """A parse that was under way leaves a time before its own end: the file is touched after it, and only once."""
    disk.write({A: of("a")}).write({A: of("a", limit=11)})
    before = disk.state(A)
    assert disk.settle().seen(A) == before
    disk.parse(A)
    assert disk.settle().seen(A)[1] > before[1]
    before = disk.state(A)
    disk.settle().parse(A)
    assert disk.settle().settle(100).seen(A) == before


def test_a_changed_file_is_touched_when_a_parse_has_found_a_part_of_it(disk: Disk) -> None:
    """The parse that was under way may know only some of its DAGs; once all are found it is left alone."""
    disk.write({A: of("a")}).write({A: of("a", "b")})
    before = disk.state(A)
    disk.settle()
    disk.found["a"] = Parsed(A, disk.clock())
    assert disk.settle().seen(A)[1] > before[1]
    before = disk.state(A)
    assert disk.settle(15).seen(A)[1] > before[1]
    disk.settle().parse(A)
    before = disk.state(A)
    assert disk.settle(20).seen(A) == before


def test_a_changed_file_that_is_never_found_is_touched_in_the_end(disk: Disk) -> None:
    """Whatever Airflow says of it: after a while a changed file is touched all the same, and then left alone."""
    disk.write({A: of("a")}).write({A: of("a", limit=11)})
    before = disk.state(A)
    assert disk.settle(100).seen(A)[1] > before[1]
    disk.settle(5_000)
    before = disk.state(A)
    assert disk.settle(100).seen(A) == before


def test_a_new_file_is_not_touched(disk: Disk) -> None:
    """Nothing has parsed it before, so nothing can have missed it."""
    disk.write({A: of("a")})
    before = disk.state(A)
    disk.settle().parse(A)
    assert disk.settle().settle(100).seen(A) == before


def test_a_file_that_has_only_lost_dags_to_others_keeps_its_time(disk: Disk) -> None:
    """It brings nothing new, so it is not parsed again; its text is what it holds now."""
    disk.write({SHARD: of("a", "b")})
    before = disk.state(SHARD)
    disk.write({SHARD: of("b"), A: of("a", limit=11)})
    assert disk.seen(SHARD)[1] == before[1]
    assert '"a"' not in disk.seen(SHARD)[2]


def test_a_file_that_loses_a_dag_for_good_is_parsed_again(disk: Disk) -> None:
    """A DAG that is nowhere any more has to go from Airflow's list."""
    disk.write({SHARD: of("a", "b")})
    before = disk.state(SHARD)
    assert disk.write({SHARD: of("b")}).seen(SHARD)[1] > before[1]


def test_a_file_that_loses_a_dag_for_good_is_parsed_once_more_later(disk: Disk) -> None:
    """Airflow lets go of a DAG only when its file is parsed so long after it was last found there."""
    disk.write({SHARD: of("a", "b")}).write({SHARD: of("b")})
    disk.clock.now += 1
    disk.parse(SHARD)
    disk.settle()
    disk.clock.now += 1
    disk.parse(SHARD)
    before = disk.settle(40).state(SHARD)
    assert disk.settle(20).seen(SHARD)[1] > before[1]
    before = disk.state(SHARD)
    assert disk.settle(1_000).seen(SHARD) == before


def test_a_file_that_loses_one_and_changes_another_is_parsed_again(disk: Disk) -> None:
    """What changes is parsed, whatever else has left."""
    disk.write({SHARD: of("a", "b")})
    before = disk.state(SHARD)
    assert disk.write({SHARD: of("b", limit=11), A: of("a")}).seen(SHARD)[1] > before[1]


def test_a_dag_that_has_left_is_no_reason_to_touch_its_old_file(disk: Disk) -> None:
    """A shared file that was just written, and loses a DAG, is not parsed again for where that DAG is found now."""
    disk.write({SHARD: of("a", "b")}).write({SHARD: of("a", "b", limit=11)})
    disk.write({SHARD: of("b", limit=11), A: of("a", limit=12)})
    disk.clock.now += 1
    disk.parse(A)
    disk.parse(SHARD)
    disk.settle()
    before = disk.state(SHARD)
    assert disk.settle().settle().seen(SHARD) == before


def test_a_dag_found_again_in_the_file_that_it_left(disk: Disk) -> None:
    """A parse that was under way finds it there once more: its own file is touched until it is found in that."""
    disk.write({SHARD: of("a", "b")})
    disk.write({SHARD: of("b"), A: of("a", limit=11)})
    before = disk.state(A)
    disk.clock.now += 1
    disk.found["a"] = Parsed(SHARD, disk.clock())
    assert disk.settle().seen(A)[1] > before[1]
    disk.parse(A)
    before = disk.settle().state(A)
    assert disk.settle().seen(A) == before


def test_an_emptied_file_stays_as_a_stub_until_airflow_lets_go(disk: Disk) -> None:
    """A file that is gone makes its DAGs stale: one whose DAGs have all moved stays while a DAG points to it."""
    disk.write({SHARD: of("a")})
    before = disk.state(SHARD)
    disk.pointing = {SHARD}
    disk.write({A: of("a", limit=11)}).settle()
    assert disk.seen(SHARD)[1] == before[1]
    assert "emit" not in disk.seen(SHARD)[2]
    disk.restart().write({A: of("a", limit=11)}).settle()
    assert (disk.path / SHARD).exists()
    disk.pointing = set()
    disk.restart().write({A: of("a", limit=11)}).settle()
    assert not (disk.path / SHARD).exists()


def test_a_stub_that_is_used_again(disk: Disk) -> None:
    """A file that gets DAGs again is no stub any more, and does not go."""
    disk.write({SHARD: of("a")}).write({A: of("a", limit=11)}).write({SHARD: of("a", limit=12)})
    disk.settle()
    assert "emit" in disk.seen(SHARD)[2]


def test_a_file_whose_dags_are_gone_is_deleted_at_once(disk: Disk) -> None:
    """Its DAGs are to be stale, and are within a second."""
    disk.write({A: of("a"), B: of("b")}).write({B: of("b")})
    assert not (disk.path / A).exists()


def test_a_file_of_which_some_are_gone_and_some_have_moved(disk: Disk) -> None:
    """It may not vanish while one that moved points to it, and is parsed again for those that are gone."""
    disk.write({SHARD: of("a", "gone")})
    before = disk.state(SHARD)
    disk.pointing = {SHARD}
    disk.write({A: of("a", limit=11)}).settle()
    assert disk.seen(SHARD)[1] > before[1]
    assert "emit" not in disk.seen(SHARD)[2]
    before = disk.state(SHARD)
    assert disk.settle(60).seen(SHARD)[1] > before[1]


def test_new_code_rewrites_all(disk: Disk) -> None:
    """Each file names the code that it is built with: other code makes another file, to be parsed again."""
    disk.write({A: of("a"), SHARD: of("b", "c")})
    before = {path: disk.state(path) for path in (A, SHARD)}
    disk.write({A: of("a"), SHARD: of("b"), B: of("c")}, code="code/two", same_code=False)
    assert all(disk.seen(path)[1] > before[path][1] for path in before)


def test_many_dags_stand_beside(disk: Disk) -> None:
    """A file of many DAGs has them in another file, whose name changes with them; the old one stays for a while."""
    many = [f"d{number}" for number in range(30)]
    disk.write({SHARD: of(*many)})
    (old,) = (disk.path / "shards").glob("*.json")
    disk.write({SHARD: of(*many, limit=11)})
    found = set((disk.path / "shards").glob("*.json"))
    assert old in found
    (new,) = found - {old}
    assert new.name in disk.seen(SHARD)[2]
    disk.clock.now += 1_000
    disk.write({SHARD: of(*many, limit=11), A: of("a")})
    assert set((disk.path / "shards").glob("*.json")) == {new}


def test_a_shared_file_shows_nobodys_configuration(disk: Disk) -> None:
    """Airflow shows a file's text to all who may read one of its DAGs: so the configurations are not in it."""
    disk.write({A: of("a"), SHARD: of("b", "c")})
    text = disk.seen(SHARD)[2]
    assert "emit_from" in text
    assert '"config"' not in text
    assert '"config"' in disk.seen(A)[2]


def test_what_is_deleted_is_missed(disk: Disk) -> None:
    """Whatever of its files is gone, the layout is not whole, and writes them again; all others keep their time."""
    files = {A: of("a"), SHARD: of(*(f"d{number}" for number in range(30)))}
    disk.write(files)
    for path in [*disk.path.rglob("*.*"), *disk.path.glob("*/__pycache__")]:
        before = disk.state(A)
        assert disk.layout.is_whole
        path.unlink()
        assert not disk.layout.is_whole, path
        disk.write(files)
        assert path.exists()
        assert disk.seen(A) == before or path == disk.path / A
    assert disk.layout.is_whole


def test_what_is_written_into_a_file_by_hand_is_lost(disk: Disk) -> None:
    """The next process brings the files to what they should be, whatever somebody wrote there."""
    disk.write({A: of("a"), B: of("b")})
    before = disk.seen(A)[2]
    (disk.path / A).write_bytes(b"\xff raise SystemExit")
    (disk.path / B).unlink()
    (disk.path / "tenants/c.py").write_text("nobody's")
    disk.restart().write({A: of("a"), B: of("b")})
    assert disk.seen(A)[2] == before
    assert (disk.path / B).exists()
    assert not (disk.path / "tenants/c.py").exists()


@pytest.mark.parametrize("folder", ["tenants", "shards"])
def test_python_compiles_no_generated_file(disk: Disk, folder: str) -> None:
    """Python goes by whole seconds and size, and would run a file's former contents: here it sees the new ones."""
    disk.write({A: of("a"), SHARD: of("b")})
    file = disk.path / folder / "probe.py"
    for value in (1, 2):
        file.write_text(f"value = {value}\n")
        os.utime(file, (1_000, 1_000))
        assert load(file).value == value
    assert (disk.path / folder / "__pycache__").is_file()


def load(file: Path) -> Any:
    spec = spec_from_loader("probe", SourceFileLoader("probe", str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_code_is_none_of_airflows_files(disk: Disk) -> None:
    """The copied code is hidden from Airflow's look for DAG files."""
    assert "/code/" in disk.write({A: of("a")}).path.joinpath(".airflowignore").read_text().splitlines()


def test_code_that_nobody_needs_goes(disk: Disk, tmp_path: Path) -> None:
    """Of the versions of the code those that are needed stay, and what is just being made; a link is only unlinked."""
    for name in ("one", "two", ".code-new"):
        (disk.path / "code" / name).mkdir(parents=True)
    (tmp_path / "inner").mkdir()
    (disk.path / "code/linked").symlink_to(tmp_path / "inner")
    disk.layout.remove_code({"code/one"})
    assert sorted(path.name for path in (disk.path / "code").iterdir()) == [".code-new", "one"]
    assert (tmp_path / "inner").exists()


def test_a_file_that_says_so_already_is_left(tmp_path: Path) -> None:
    """It is said whether a file was replaced; what cannot be read as text is."""
    file = tmp_path / "file"
    assert write_if_changed(file, "text")
    assert not write_if_changed(file, "text")
    file.write_bytes(b"\xff")
    assert write_if_changed(file, "text")
