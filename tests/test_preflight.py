from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from dagfactory_consul import preflight
from dagfactory_consul.errors import DagFactoryError
from dagfactory_consul.preflight import Job, Preflight, Result
from dagfactory_consul.release import ACTIVE, DRAINING, Placement, Release
from dagfactory_consul.settings import Settings
from tests.making import code, snapshot_of, write
from tests.waiting import wait_until

MOODY = '''
import faulthandler, os, signal, subprocess, sys
from airflow.sdk import DAG
from pydantic import model_validator
from dagfactory_consul import DagBuilder, DagConfig, builder

HERE = {here!r}


def note(name, text):
    with open(os.path.join(HERE, name), "a") as file:
        file.write(text + "\\n")


class MoodyConfig(DagConfig):
    mood: str = "good"

    @model_validator(mode="after")
    def _may_crash(self):
        if self.mood == "crashing model":
            os._exit(1)
        if self.mood == "greedy model":
            hoard = [bytearray(2**26) for _ in range(2**20)]
        if self.mood == "refused":
            note("refused", "x")
            raise ValueError("it is refused")
        if self.mood == "hanging model":
            note("hung", "x")
        while self.mood == "hanging model":
            pass
        return self


class Moody(DagBuilder[MoodyConfig]):
    """Builds a DAG, or does what its configuration says."""

    def build(self):
        note("built", self.dag_id)
        with self.dag() as dag:
            self.tasks()
            self.be(self.config.mood, dag)
        return dag

    def tasks(self):
        from airflow.providers.standard.operators.empty import EmptyOperator

        EmptyOperator(task_id="first") >> EmptyOperator(task_id="last")

    def be(self, mood, dag):
        if mood == "exit 0":
            os._exit(0)
        if mood == "exit 1":
            os._exit(1)
        if mood == "segmentation fault":
            faulthandler.disable()  # the test runner's
            os.kill(os.getpid(), signal.SIGSEGV)
        if mood == "terminated":
            os.kill(os.getpid(), signal.SIGTERM)
        if mood == "sys.exit":
            sys.exit(3)
        if mood == "interrupt":
            raise KeyboardInterrupt("as Ctrl-C")
        if mood == "recursion":
            self.be(mood, dag)
        if mood == "greedy":
            hoard = [bytearray(2**26) for _ in range(2**20)]
        if mood == "memory":
            raise MemoryError("no more")
        while mood == "hang":
            pass
        while mood == "hang that swallows all":
            try:
                while True:
                    pass
            except BaseException:
                pass
        if mood == "cycle":
            dag.get_task("last") >> dag.get_task("first")
        if mood == "unserialisable":
            dag.timetable = object()
        if mood == "file.sh":
            dag.get_task("first").template_fields, dag.get_task("first").template_ext = ("owner",), (".sh",)
            dag.get_task("first").owner = mood
        if mood == "draining" and self.draining:
            raise ValueError("cannot drain")
        if mood == "database":
            from airflow import settings

            settings.Session()
        if mood == "forks":
            os.fork()
        if mood == "leaves a process":
            note("left", str(subprocess.Popen(["sleep", "60"]).pid))
        if mood == "slow":
            import time

            time.sleep(0.4)
        if mood == "prints":
            print("x" * 100_000)
        if mood == "closes":
            os.closerange(0, 256)
        if mood == "tells its process":
            note("process", str(os.getpid()))
            while True:
                pass


@builder("Moody")
class First(Moody): ...


@builder("Calm")
class Second(Moody): ...
'''

BAD_MOODS = {
    "exit 0": "building a__moody ended the process with exit status 0",
    "exit 1": "building a__moody ended the process with exit status 1",
    "segmentation fault": "building a__moody ended the process by SIGSEGV",
    "terminated": "building a__moody ended the process by SIGTERM",
    "sys.exit": "raised SystemExit: 3",
    "interrupt": "building a__moody ended with KeyboardInterrupt: as Ctrl-C",
    "recursion": "raised RecursionError",
    "memory": "raised MemoryError: no more",
    "greedy": "raised MemoryError (the setting AIRFLOW__DAGFACTORY_CONSUL__BUILD_MEMORY says",
    "greedy model": "MoodyConfig cannot take it: MemoryError (the setting AIRFLOW__DAGFACTORY_CONSUL__BUILD_",
    "hang": "building a__moody took longer than 1 s",
    "hang that swallows all": "building a__moody took longer than 1 s and could not be interrupted",
    "cycle": "Cycle detected in Dag",
    "unserialisable": "Airflow does not take this DAG",
    "file.sh": "ends in .sh, so Airflow would load a file",
    "database": "Direct database access via the ORM is not allowed",
    "crashing model": "working out its DAGs ended the process with exit status 1",
    "hanging model": "working out its DAGs took longer than 1 s",
}

