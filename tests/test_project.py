"""Cheap rules of the project: what its files may hold, what an import costs, and which way imports run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dagfactory_consul"

ROWS = (
    (
        "errors folders settings models tenants problems sensitive documents keyed_file attempt decisions time_limit "
        "templates fields strict"
    ),
    "stores stores.*",
    "snapshot document_limits guard client",
    (
        "references spec targeting flags flag_set builders allowed checks registry factory defaults plan replan "
        "release settle changes"
    ),
    "arrangement contents manifest signature head history codebase edition occupancy template_files",
    "runtime runs columns next_run verify assembly",
    "note papers job culprits crashes child scouts trial preflight",
    "renewal parse task_start project loader hook provider",
    "generated watch layout unfound import_errors retention rivals reporting failure advice quiet",
    "trust agreement rollout processor worker cron bundle plugin",
    "cli cli.*",
)
"""The modules, row by row: each imports only what stands in its own row or above. A name may end with `.*`."""

WITH_AIRFLOW = {
    "advice",
    "assembly",
    "builders",
    "bundle",
    "child",
    "codebase",  # an inner bundle
    "columns",
    "cron",
    "generated",
    "hook",
    "next_run",
    "occupancy",
    "parse",
    "plugin",
    "preflight",
    "renewal",
    "reporting",
    "rivals",
    "runs",
    "signature",  # its fernet key
    "stores.consul_settings",  # a connection by its id
    "stores.filesystem",  # a connection by its id, too
    "stores.variables",
    "task_start",
    "template_files",
    "trial",
    "verify",
}
"""The modules, and packages with all in them, whose subject is Airflow."""

NEVER_AT_IMPORT = ("airflow", "httpx", "requests", "consul", "urllib3", "pydantic")
"""What `import dagfactory_consul` must not load: a command's `--help`, and a parse, pay only for what they use."""

REGISTRIES = re.compile(
    "|".join(
        re.escape(".".join(words))
        for words in (
            ("pypi", "org"),
            ("python" + "hosted", "org"),
            ("pypi", "python", "org"),
            ("deb", "debian", "org"),
            ("security", "debian", "org"),
            ("archive", "ubuntu", "com"),
            ("registry", "npmjs", "org"),
            ("registry", "yarnpkg", "com"),
            ("anaconda", "org"),
            ("docker", "io"),
            ("ghcr", "io"),
        )
    )
)
"""Hosts of package and image registries, spelt so that this file does not hold them itself."""


def modules() -> dict[str, Path]:
    """Return all modules by name below the package: `client`, `stores.base`; the package itself is empty."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path) -> Iterator[str]:
    """Yield the full name of everything a module imports, wherever in it, relative imports resolved.

    What only a type checker imports counts too: it is knowledge of the other module all the same.
    """
    package = ["dagfactory_consul", *name.split(".")] if name else ["dagfactory_consul"]
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def inner(imported: str) -> str | None:
    """Return the module of this package that an import reaches; None for others, and for the package as a whole."""
    words = imported.split(".")
    if words[0] != "dagfactory_consul":
        return None
    known = modules()
    names = (".".join(words[1:end]) for end in range(len(words), 1, -1))
    return next((name for name in names if name in known), None)


def row(name: str) -> int:
    """Return the number of a module's row; a module that stands in none is an error."""
    for number, names in enumerate(ROWS):
        for each in names.split():
            if name == each or (each.endswith(".*") and name.startswith(each[:-1])):
                return number
    raise AssertionError(f"{name} stands in no row: give it one in tests/test_project.py, and in the design")


