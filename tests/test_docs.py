"""The documentation says what is true: its table of settings, and what the README shows."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dagfactory_consul.cli import app
from dagfactory_consul.settings import Settings
from demo import tour

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "/tmp/first-flip"  # noqa: S108  # what a newcomer types
README = (ROOT / "README.md").read_text()

HEAD = """# Settings

In section `[dagfactory_consul]` of `airflow.cfg`, or as environment variables `AIRFLOW__DAGFACTORY_CONSUL__<NAME>`,
as all of Airflow's. Every one may be given among the bundle's `kwargs`, or to `load_dags` and `load_problems` as a
keyword, and wins there. An unknown one is an error. `airflow config list --section dagfactory_consul` shows them too.
None is secret: a Consul's token is [its own affair](stores.md). `TTL` is for the plain loader; `DEPLOYMENT`, those of
the history, `OWN_FILES` and `SHARDS` are for the bundle.

| name | default | meaning |
|---|---|---|
"""


COMMANDS_HEAD = """# Commands

`dagfactory-consul` reads the same [settings](settings.md) as the DAG files: environment variables, or `airflow.cfg`.
[Stores](stores.md) says where it finds a store's token.

| exit code | meaning |
|---|---|
| 0 | Done. Nothing has to be mended. |
| 1 | `plan` found a problem or something held, or `status` found nothing deployed. |
| 2 | Nothing was done. Standard error says why. |

`python -m tests.test_docs` writes this page from the commands' own help.
"""


def commands_page() -> str:
    """Return docs/commands.md as it has to be."""
    group: Any = typer.main.get_command(app)
    return COMMANDS_HEAD + "".join(_command(name, command) for name, command in group.commands.items())


def _name(parameter: Any) -> str:
    name: str = parameter.opts[0]
    return name if parameter.param_type_name == "option" else name.upper()


def _command(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = [_name(each) + "…" * (each.nargs == -1) for each in arguments]
    usage = [text if each.required else f"[{text}]" for text, each in zip(usage, arguments, strict=True)]
    rows = [f"| `{_name(each)}` | {each.help} |\n" for each in command.params]
    said = "\n\n".join(" ".join(each.split()) for each in command.help.split("\n\n"))
    return f"\n## `{' '.join([name, *usage])}`\n\n{said}\n\n| argument | meaning |\n|---|---|\n{''.join(rows)}"


def test_every_command_is_documented() -> None:
    """docs/commands.md has all commands with their arguments and options; `python -m tests.test_docs` writes it."""
    assert (ROOT / "docs" / "commands.md").read_text() == commands_page()


def settings_page() -> str:
    """Return docs/settings.md as it has to be."""
    rows = [
        f"| `{name.upper()}` | {f'`{default}`' if default else ''} | {about}"
        + (f" Example: `{example}`." if example else "")
        + " |\n"
        for name, _, default, example, about in Settings.describe()
    ]
    return HEAD + "".join(rows)


def test_every_setting_is_documented() -> None:
    """docs/settings.md is the one table of all settings; `python -m tests.test_docs` writes it."""
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page()


@pytest.mark.timeout(400)  # three plans build all DAGs, on whatever machine
def test_the_readme_shows_what_its_commands_print(tmp_path: Path) -> None:
    """Each command of the README, run one after the other, prints what stands below it."""
    shown: list[str] = []
    script = ["set -e"]
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            if not command.startswith("make "):
                script += [f"{command} || true", f"echo ---{len(shown)}"]
                shown.append(output.strip())
    text = "\n".join(script).replace(FOLDER, f"{tmp_path}/first-flip")
    text = text.replace("$PWD/.venv/bin", str(Path(sys.executable).parent))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "CONSUL"))}
    ended = subprocess.run(["bash", "-c", text], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    printed = [each.strip() for each in re.split(r"---\d+\n", ended.stdout)[:-1]]
    printed = [each.replace(f"{tmp_path}/first-flip", FOLDER) for each in printed]
    logged = [re.sub(r"^.*loc=.*$", "", each, flags=re.MULTILINE).strip() for each in printed]
    assert logged == shown, ended.stderr


def test_the_readme_shows_the_tour_that_is_taken() -> None:
    """The tour in the README has the steps of the tour, in order, and all of them succeed."""
    block = next(each for each in re.findall(r"```text\n(.*?)```", README, re.DOTALL) if "steps succeeded" in each)
    steps = [step.__name__.replace("_", " ") for step in tour.STEPS]
    assert [step for step in steps if re.search(rf"ok +[\d.]+ s  {step}", block)] == steps
    assert f"{len(steps)} of {len(steps)} steps succeeded" in block


def test_the_readme_builder_builds() -> None:
    """The builder of the README is a builder, and its configuration is refused where it is wrong."""
    from dagfactory_consul import DAGFactory
    from dagfactory_consul.errors import BuildError

    source = next(each for each in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "@builder" in each)
    exec(compile(source, "README.md", "exec"), {"__name__": "readme"})  # noqa: S102  # it is ours
    dag = DAGFactory("production").create("Report", {"days": 14}, tenant="acme").build()
    made: Any = dag.get_task("make")
    assert getattr(made, "bash_command", None) == 'report "$TENANT" "$DAYS" "$FORMAT"'
    made.render_template_fields({"dag": dag})
    assert getattr(made, "env", None) == {"TENANT": "acme", "DAYS": "14", "FORMAT": "csv"}
    with pytest.raises(BuildError, match="did you mean 'days'"):
        DAGFactory("production").create("Report", {"dayz": 14})


def test_the_readme_configuration_keeps_the_users_own_bundles() -> None:
    """The README's airflow.cfg has Airflow's own bundle beside the tenants', one secret for all, and known settings."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(next(iter(re.findall(r"```ini\n(.*?)```", README, re.DOTALL))))
    bundles = json.loads(parser["dag_processor"]["dag_bundle_config_list"])
    assert [each["name"] for each in bundles] == ["dags-folder", "tenants"]
    imports = [each["classpath"].rpartition(".") for each in bundles]
    code = "".join(f"from {module} import {name}\n" for module, _, name in imports)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert parser["api_auth"]["jwt_secret"]
    assert set(parser["dagfactory_consul"]) <= {name for name, *_ in Settings.describe()}


def test_links_lead_somewhere() -> None:
    """Every relative link in the documentation leads to a file that exists."""
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


if __name__ == "__main__":
    (ROOT / "docs" / "settings.md").write_text(settings_page())
    (ROOT / "docs" / "commands.md").write_text(commands_page())
