"""The builders that the documentation shows take hostile values as data, in a real shell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from dagfactory_consul import DAGFactory
from dagfactory_consul.builders import DagBuilder
from dagfactory_consul.plan import plan
from dagfactory_consul.registry import registry
from dagfactory_consul.tenants import Macro
from tests.making import registry_of, snapshot_of

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = ("{{ 1/0 }}", "{% raw %}", "; touch owned", "$(touch owned)", '"; touch owned; "', "../..", "x.sh", "-rf")
PROGRAM = '#!/bin/sh\nprintf "%s\\0" "$@" > "$SEEN"\n'
PAGES = {"Report": ROOT / "README.md", "Export": ROOT / "docs" / "builders.md"}


def example(name: str) -> type[DagBuilder[Any]]:
    """Return the builder of that name that the documentation shows."""
    blocks = re.findall(r"```python\n(.*?)```", PAGES[name].read_text(), re.DOTALL)
    source = next(each for each in blocks if f'@builder("{name}"' in each and "import" in each)
    scope: dict[str, Any] = {"__name__": f"example_{name}"}
    exec(compile(source, str(PAGES[name]), "exec", dont_inherit=True), scope)  # noqa: S102  # it is ours
    return scope[name]  # type: ignore[no-any-return]  # it has whatever the page says


def run(name: str, config: dict[str, Any], flags: dict[str, Any], folder: Path) -> list[str]:
    """Run the one task of an example, and return the arguments that its program got."""
    cls = example(name)
    program = {"Report": "report", "Export": "export-records"}[name]
    (folder / program).write_text(PROGRAM)
    (folder / program).chmod(0o755)
    # A model is code, and is not looked through for templates: they arrive here as if no check had been made.
    dag = DAGFactory("production").create(name, cls.config_model(**config), tenant="acme", flags=flags).build()
    task: Any = dag.tasks[0]
    task.resolve_template_files()
    task.render_template_fields({"dag": dag, "ds": "2026-01-01"})
    task.execute({})
    return (folder / "seen").read_text().split("\0")[:-1]


@pytest.fixture(autouse=True)
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that finds the examples' programs."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setattr(registry, "_definitions", {})
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_readmes_builder(tmp_path: Path, hostile: str) -> None:
    """What a flag says reaches the program as it is: nothing is rendered, loaded from a file, or run."""
    assert run("Report", {"days": 14}, {"report-format": hostile}, tmp_path) == ["acme", "14", hostile]
    assert not list(tmp_path.rglob("owned"))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_builder_of_the_page_on_builders(tmp_path: Path, hostile: str) -> None:
    """What a document says reaches the program as it is, and what may be a template is rendered."""
    config = {"customer": hostile, "target": {"folder": hostile}, "script": "weekly.sql", "queue_url": hostile}
    seen = run("Export", config, {}, tmp_path)
    assert seen == ["weekly.sql", hostile, hostile, "2026-01-01", hostile]
    assert not list(tmp_path.rglob("owned"))


ALLOWED = [ROOT / "SECURITY.md", ROOT / "docs" / "configuration.md"]


@pytest.mark.parametrize("page", ALLOWED, ids=lambda page: page.name)
def test_the_defaults_for_tenants_who_write_themselves(page: Path) -> None:
    """The `allow` that a page shows is valid, and refuses a tenant what is not its own."""
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    defaults = yaml.safe_load(next(each for each in blocks if "allow:" in each))
    own = {"pool": "acme", "queue": "default", "owner": "acme", "priority": 10, "tags": ["gold"]}
    others = {"pool": "globex", "queue": "root", "owner": "globex", "priority": 11, "tags": ["globex"]}
    documents = {"defaults": defaults, "tenants/acme": {"dags": {"Job": {"airflow": own}}}}
    assert plan(snapshot_of(documents), registry_of(), "production").problems == ()
    for name, value in others.items():
        documents["tenants/acme"] = {"dags": {"Job": {"airflow": {name: value}}}}
        (problem,) = plan(snapshot_of(documents), registry_of(), "production").problems
        assert "allow" in problem.message


def test_the_macros_that_are_named() -> None:
    """The page names all macros that a document may ever refer to."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    sentence = text.partition("The `macros` are ")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", sentence) == list(get_args(Macro))


def test_every_builder_that_is_shown_is_run() -> None:
    """An example that is added to the documentation is run here, too."""
    shown = {
        found
        for page in [ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")]
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        for found in re.findall(r'@builder\("(\w+)"', block)
        if "import" in block
    }
    assert shown == PAGES.keys()