def within(name: str, allowed: set[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


def tracked() -> list[Path]:
    """Return the files that are or would be committed; all but hidden folders' where this is no Git checkout."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    names = done.stdout.splitlines() if done.returncode == 0 else []
    found = [ROOT / name for name in names] or [
        path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts[:-1])
    ]
    return [path for path in found if path.is_file()]


@pytest.mark.parametrize("name", [name for name in modules() if name])
def test_a_row_imports_only_rows_above_it(name: str) -> None:
    """Imports run one way: a module knows those of its own row and of the rows above."""
    reached = {other for each in imports(name, modules()[name]) if (other := inner(each))}
    assert [other for other in sorted(reached) if row(other) > row(name)] == []


@pytest.mark.parametrize("name", list(modules()))
def test_airflow_is_imported_only_where_it_is_the_subject(name: str) -> None:
    """Airflow is imported in a few modules; all others can be used and tested without it."""
    reached = {each for each in imports(name, modules()[name]) if each.split(".")[0] == "airflow"}
    assert within(name, WITH_AIRFLOW) or not reached


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    """The two rules above see imports inside functions, and relative ones of every depth."""
    module = tmp_path / "base.py"
    module.write_text(
        "import a.b\ndef f():\n    from ..errors import E\n    from . import memory\n    from airflow import x\n"
    )
    assert list(imports("stores.base", module)) == [
        "a.b",
        "dagfactory_consul.errors.E",
        "dagfactory_consul.stores.memory",
        "airflow.x",
    ]


@pytest.mark.parametrize("unwanted", NEVER_AT_IMPORT)
def test_the_package_is_cheap_to_import(unwanted: str) -> None:
    """`import dagfactory_consul` loads neither Airflow nor an HTTP client."""
    code = f"import sys, dagfactory_consul; sys.exit({unwanted!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_every_requirement_is_pinned_and_hashed() -> None:
    """The lock file names one version and its hashes for everything, and nothing else."""
    lines = (ROOT / "requirements.lock").read_text().replace("\\\n", "").splitlines()
    wrong = [
        line for line in lines if not re.fullmatch(r"[\w.-]+==\S+( ;[^#]+?)?(\s+--hash=sha256:[0-9a-f]{64})+", line)
    ]
    assert wrong == []
    assert len(lines) > 100


def test_the_lock_has_what_the_set_up_itself_needs() -> None:
    """What installs and builds the project is locked too, the installer at the version that the Makefile fetches."""
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {"hatchling", "editables", "uv"} <= set(locked)
    assert f"UV_VERSION := {locked['uv']}\n" in (ROOT / "Makefile").read_text()


def test_uv_is_fetched_with_its_hashes() -> None:
    """What the Makefile takes from the lock for the first step is uv alone, with all its hashes."""
    (program,) = re.findall(r"awk '(.*uv==.*)' requirements\.lock", (ROOT / "Makefile").read_text())
    done = subprocess.run(["awk", program, ROOT / "requirements.lock"], check=True, capture_output=True, text=True)
    first, *hashes = done.stdout.replace("\\\n", "").split()
    assert re.fullmatch(r"uv==\S+", first)
    assert len(hashes) > 5
    assert all(each.startswith("--hash=sha256:") for each in hashes)


def test_the_images_lock_is_a_part_of_the_lock() -> None:
    """The image gets the packages that are tested, with their hashes, and none that only tests need."""
    whole, part = (
        {block.split("==")[0]: block for block in re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())}
        for name in ("requirements.lock", "docker/requirements.lock")
    )
    assert all(whole[name] == block for name, block in part.items())
    assert all("--hash=sha256:" in block for block in part.values())
    assert {"apache-airflow", "py-consul", "hatchling"} <= part.keys()
    assert not {"pytest", "ruff", "mypy"} & part.keys()


def test_the_lock_has_all_that_the_project_asks_for() -> None:
    """What pyproject.toml names is locked: `make lock` has run since it was added."""
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = [each for extra in said["project"]["optional-dependencies"].values() for each in extra]
    wanted = [*said["project"]["dependencies"], *extras, *said["dependency-groups"]["dev"]]
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    names = {re.split(r"[^\w.-]", each)[0].lower().replace("_", "-") for each in wanted}
    assert sorted(names - set(locked)) == []


def test_no_file_names_a_registry() -> None:
    """Where packages come from is the machine's business: no file of the project says it."""
    found = [path for path in tracked() if REGISTRIES.search(path.read_bytes().decode(errors="replace"))]
    assert found == []