HARMLESS_MOODS = ("forks", "prints", "closes", "leaves a process")


class Field:
    """A folder of builders, and a preflight that tries them."""

    def __init__(self, folder: Path, name: str = "code") -> None:
        self.here = folder
        self.root = folder / name
        write(self.root / "0/builders/moody.py", MOODY.format(here=str(folder)))
        self.settings = Settings(state_dir=folder, build_timeout=1.0, import_timeout=1.0, build_memory=256)
        self.preflight = Preflight(self.settings, folder / f"preflight-{name}", grace=0.5)
        self.code = "code"

    def job(
        self,
        moods: Mapping[str, str | None],
        before: Release | None = None,
        *,
        now: float = 0.0,
        unfinished: Mapping[str, bool] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Job:
        """Return a job for these tenants by their moods, with one DAG each; `Calm/…` names another builder."""
        documents = {f"tenants/{tenant}": _document(mood) for tenant, mood in moods.items() if mood is not None}
        documents |= more or {}
        sources = (str(self.root / "0/builders"),)
        return Job(
            snapshot_of(documents), before, {} if unfinished is None else unfinished, now, sources, self.root, self.code
        )

    def fly(self, moods: Mapping[str, str | None], before: Release | None = None, **more: Any) -> Result:
        """Do such a job to its end."""
        self.preflight.start(self.job(moods, before, **more))
        found = wait_until(lambda: self.preflight.wait(1.0), deadline=60)
        assert found is not None
        return found

    def built(self) -> Counter[str]:
        """Return how often each DAG was begun since this was asked last."""
        return Counter(self.read("built"))

    def read(self, name: str) -> list[str]:
        """Return what builders have noted, and forget it."""
        path = self.here / name
        lines = path.read_text().split() if path.exists() else []
        if lines:  # else somebody has just opened it to write
            path.unlink()
        return lines


def _document(mood: str) -> dict[str, Any]:
    builder, _, mood = mood.rpartition("/")
    return {"dags": {builder or "Moody": {"mood": mood, "description": mood, "name": "moody"}}}


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    made = Field(tmp_path)
    yield made
    made.preflight.stop()


def moods(release: Release) -> dict[str, str]:
    return {dag_id: placed.spec.config["mood"] for dag_id, placed in release.dags.items()}


def alive(process: str) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_all_that_is_wanted_is_verified(field: Field) -> None:
    """Every DAG of a first job is built once, verified with this code, and told where its builder is below the root."""
    result = field.fly({"a": "good", "b": "Calm/good"})
    assert field.built() == {"a__moody": 1, "b__moody": 1}
    assert {(placed.checked, placed.origin) for placed in result.release.dags.values()} == {
        (result.release.fingerprint, "./0/builders/moody.py")
    }
    assert (result.release.problems, result.unverified) == ((), ())


def test_only_what_changes_is_built(field: Field) -> None:
    """A flip costs the DAGs that it touches; all others are the very placements that the job had."""
    before = field.fly({"a": "good", "b": "good", "c": "good"}).release
    field.built()
    result = field.fly({"a": "good", "b": "better", "d": "good"}, before).release
    assert field.built() == {"b__moody": 1, "c__moody": 1, "d__moody": 1}
    assert result.dags["a__moody"] is before.dags["a__moody"]
    assert [placed.state for placed in result.dags.values()] == [ACTIVE, ACTIVE, DRAINING, ACTIVE]
    assert {placed.checked for placed in result.dags.values()} == {result.fingerprint}


def test_what_has_drained_goes(field: Field) -> None:
    """What the job knows of unfinished runs decides over what drains, as at a renewal."""
    before = field.fly({"a": "good"}).release
    for idle in (DRAINING, DRAINING, "gone"):
        before = field.fly({}, before, unfinished={"a__moody": False}).release
        assert before.dags["a__moody"].state == idle
    assert field.fly({}, before, now=field.settings.drain_time).release.dags == {}


@pytest.mark.parametrize("mood", BAD_MOODS)
def test_whatever_a_dag_does_it_harms_itself_alone(field: Field, mood: str) -> None:
    """A DAG keeps its last good configuration, or is not shown if it has none; its neighbours' changes go through."""
    before = field.fly({"a": "good", "b": "good"}).release
    result = field.fly({"a": mood, "b": "better", "c": "Calm/good", "d": mood}, before)
    assert moods(result.release) == {"a__moody": "good", "b__moody": "better", "c__moody": "good"}
    kept, new = result.release.problems
    assert (kept.key, kept.tenant, new.key, new.tenant) == ("tenants/a", "a", "tenants/d", "d")
    assert BAD_MOODS[mood] in kept.message
    assert result.unverified == ()


@pytest.mark.parametrize("mood", HARMLESS_MOODS)
def test_odd_ways_that_do_no_harm(field: Field, mood: str) -> None:
    """A builder that forks, prints or closes what it did not open builds a DAG like any other, and nothing is left."""
    result = field.fly({"a": mood, "b": "good"})
    assert moods(result.release) == {"a__moody": mood, "b__moody": "good"}
    assert result.release.problems == ()
    assert field.built() == {"a__moody": 1, "b__moody": 1}
    wait_until(lambda: not any(map(alive, field.read("left"))))


FAILING_MODULES = {
    "os._exit(0)": "cannot be imported: the import ended the process with exit status 0",
    "os._exit(1)": "cannot be imported: the import ended the process with exit status 1",
    "import faulthandler; faulthandler.disable(); os.kill(os.getpid(), 11)": "the import ended the process by SIGSEGV",
    "while True: pass": "cannot be imported: the import took longer than 1 s",
    "raise SystemExit(3)": "cannot be imported: SystemExit: 3",
    "raise GeneratorExit": "cannot be imported: the import ended with GeneratorExit",
    "import nothing_of_this_name": "No module named 'nothing_of_this_name'",
}


@pytest.mark.parametrize("statement", FAILING_MODULES)
def test_a_module_that_fails_costs_its_own_builders(field: Field, statement: str) -> None:
    """Whatever a module does at its import, all others are there; its DAGs stay as they were, with the code of then."""
    bad = write(field.root / "0/builders/bad.py", code("Bad", base="Moody", top="from moody import Moody"))
    before = field.fly({"a": "Bad/good", "b": "good"}).release
    bad.write_text(f"import os\n{statement}\n")
    field.code = "other code"
    result = field.fly({"a": "Bad/better", "b": "better"}, before)
    assert moods(result.release) == {"a__moody": "good", "b__moody": "better"}
    assert result.unverified == ("a__moody",)
    problem = next(each for each in result.release.problems if each.key == "./0/builders/bad.py")
    assert FAILING_MODULES[statement] in problem.message


def test_a_module_that_crashed_is_remembered(field: Field) -> None:
    """What has crashed is not tried again at the next job, until the code changes, or after a while."""
    bad = write(field.root / "0/builders/bad.py", "import os, moody\nmoody.note('tried', 'bad')\nos._exit(1)\n")
    tries = []
    for now, version in ((0.0, "one"), (9.0, "one"), (700.0, "one"), (701.0, "two")):
        field.code = version
        field.fly({"a": "good"}, now=now)
        tries.append(len(field.read("tried")))
    assert tries == [1, 0, 1, 1]
    bad.unlink()


def test_a_dag_that_crashed_is_remembered(field: Field) -> None:
    """A configuration that has crashed or hung is not tried again; another one of the same DAG is."""
    before = field.fly({"a": "good", "b": "good"}).release
    tries = []
    for a, b in (("exit 1", "hang"), ("exit 1", "hang"), ("exit 0", "better")):
        field.built()
        before = field.fly({"a": a, "b": b}, before).release
        tries.append(field.built())
    assert tries == [{"a__moody": 1, "b__moody": 1}, {}, {"a__moody": 1, "b__moody": 1}]
    assert moods(before) == {"a__moody": "good", "b__moody": "better"}


@pytest.mark.parametrize("mood", ["crashing model", "hanging model"])
def test_defaults_that_crash_are_nobodys_else(field: Field, mood: str) -> None:
    """They keep their last good contents, their own key is named, and a tenant's change goes through."""
    good = {"defaults": {"attributes": {"tier": "gold"}}}
    before = field.fly({"a": "good"}, more=good).release
    result = field.fly({"a": "better"}, before, more={"defaults": {"dags": {"Moody": {"mood": mood}}}})
    assert moods(result.release) == {"a__moody": "better"}
    assert result.release.dags["a__moody"].spec.attributes == {"tier": "gold"}
    (problem,) = result.release.problems
    assert (problem.key, problem.tenant) == ("defaults", None)
    assert "In force instead: its last good contents" in problem.message


def test_documents_that_hang_are_forgotten_one_by_one(field: Field) -> None:
    """Each that is tried again may take its whole limit, so no more than one is in a minute."""
    wanted = {"a": "hanging model", "b": "hanging model", "c": "good"}
    tries, before = [], None
    for now in (0.0, 700.0, 710.0, 770.0):
        before = field.fly({**wanted, "d": f"{now}"}, before, now=now).release
        tries.append(len(field.read("hung")))
    assert tries == [2, 1, 0, 1]


def test_a_document_with_problems_is_not_worked_out_again(field: Field) -> None:
    """Others' changes cost it nothing, and its problem stays."""
    before = field.fly({"a": "refused", "b": "good"}).release
    after = field.fly({"a": "refused", "b": "better"}, before).release
    assert field.read("refused") == ["x"]
    assert [each.tenant for each in after.problems] == ["a"]
    assert moods(after) == {"b__moody": "better"}


def test_documents_that_hang_cost_little_together(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once some have used up the time for slow documents each of the others has next to none."""
    monkeypatch.setattr(preflight, "POOL", 1.5)
    result = field.fly({f"t{number}": "hanging model" for number in range(5)} | {"z": "good"})
    limits = [each.message.rpartition("than ")[2] for each in result.release.problems]
    assert limits == ["1 s", "1 s", "0.5 s", "0.5 s", "0.5 s"]
    assert moods(result.release) == {"z__moody": "good"}


def test_a_crash_costs_one_attempt(field: Field) -> None:
    """What was verified before a crash is not built again after it."""
    result = field.fly({"a": "good", "b": "exit 1", "c": "good", "d": "hang that swallows all", "e": "good"})
    assert field.built() == dict.fromkeys(["a__moody", "b__moody", "c__moody", "d__moody", "e__moody"], 1)
    assert list(result.release.dags) == ["a__moody", "c__moody", "e__moody"]


def test_tenants_that_crash_a_builder_hold_up_nobody(field: Field) -> None:
    """However many tenants' configurations crash a builder that works for others, the others' changes are tried."""
    before = field.fly({"z": "good"}).release
    field.built()
    wanted = {"a": "exit 1", "b": "exit 1", "c": "exit 0", "d": "good", "e": "Calm/good", "z": "good"}
    result = field.fly(wanted, before)
    assert field.built() == dict.fromkeys(["a__moody", "b__moody", "c__moody", "d__moody", "e__moody"], 1)
    assert list(result.release.dags) == ["d__moody", "e__moody", "z__moody"]


def test_a_builder_that_crashes_for_everybody(field: Field) -> None:
    """A builder that has built nothing yet, and crashed for ten tenants, is not tried for the others."""
    result = field.fly({f"t{number:02}": "exit 1" for number in range(11)} | {"u": "good", "v": "Calm/good"})
    assert len(field.built()) == 11  # ten tenants', and the other builder's
    assert list(result.release.dags) == ["v__moody"]
    assert "not tried: Moody crashed or hung for t00__moody, t01__moody" in result.release.problems[-1].message


def test_many_dags_at_once(field: Field) -> None:
    """Where much is to be verified all cores do, with the same result: what fails harms itself alone."""
    wanted = {f"t{number:02}": "good" for number in range(60)}
    wanted |= {"t10": "exit 1", "t21": "hang that swallows all", "t30": "memory"}
    result = field.fly(wanted)
    failed = [problem.dag_id for problem in result.release.problems]
    assert failed == ["t10__moody", "t21__moody", "t30__moody"]
    assert set(moods(result.release).values()) == {"good"}
    assert len(result.release.dags) == 57
    assert field.built().total() <= 70  # a crash costs what it was at, and what the other cores were


def test_a_dag_that_cannot_drain(field: Field) -> None:
    """A DAG that begins to drain is built anew. One that fails then stays as it was: switched off it would be lost."""
    before = field.fly({"a": "draining"}).release
    result = field.fly({}, before)
    assert result.release.dags == before.dags
    assert "cannot drain; its last good configuration stays in force" in result.release.problems[0].message


def test_new_code_that_cannot_build_what_is_in_force(field: Field) -> None:
    """What is in force stays exactly as it was, with the fingerprint of the code that it was verified with."""
    before = field.fly({"a": "good", "b": "Calm/good"}).release
    broken = MOODY.format(here=str(field.here)).replace(
        'note("built"', 'assert type(self) is Second\n        note("built"'
    )
    write(field.root / "0/builders/moody.py", broken)
    field.code = "other code"
    result = field.fly({"a": "good", "b": "Calm/good"}, before)
    assert result.unverified == ("a__moody",)
    assert result.release.dags["a__moody"] == before.dags["a__moody"]
    assert "AssertionError" in result.release.problems[0].message


def test_new_code_that_is_refused_costs_little(field: Field) -> None:
    """Where new code takes turns with the code in force, what either of them has shown is not tried again."""
    before = field.fly({"a": "good", "b": "Calm/good"}).release
    write(field.root / "0/builders/bad.py", "import os, moody\nmoody.note('tried', 'bad')\nos._exit(1)\n")
    for b, built in (("Calm/good", {"a__moody": 1, "b__moody": 1}), ("Calm/better", {"b__moody": 1})):
        field.built()
        field.code = "other code"
        field.fly({"a": "good", "b": b}, before)
        assert field.built() == built
        field.code = "code"
        field.fly({"a": "good", "b": "Calm/good"}, before)
    assert field.read("tried") == ["bad", "bad"]  # once by each code


def test_modules_that_builders_need(field: Field) -> None:
    """Named are the modules of Airflow that a builder's module imports anywhere in it, if they can be imported."""
    optional = "try:\n    import airflow.nothing_of_this_name\nexcept ImportError:\n    pass\n"
    write(field.root / "0/builders/other.py", code("Other", top=f"import airflow.sdk.timezone\n{optional}"))
    found = field.fly({}).modules
    assert {name: found[name] for name in ("Calm", "Moody", "Other")} == {
        "Calm": ("airflow.providers.standard.operators.empty", "airflow.sdk"),
        "Moody": ("airflow.providers.standard.operators.empty", "airflow.sdk"),
        "Other": ("airflow.sdk.timezone",),
    }


def test_equal_code_is_equal_wherever_it_lies(field: Field, tmp_path: Path) -> None:
    """Two machines, or two versions, with the same code have the same release; another code has another fingerprint."""
    elsewhere = Field(tmp_path, "elsewhere")
    for each in (field, elsewhere):
        write(each.root / "0/builders/bad.py", "import nothing_of_this_name")
    one, two = field.fly({"a": "good"}), elsewhere.fly({"a": "good"})
    assert one == two
    field.code = "other code"
    assert field.fly({"a": "good"}).release.fingerprint != one.release.fingerprint


def test_waiting_does_not_block(field: Field) -> None:
    """`wait` returns in time while the job is at work, and a job that is stopped leaves no process."""
    field.preflight.start(field.job({"a": "tells its process"}))
    assert field.preflight.wait(0.0) is None
    assert field.preflight.busy
    (process,) = wait_until(lambda: field.read("process"))
    field.preflight.stop()
    assert (field.preflight.busy, alive(process), field.preflight.wait(9.0)) == (False, False, None)


def test_a_job_replaces_the_one_before_it(field: Field) -> None:
    """What another job has verified before it was stopped is not built again."""
    field.preflight.start(field.job({"a": "good", "b": "hang that swallows all"}))
    wait_until(lambda: "b__moody" in (field.here / "built").read_text() if (field.here / "built").exists() else False)
    field.built()
    result = field.fly({"a": "good", "b": "good"})
    assert field.built() == {"b__moody": 1}
    assert list(result.release.dags) == ["a__moody", "b__moody"]


PARENT = """
import sys
from pathlib import Path
import airflow.sdk.execution_time.supervisor
from tests.test_preflight import Field
field = Field(Path(sys.argv[1]))
field.preflight.start(field.job({"a": "tells its process"}))
sys.stdin.read()
"""


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    """However the processor ends, no child of it stays."""
    command = [sys.executable, "-c", textwrap.dedent(PARENT), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ}) as parent:
        found = wait_until(lambda: (tmp_path / "process").exists() and (tmp_path / "process").read_text(), deadline=60)
        parent.kill()
    wait_until(lambda: not alive(str(found).strip()))


class Faulty(dict[str, bool]):
    """Is asked in the child, and raises or kills it the first few times, as a fault of ours or the kernel would."""

    def __init__(self, here: Path, times: int = 10**6) -> None:
        super().__init__(a__moody=True)
        self.here, self.times = here, times

    def get(self, *_: Any) -> Any:
        with (self.here / "asked").open("a") as file:
            file.write("x")
        if self.times == 0:
            raise ZeroDivisionError("a fault of ours")
        if (self.here / "asked").stat().st_size <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_that_cannot_be_started(field: Field) -> None:
    """Where there is no room for its files a job does not begin, and the error says why."""
    write(field.here / "file", "")
    field.preflight = Preflight(field.settings, field.here / "file/preflight")
    with pytest.raises(DagFactoryError, match=r"the preflight cannot be started: .*Not a directory"):
        field.fly({"a": "good"})
    assert (field.preflight.busy, field.preflight.wait(0.0)) == (False, None)


@pytest.fixture
def draining(field: Field) -> Release:
    """A release with a DAG that drains, so that its runs are asked for."""
    return field.fly({}, field.fly({"a": "good"}).release).release


def test_a_fault_of_ours_is_told(field: Field, draining: Release) -> None:
    """An exception of our own comes out of `wait`, with the child's traceback, and the next job works."""
    with pytest.raises(DagFactoryError, match=r"(?s)failed at settling: ZeroDivisionError.*Traceback.*in settle"):
        field.fly({}, draining, unfinished=Faulty(field.here, 0))
    assert not field.preflight.busy
    assert list(field.fly({"b": "good"}, draining).release.dags) == ["a__moody", "b__moody"]


def test_a_child_that_is_killed_is_started_again(field: Field, draining: Release) -> None:
    """The kernel may end a process for its memory: three times that is taken for chance."""
    assert field.fly({}, draining, unfinished=Faulty(field.here, 3)).release.dags.keys() == draining.dags.keys()
    with pytest.raises(DagFactoryError, match=r"ended the process by SIGKILL: out of memory\?, 4 times.* at settling"):
        field.fly({}, draining, unfinished=Faulty(field.here))


def test_the_processors_handlers_are_its_own(field: Field) -> None:
    """A signal that reaches the child does not run what the processor does to end."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        (field.here / "handled").touch()

    previous = signal.signal(signal.SIGTERM, handler)
    try:
        assert field.fly({"a": "terminated"}).release.dags == {}
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert not (field.here / "handled").exists()


def test_the_processor_keeps_its_own(field: Field) -> None:
    """No builder is imported here, no handler, mask or path changes, and the environment is what it was."""

    def state() -> Any:
        handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        return handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ()), list(sys.path), dict(os.environ)

    before = state()
    field.fly({"a": "exit 1", "b": "good"})
    assert state() == before
    assert "moody" not in sys.modules


def test_what_falls_back_counts_as_verified(field: Field) -> None:
    """The old configuration is not built again where this code has verified it."""
    before = field.fly({"a": "good"}).release
    field.built()
    after = field.fly({"a": "memory"}, before).release
    assert field.built() == {"a__moody": 1}
    assert after.dags == before.dags


def test_a_placement_that_nobody_has_verified(field: Field) -> None:
    """What is in force from elsewhere, without a check, is verified like what is new."""
    known = field.fly({"a": "good"}).release
    before = known._replace(dags={"a__moody": Placement(known.dags["a__moody"].spec)})
    assert field.fly({"a": "good"}, before).release.dags["a__moody"].checked == known.fingerprint


def test_one_tenants_slow_dags_do_not_hold_up_the_others(field: Field) -> None:
    """None of them is over its limit. What is left when they have taken long together waits for the next job."""
    before = field.fly({"zenith": "good"}).release
    slow = [{"name": f"d{number:02}", "mood": "slow"} for number in range(12)]
    evil = {"tenants/evil": {"dags": {"Moody": slow}}}
    found, jobs = field.fly({"zenith": "Calm/good"}, before, more=evil), 1
    assert "zenith__moody" in found.release.dags
    assert found.release.dags["zenith__moody"].spec.builder == "Calm"
    assert 0 < sum(dag_id.startswith("evil__") for dag_id in found.release.dags) < 12
    assert "still to be checked, and stay as they were until then: evil__d" in str(found.release.problems)
    while not found.is_whole and jobs < 12:
        found, jobs = field.fly({"zenith": "Calm/good"}, found.release, more=evil), jobs + 1
    assert len(found.release.dags) == 13
    assert (found.is_whole, found.release.problems) == (True, ())
