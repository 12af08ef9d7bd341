from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dagfactory_consul.errors import BuilderError
from dagfactory_consul.registry import Registry, absolute_origin, relative_origin
from tests.making import Job, code, definition, forget, fresh_registry, registry_of, write


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """This process's registry, as new; modules are found in `lib`."""
    with fresh_registry(tmp_path, time_limit=0.3) as fresh:
        monkeypatch.syspath_prepend(str(tmp_path / "lib"))
        yield fresh


def load(registry: Registry, *sources: str | Path) -> list[str]:
    """Load these sources alone, and return the names of the builders that are known then."""
    registry.load(map(str, sources), entry_points=False)
    return sorted(registry)


def messages(registry: Registry) -> str:
    return "\n".join(map(str, registry.problems))


def test_a_module(registry: Registry, tmp_path: Path) -> None:
    """A module is named as Python imports it."""
    write(tmp_path / "lib/jobs_module.py", code("One") + code("Two"))
    assert load(registry, "jobs_module") == ["One", "Two"]
    assert registry["One"].where == "jobs_module.One"


def test_a_package_with_all_in_it(registry: Registry, tmp_path: Path) -> None:
    """Of a package every module is imported, and those of the packages in it."""
    write(tmp_path / "lib/jobs_package/__init__.py", "")
    write(tmp_path / "lib/jobs_package/one.py", code("One"))
    write(tmp_path / "lib/jobs_package/inner/__init__.py", code("Two"))
    write(tmp_path / "lib/jobs_package/inner/three.py", code("Three"))
    assert load(registry, "jobs_package") == ["One", "Three", "Two"]


def test_a_folder_of_files(registry: Registry, tmp_path: Path) -> None:
    """Of a folder that is no package every Python file is read, and they may import each other."""
    write(tmp_path / "plain/one.py", code("One", top="from shared_part import NAME"))
    write(tmp_path / "plain/shared_part.py", "NAME = 'shared'")
    write(tmp_path / "plain/notes.txt", "no Python")
    assert load(registry, tmp_path / "plain") == ["One"]
    assert registry.problems == []


def test_a_folder_that_is_a_package(registry: Registry, tmp_path: Path) -> None:
    """A folder with an `__init__.py` is imported as the package that it is, relative imports and all."""
    write(tmp_path / "place/jobs_folder/__init__.py", "")
    write(tmp_path / "place/jobs_folder/base.py", code("Base"))
    write(tmp_path / "place/jobs_folder/one.py", code("One", base="Base", top="from .base import Base"))
    assert load(registry, tmp_path / "place/jobs_folder") == ["Base", "One"]
    assert registry["One"].where == "jobs_folder.one.One"


def test_one_file(registry: Registry, tmp_path: Path) -> None:
    """A source may be a single file."""
    assert load(registry, write(tmp_path / "single.py", code("One"))) == ["One"]


def test_an_entry_point(registry: Registry, tmp_path: Path) -> None:
    """An installed distribution brings its builders with it, without a setting."""
    write(tmp_path / "lib/jobs_dist/__init__.py", code("Packaged"))
    info = tmp_path / "lib/jobs_dist-1.0.dist-info"
    write(info / "METADATA", "Metadata-Version: 2.1\nName: jobs-dist\nVersion: 1.0\n")
    write(info / "entry_points.txt", "[dagfactory_consul.builders]\njobs = jobs_dist\n")
    registry.load([])
    assert "Packaged" in registry


def test_the_settings_sources_are_loaded_once(registry: Registry, tmp_path: Path) -> None:
    """Asking for a source again costs nothing: its modules are not run twice."""
    source = write(tmp_path / "counted.py", code("One", top=f"import os; os.mkdir({str(tmp_path / 'once')!r})"))
    assert load(registry, source) == load(registry, source) == ["One"]
    assert registry.problems == []


