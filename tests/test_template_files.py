"""Texts of documents that Airflow would take for the names of files."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum
from typing import Any, Literal

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import literal

from dagfactory_consul import DagBuilder, DagConfig, Model
from dagfactory_consul.builders import Definition, build_dag
from dagfactory_consul.decisions import Decision
from dagfactory_consul.errors import BuildError
from dagfactory_consul.spec import DagSpec
from dagfactory_consul.verify import verify_spec


class Script(Enum):
    DAILY = "daily.sh"


class Deep(Model):
    path: str = "deep"


class Config(DagConfig):
    path: str = "own.sh"
    deep: Deep = Deep()
    choice: Literal["a.sh", "b.sh"] | None = None
    script: Script | None = None


def check(make: Any, *, flag: str = "v1", **config: Any) -> None:
    """Build the DAG of a builder whose one task is `make`, and verify it. Raises BuildError."""

    class Builder(DagBuilder[Config]):
        def tasks(self) -> None:
            make(self)

    definition = Definition("Job", Builder, Config)
    full = Config.model_validate(config).model_dump(mode="json")
    decisions = {"kind": Decision(flag, None, "STATIC")}
    spec = DagSpec("acme__job", "Job", "job", "production", full, "acme", {"tier": "gold.sh"}, decisions)
    verify_spec(build_dag(definition, spec), spec, Config)


def shell(take: Any, **arguments: Any) -> Any:
    return lambda builder: BashOperator(task_id="only", bash_command="true; ", env={"A": take(builder)}, **arguments)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "env": (shell(lambda b: b.config.path), {"path": "x.sh"}, r"path ends in \.sh, .* for env of the task only"),
    "joined": (shell(lambda b: f"/tmp/{b.config.path}"), {"path": "../x.bash"}, r"path ends in \.bash"),  # noqa: S108
    "deep": (shell(lambda b: [{"a": b.config.deep.path}]), {"deep": {"path": "x.sh"}}, r"deep\.path ends in"),
    "flag": (shell(lambda b: b.spec.flags["kind"]), {"flag": "x.sh"}, "the flag kind ends in"),
    "attribute": (shell(lambda b: b.attributes["tier"]), {}, r"attributes\.tier ends in"),
    "command": (
        lambda b: BashOperator(task_id="only", bash_command=b.config.path),
        {"path": "x.sh"},
        "for bash_command of the task only",
    ),
    "mapped": (
        lambda b: BashOperator.partial(task_id="only").expand(bash_command=["true", b.config.path]),
        {"path": "x.sh"},
        "for bash_command of the task only",
    ),
    "partial": (
        lambda b: BashOperator.partial(task_id="only", cwd=b.config.path).expand(bash_command=["true"]),
        {"path": "x.sh"},
        "for cwd of the task only",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_documents_text_names_no_file(case: str) -> None:
    """A text of a document that would have an operator load a file is an error: where it is, and what to do."""
    make, config, said = REFUSED[case]
    with pytest.raises(BuildError, match=said) as raised:
        check(make, **config)
    assert "literal" in str(raised.value)
    assert "x.sh" not in str(raised.value)


PASSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "a literal": (shell(lambda b: literal(b.config.path)), {"path": "x.sh"}),
    "a text within": (shell(lambda b: f"{b.config.path} "), {"path": "x.sh"}),
    "another operator's ending": (shell(lambda b: b.config.path), {"path": "x.sql"}),
    "a field that is not rendered": (shell(lambda _: "1", doc_md="x.sh"), {"path": "x.sh"}),
    "the model's default": (shell(lambda b: b.config.path), {}),
    "a choice": (shell(lambda b: b.config.choice), {"choice": "b.sh"}),
    "a choice of an enumeration": (shell(lambda b: b.config.script.value), {"script": "daily.sh"}),
    "a file of the builder's": (shell(lambda _: "made.sh"), {"path": "x.sh"}),
}


@pytest.mark.parametrize("case", PASSES)
def test_what_is_the_builders_own(case: str) -> None:
    """A literal, a default, a choice of the model and the builder's own file names pass."""
    make, config = PASSES[case]
    check(make, **config)


def test_who_has_no_such_operator_pays_nothing() -> None:
    """A task's start does not look for files' names."""
    code = "import sys, dagfactory_consul.task_start\nassert 'dagfactory_consul.template_files' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


JOINED: dict[str, Any] = {
    "two texts": (lambda b: b.config.path + b.config.deep.path, {"path": "{", "deep": {"path": "{ conn.x.login }}"}}),
    "a brace of the builder's": (lambda b: f"{{{b.config.path}}}", {"path": "{ conn.x.login }"}),
    "a statement": (lambda b: "{" + b.config.path, {"path": "% set x = 1 %}"}),
    "a brace at the end": (lambda b: b.config.path + "# x", {"path": "a{"}),
    "a flag": (lambda b: "{" + b.spec.flags["kind"], {"flag": "{ conn.x.login }}"}),
}


@pytest.mark.parametrize("kind", JOINED)
def test_texts_that_a_builder_joins_make_no_template(kind: str) -> None:
    """No text holds a template by itself, and the place where they meet does."""
    take, config = JOINED[kind]
    with pytest.raises(BuildError, match="and what the builder puts beside it make a template"):
        check(shell(take), **config)


def test_braces_beside_a_template_of_the_builders_are_text() -> None:
    """What does not meet a mark passes, and so does what is handed over as a literal."""
    check(shell(lambda b: f"{{{{ ds }}}} {b.config.path} {{"), path='{"a": 1}')
    check(shell(lambda b: literal("{" + b.config.path)), path="{ conn.x.login }}")