FAILURES = {
    "an error": ("raise ValueError('no licence')", "cannot be imported: ValueError: no licence"),
    "a missing dependency": ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
    "a mistake in its text": ("def broken(:", "SyntaxError"),
    "an exit": ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3"),
    "a hang": ("while True: pass", "cannot be imported: the import took longer than 0.3 s"),
    "a hang that takes exceptions for its own": (
        "while True:\n    try:\n        import time; time.sleep(9)\n    except Exception: pass",
        "the import took longer than 0.3 s",
    ),
    "a builder without a model": (
        "class X(DagBuilder[int]): pass",
        "X: the model in DagBuilder[…] must be a DagConfig, not <class 'int'>",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_module_that_fails_costs_its_own_builders(registry: Registry, tmp_path: Path, case: str) -> None:
    """Whatever a module does when it is imported, the others are there, and the problem names it and says why."""
    statement, expected = FAILURES[case]
    bad = write(tmp_path / "plain/a_bad.py", code("Bad") + statement + "\n")
    write(tmp_path / "plain/good.py", code("Good"))
    assert load(registry, tmp_path / "plain") == ["Good"]
    (problem,) = registry.problems
    assert problem.key == str(bad)
    assert expected in problem.message


def test_a_package_goes_on_after_a_module_that_fails(registry: Registry, tmp_path: Path) -> None:
    """One bad module of a package costs neither the package nor its other modules."""
    write(tmp_path / "lib/jobs_mixed/__init__.py", "")
    write(tmp_path / "lib/jobs_mixed/a_bad.py", "1 / 0")
    write(tmp_path / "lib/jobs_mixed/good.py", code("Good"))
    assert load(registry, "jobs_mixed") == ["Good"]
    assert "jobs_mixed.a_bad: cannot be imported: ZeroDivisionError" in messages(registry)


def test_two_builders_of_one_name(registry: Registry, tmp_path: Path) -> None:
    """The first one keeps the name; the problem names both classes."""
    write(tmp_path / "lib/jobs_first.py", code("Same"))
    write(tmp_path / "lib/jobs_second.py", code("Other") + code("Same"))
    assert load(registry, "jobs_first", "jobs_second") == ["Same"]
    assert registry["Same"].where == "jobs_first.Same"
    assert "two builders are named 'Same': jobs_first.Same and jobs_second.Same" in messages(registry)


def test_a_class_may_be_defined_again() -> None:
    """A module that is reloaded defines its own builders anew, and that is no clash."""
    registry = registry_of(definition())
    again = definition(gate="job")
    registry.add(again)
    assert registry["Job"] is again


def test_an_unknown_builder() -> None:
    """A name that is not known is an error with the near miss."""
    with pytest.raises(BuilderError, match=r"there is no builder 'Jbo', did you mean 'Job'\?"):
        registry_of(definition(), definition("Other", Job))["Jbo"]


def test_an_unknown_builder_may_stand_in_what_failed(registry: Registry, tmp_path: Path) -> None:
    """Where a module could not be imported the message says so: that is why the builder is unknown."""
    bad = write(tmp_path / "bad.py", "import nothing_of_this_name")
    load(registry, bad)
    assert registry.explain_unknown("Job").endswith(f"it may stand in what could not be imported: {bad}")


@pytest.mark.parametrize("source", ["/nowhere/builders", "jobs_of_nobody", "not a module"])
def test_a_source_that_is_not_there(registry: Registry, source: str) -> None:
    """A source that does not exist is a problem that names it, and loading goes on."""
    assert load(registry, source) == []
    (problem,) = registry.problems
    assert problem.key == source


def test_two_packages_of_one_name(registry: Registry, tmp_path: Path) -> None:
    """Python has one package of a name: the second folder is a problem, and its builders are not mistaken."""
    write(tmp_path / "one/jobs_twice/__init__.py", code("One"))
    write(tmp_path / "two/jobs_twice/__init__.py", code("Two"))
    assert load(registry, tmp_path / "one/jobs_twice", tmp_path / "two/jobs_twice") == ["One"]
    assert "another package of this name was imported before" in messages(registry)


PLACES = {
    "module": ("lib/jobs_m.py", "jobs_m"),
    "package": ("lib/jobs_p/one.py", "jobs_p"),
    "folder that is a package": ("place/jobs_f/one.py", "{tmp}/place/jobs_f"),
    "folder of files": ("plain/one.py", "{tmp}/plain"),
    "file": ("single.py", "{tmp}/single.py"),
    "file with an @ in its path": ("a@b/one.py", "{tmp}/a@b"),
    "package with an @ in its path": ("a@b/jobs_at/one.py", "{tmp}/a@b/jobs_at"),
}


def run(statement: str, *, path: Path) -> subprocess.CompletedProcess[str]:
    """Run a statement in a new process that has nothing but this folder on its path."""
    return subprocess.run(
        [sys.executable, "-c", statement],
        env={"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


@pytest.mark.parametrize("case", PLACES)
def test_one_builder_in_a_new_process(registry: Registry, tmp_path: Path, case: str) -> None:
    """What `origin` says is enough for a task's start to import that builder, and no other."""
    place, source = PLACES[case]
    file = tmp_path / place
    if "jobs_" in str(file.parent.name):
        write(file.parent / "__init__.py", "")
    write(file, code("One", top="import part_of_it" if case == "folder of files" else ""))
    write(tmp_path / "plain/part_of_it.py", "")
    write(file.parent / "other.py", code("Other"))
    load(registry, source.format(tmp=tmp_path))
    origin = registry.origin("One")
    statement = (
        "import sys; from dagfactory_consul.registry import registry; "
        f"registry.load_one('One', {origin!r}); print(*registry)"
    )
    done = run(statement, path=tmp_path / "lib")
    assert (done.stdout, done.returncode) == ("One\n", 0), done.stderr


def test_one_builder_that_is_not_there(registry: Registry, tmp_path: Path) -> None:
    """A builder whose module has moved, or no longer defines it, is an error that says what happened."""
    file = write(tmp_path / "single.py", code("One"))
    with pytest.raises(BuilderError, match=r"there is no builder 'Onne', did you mean 'One'"):
        registry.load_one("Onne", str(file))
    with pytest.raises(BuilderError, match=r"jobs_gone: .*No module named 'jobs_gone'"):
        registry.load_one("Two", "jobs_gone")


def fingerprint(folder: Path) -> str:
    """Return the fingerprint of a folder's builders, as a new process has it."""
    forget(folder)
    with fresh_registry(folder) as fresh:
        fresh.load([str(folder)], entry_points=False)
        return fresh.fingerprint()


def test_the_fingerprint_is_that_of_the_code(tmp_path: Path) -> None:
    """Equal code has an equal fingerprint; an edit, another file, or a module that fails changes it."""
    seen = []
    for name, text in {"one": code("One"), "two": "X = 1", "three": "raise ValueError"}.items():
        write(tmp_path / f"plain/{name}.py", text)
        seen.append(fingerprint(tmp_path / "plain"))
    assert fingerprint(tmp_path / "plain") == seen[-1]
    write(tmp_path / "plain/one.py", code("One", body="x = 1"))
    assert len({*seen, fingerprint(tmp_path / "plain")}) == 4


def test_modules_that_hang_share_their_time(registry: Registry, tmp_path: Path) -> None:
    """Each module that hangs halves what the next one may take, so that Airflow's limit for the file is not reached."""
    for name in ("a", "b", "c"):
        write(tmp_path / f"plain/{name}.py", "while True: pass")
    write(tmp_path / "plain/d.py", code("Good"))
    assert load(registry, tmp_path / "plain") == ["Good"]
    limits = [problem.message.rpartition("longer than ")[2] for problem in registry.problems]
    assert limits == ["0.3 s", "0.15 s", "0.075 s"]


def copied(root: Path) -> Path:
    """Write a package, and a folder of files, as builders' code that was copied below a root."""
    write(root / "0/jobs_copied/__init__.py", "")
    write(root / "0/jobs_copied/one.py", code("One"))
    write(root / "1/plain/two.py", code("Two"))
    return root


ORIGINS = {"One": "jobs_copied.one@./0", "Two": "./1/plain/two.py"}


@pytest.mark.parametrize(
    ("absolute", "relative"),
    [
        ("/code/v1/0/jobs.py", "./0/jobs.py"),
        ("/code/v1/a@b/jobs.py", "./a@b/jobs.py"),
        ("jobs.one@/code/v1/0", "jobs.one@./0"),
        ("jobs.one@/code/v1", "jobs.one@./."),
        ("/code/v10/jobs.py", "/code/v10/jobs.py"),
        ("jobs.one@/elsewhere", "jobs.one@/elsewhere"),
        ("jobs.one", "jobs.one"),
    ],
)
def test_an_origin_below_a_root(absolute: str, relative: str) -> None:
    """What lies below the root is told relative to it, and found again; all else is told as it is."""
    root = Path("/code/v1")
    assert relative_origin(absolute, root) == relative
    assert Path(absolute_origin(relative, root)) == Path(absolute)


def loaded_below(root: Path) -> tuple[dict[str, str], str, list[str]]:
    """Return what a new process says of the code below a root: origins, fingerprint, and the modules' names."""
    forget(root)
    with fresh_registry(root) as fresh:
        fresh.root = root
        fresh.load([str(root / "0/jobs_copied"), str(root / "1/plain")], entry_points=False)
        modules = [fresh[name].cls.__module__ for name in fresh]
        return {name: fresh.origin(name) for name in fresh}, fresh.fingerprint(), modules


def test_equal_code_has_equal_names_wherever_it_lies(tmp_path: Path) -> None:
    """Neither an origin, nor a module's name, nor the fingerprint says where on this machine the root is."""
    seen = [loaded_below(copied(tmp_path / name)) for name in ("here", "there/and/deeper")]
    assert seen[0] == seen[1]
    assert seen[0][0] == ORIGINS


def test_a_problem_is_told_relative_to_the_root(registry: Registry, tmp_path: Path) -> None:
    """Two machines say the same of a module that fails."""
    bad = write(tmp_path / "root/0/bad.py", "1 / 0")
    registry.root = tmp_path / "root"
    load(registry, bad, tmp_path / "root/nothing")
    assert [problem.key for problem in registry.problems] == ["./0/bad.py", "./nothing"]


@pytest.mark.parametrize("name", ORIGINS)
def test_one_builder_below_a_root(tmp_path: Path, name: str) -> None:
    """A task's start finds a builder by its relative origin; the same package elsewhere on the path does not win."""
    root = copied(tmp_path / "root")
    write(tmp_path / "dags/jobs_copied/__init__.py", "raise AssertionError('not this one')")
    statement = (
        "import sys; from pathlib import Path; from dagfactory_consul.registry import registry; "
        f"registry.load_one({name!r}, {ORIGINS[name]!r}, Path({str(root)!r})); "
        f"print(*registry, registry.origin({name!r}))"
    )
    done = run(statement, path=tmp_path / "dags")
    assert (done.stdout, done.returncode) == (f"{name} {ORIGINS[name]}\n", 0), done.stderr


@pytest.mark.parametrize("said", ["", "import jobs_copied.one; "], ids=["gone", "imported before"])
def test_one_builder_that_came_from_elsewhere(tmp_path: Path, said: str) -> None:
    """Code of a version that is not there is not replaced by what is on the path: that may be another version's."""
    root = copied(tmp_path / "root")
    elsewhere = Path(shutil.copytree(root / "0", tmp_path / "elsewhere"))
    if not said:
        shutil.rmtree(root / "0")
    statement = (
        f"{said}from pathlib import Path; from dagfactory_consul.registry import registry; "
        f"registry.load_one('One', {ORIGINS['One']!r}, Path({str(root)!r}))"
    )
    done = run(statement, path=elsewhere)
    assert done.returncode == 1
    assert f"One came from {elsewhere}/" in done.stderr
    assert f"instead of {root}: that is gone, or a package of the same name" in done.stderr


@pytest.mark.parametrize("name", ["One", "Two"])
def test_a_version_is_read_after_the_originals(tmp_path: Path, name: str) -> None:
    """One of Airflow's commands parses a project's file, which imports the originals, and then a tenant's."""
    root = copied(tmp_path / "root")
    originals = Path(shutil.copytree(root, tmp_path / "originals"))
    sources = [str(originals / "0/jobs_copied"), str(originals / "1/plain")]
    statement = (
        f"import sys; from pathlib import Path; from dagfactory_consul.registry import registry; "
        f"registry.load({sources}); before = registry[{name!r}].cls; "
        f"after = registry.load_one({name!r}, {ORIGINS[name]!r}, Path({str(root)!r})).cls; "
        f"print(before is not after, sys.modules[after.__module__].__file__.startswith({str(root)!r}))"
    )
    done = run(statement, path=originals / "0")
    assert (done.stdout, done.returncode) == ("True True\n", 0), done.stderr


def test_a_package_of_which_a_part_is_installed(tmp_path: Path) -> None:
    """What comes from the installed part is no copied code, and is found where it is."""
    extends = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
    for folder, name in {"root/0": "one", "lib": "two"}.items():
        write(tmp_path / folder / "jobs_parted/__init__.py", extends)
        write(tmp_path / folder / f"jobs_parted/{name}.py", code(name.title()))
    root = tmp_path / "root"
    start = f"from pathlib import Path; from dagfactory_consul.registry import registry; root = Path({str(root)!r}); "
    loads = "registry.root = root; registry.load([str(root / '0/jobs_parted')]); print(*map(registry.origin, registry))"
    done = run(start + loads, path=tmp_path / "lib")
    assert (done.stdout, done.returncode) == ("jobs_parted.one@./0 jobs_parted.two\n", 0), done.stderr
    for name, origin in zip(("One", "Two"), done.stdout.split(), strict=True):
        done = run(f"{start}registry.load_one({name!r}, {origin!r}, root)", path=tmp_path / "lib")
        assert done.returncode == 0, done.stderr


def test_copied_folders_keep_their_order(registry: Registry, tmp_path: Path) -> None:
    """Of two copied folders the first one is looked into first, and both before all that was on the path."""
    root = copied(tmp_path / "root")
    before = list(sys.path)
    registry.root = root
    load(registry, root / "0/jobs_copied", root / "1/plain")
    assert sys.path == [str(root / "0"), str(root / "1/plain"), *before]


def test_each_import_is_watched(registry: Registry, tmp_path: Path) -> None:
    """Whoever watches is told of each module before it is imported, and may refuse it."""
    write(tmp_path / "plain/bad.py", code("Bad"))
    write(tmp_path / "plain/good.py", code("Good"))
    seen: list[str] = []

    @contextmanager
    def watch(module: str) -> Iterator[None]:
        seen.append(Path(module).name)
        if module.endswith("bad.py"):
            raise BuilderError("it has crashed before")
        yield

    registry.watch = watch
    assert load(registry, tmp_path / "plain") == ["Good"]
    assert seen == ["bad.py", "good.py"]
    assert "bad.py: cannot be imported: it has crashed before" in messages(registry)
