from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from airflow.utils.db import add_default_pool_if_not_exists

from dagfactory_consul.cli import app
from tests.bundles import make_database
from tests.deployment import Deployment
from tests.making import write

PROGRAM = str(Path(sys.executable).with_name("dagfactory-consul"))


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment of one tenant, with the settings in the environment, where the commands find them."""
    deployment = Deployment(tmp_path, monkeypatch)
    deployment.put("tenants/acme", {"dags": {"Job": {}, "Other": {}}})
    return deployment


def run(*arguments: str | Path, status: int = 0, given: str | bytes = b"") -> str:
    """Run the program as a shell would, and return what it prints on the stream that belongs to its exit code."""
    text = given.encode() if isinstance(given, str) else given
    done = subprocess.run([PROGRAM, *map(str, arguments)], input=text, capture_output=True, check=False)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == status, out + err
    if status == 2:
        assert out == ""
        return err
    assert err == ""
    return out


def error(*arguments: str | Path, given: str | bytes = b"") -> str:
    """Return the one line that a command fails with."""
    said = run(*arguments, status=2, given=given)
    assert said.startswith("dagfactory-consul: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


def test_every_command_has_help() -> None:
    """Each command says what it does, and what its arguments and options are."""
    group: Any = typer.main.get_command(app)
    lacking = [
        f"{name} {each.name}"
        for name, command in group.commands.items()
        for each in (command, *command.params)
        if not each.help
    ]
    assert lacking == []


def test_help_works() -> None:
    """The program lists its commands, and each explains itself."""
    listed = run("--help")
    for command in ("push", "put", "get", "list", "delete", "plan", "status", "accept"):
        assert re.search(rf"\b{command}\b", listed), command
    assert "dagfactory-consul put" in run("put", "--help")


def test_without_a_command_there_is_help() -> None:
    """Who just tries it sees what there is."""
    done = subprocess.run([PROGRAM], capture_output=True, text=True, check=False)
    assert "Usage: dagfactory-consul" in done.stdout + done.stderr


def test_push(deployment: Deployment, tmp_path: Path) -> None:
    """A folder's documents are written into a store; the marker that the data is complete comes with them."""
    deployment.put("_ready", b"")
    (tmp_path / "other").mkdir()
    assert run("push", tmp_path / "config", "--store", tmp_path / "other").splitlines() == [
        "+ _ready",
        "+ tenants/acme",
        f"file://{tmp_path}/other: 2 added, 0 changed, 0 removed, 0 unchanged",
    ]
    assert (tmp_path / "other/_ready").exists()
    deployment.set(store=tmp_path / "other")
    assert "acme__job" in deployment.parse()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("tenants/bad", b"dags: [", "tenants/bad: malformed YAML"),
        ("tenants/big", b'{"a": "' + b"x" * 600_000 + b'"}', "tenants/big has 600,009 bytes; a value ends at 524,288"),
    ],
)
def test_push_writes_all_or_nothing(
    deployment: Deployment, tmp_path: Path, name: str, text: bytes, expected: str
) -> None:
    """One document that is malformed or too large, and nothing at all is written."""
    deployment.put(name, text)
    (tmp_path / "other").mkdir()
    assert expected in error("push", tmp_path / "config", "--store", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """A folder with the tenant `acme` changed, `hooli` new, and a file that is no document."""
    write(tmp_path / "draft/tenants/acme.yaml", "dags: {Job: {limit: 7}}")
    write(tmp_path / "draft/tenants/hooli.yaml", "dags: {Job: {}}")
    write(tmp_path / "draft/README.md", "# Our tenants")
    return tmp_path / "draft"


def test_push_says_what_it_changes(deployment: Deployment, draft: Path) -> None:
    """Each key that is written is named, with the files that are no documents; those are not written."""
    deployment.put("tenants/other", {})
    assert run("push", draft).splitlines() == [
        "~ tenants/acme",
        "+ tenants/hooli",
        "left out, since nobody reads these keys: README.md",
        f"file://{deployment.folder}/config: 1 added, 1 changed, 0 removed, 0 unchanged",
    ]
    assert not (deployment.folder / "config/README.md").exists()


def test_push_writes_what_differs(deployment: Deployment, draft: Path) -> None:
    """A document that is in the store already is not written again."""
    run("push", draft)
    before = (deployment.folder / "config/tenants/acme.yaml").stat().st_mtime_ns
    assert "0 added, 0 changed, 0 removed, 2 unchanged" in run("push", draft)
    assert (deployment.folder / "config/tenants/acme.yaml").stat().st_mtime_ns == before


def test_push_prunes(deployment: Deployment, draft: Path) -> None:
    """Documents that the folder lacks are removed on request; the marker, and files that are no documents, stay."""
    for key in ("tenants/zenith", "flags/old", "_ready"):
        deployment.put(key, b"true")
    (deployment.folder / "config/notes.txt").write_text("ours")
    said = run("push", draft, "--prune", "--yes").splitlines()
    assert [line for line in said if line.startswith("-")] == ["- flags/old", "- tenants/zenith"]
    assert run("list").split() == ["_ready", "notes.txt", "tenants/acme", "tenants/hooli"]


def test_push_asks_before_it_prunes(deployment: Deployment, draft: Path) -> None:
    """Without --yes somebody has to confirm a removal; a no writes nothing at all."""
    deployment.put("tenants/zenith", {})
    before = run("get", "tenants/acme")
    done = subprocess.run([PROGRAM, "push", draft, "--prune"], input="n\n", capture_output=True, text=True, check=False)
    assert "The folder lacks tenants/zenith." in done.stderr
    assert "nothing was written" in done.stderr
    assert (done.returncode, run("get", "tenants/acme")) == (2, before)


@pytest.mark.usefixtures("deployment")
def test_push_of_a_folder_without_documents(tmp_path: Path) -> None:
    """The wrong folder does not prune everything."""
    (tmp_path / "empty").mkdir()
    assert "holds no documents" in error("push", tmp_path / "empty", "--prune", "--yes")
    assert run("list").split() == ["tenants/acme"]


@pytest.mark.usefixtures("deployment")
def test_push_of_what_would_be_a_problem(draft: Path) -> None:
    """Documents with problems are all named, and nothing of the folder is written, unless it is forced."""
    write(draft / "tenants/bad.yaml", "attribute: {}")
    write(draft / "tenants/worse.yaml", "[]")
    said = run("push", draft, status=2).splitlines()
    assert said[0] == "dagfactory-consul: 2 problems. Nothing was written; --force writes it all the same"
    assert "problem: tenants/bad: attribute: unknown field, did you mean 'attributes'?" in said
    assert any(line.startswith("problem: tenants/worse: ") for line in said)
    assert "tenants/hooli" not in run("list")
    assert "+ tenants/bad" in run("push", draft, "--force")


@pytest.mark.usefixtures("deployment")
def test_push_of_no_folder(tmp_path: Path) -> None:
    """A folder that does not exist is an error that names it."""
    assert f"{tmp_path}/nowhere: the folder does not exist" in error("push", tmp_path / "nowhere")


def test_put(deployment: Deployment) -> None:
    """One document is written, from the command line or from standard input, and is in force with the next refresh."""
    assert run("put", "flags/job", "false") == f"flags/job written to file://{deployment.folder}/config\n"
    run("put", "tenants/hooli", "-", given='{"dags": {"Other": {}}}')
    assert sorted(deployment.parse()) == ["acme__other", "hooli__other"]


@pytest.mark.parametrize(
    ("arguments", "given", "expected"),
    [
        (("flags/job", "{"), b"", "flags/job: malformed JSON"),
        (("flags/job", "-"), b"", "flags/job: the value is empty"),
        (("flags/job", "-"), b"\xff", "flags/job: not UTF-8 text"),
        (("../x", "true"), b"", "'../x' cannot be a key"),
        (("", "true"), b"", "'' cannot be a key"),
        (("tenants/big", "-"), b'"' + b"x" * 600_000 + b'"', "a value ends at 524,288"),
    ],
)
def test_put_of_what_is_wrong(deployment: Deployment, arguments: tuple[str, str], given: bytes, expected: str) -> None:
    """What cannot be read back is not written."""
    before = sorted(deployment.folder.rglob("*"))
    assert expected in error("put", *arguments, given=given)
    assert sorted(deployment.folder.rglob("*")) == before


PROBLEMS = {
    "an unknown field": ("tenants/x", "attribute: {}", "did you mean 'attributes'?"),
    "null": ("tenants/x", "null", "expected an object with the fields of a tenant, not null"),
    "a list": ("defaults", "[]", "expected an object with the fields of the defaults, not a list"),
    "a key that nobody reads": ("tenant/x", "{}", "nobody reads this key, did you mean 'tenants'?"),
    "a bad id": ("tenants/India", "{}", "tenants/India: "),
    "a bad flag": ("flags/f", '{"variants": 1}', "flags/f: "),
    "a secret": ("tenants/x", "attributes: {password: hunter2-hunter2}", "attributes.password"),
    "a template": ("tenants/x", "attributes: {a: '{{ 1 }}'}", "attributes.a"),
}


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize("case", PROBLEMS)
def test_put_of_what_would_be_a_problem(case: str) -> None:
    """A document that has a problem by itself is refused without its values, unless it is forced."""
    key, text, expected = PROBLEMS[case]
    said = error("put", key, text)
    assert expected in said
    assert "hunter2" not in said
    assert "instead" not in said
    assert "?." not in said
    assert key not in run("list").split()
    run("put", key, text, "--force")
    assert key in run("list").split()


@pytest.mark.usefixtures("deployment")
def test_put_of_a_yaml_mapping() -> None:
    """A mapping on one line of YAML needs no quotes, and is stored as it was written."""
    run("put", "tenants/hooli", "{attributes: {tier: gold}}")
    assert run("get", "tenants/hooli") == "{attributes: {tier: gold}}\n"
    assert json.loads(run("get", "tenants/hooli", "--json")) == {"attributes": {"tier": "gold"}}


@pytest.mark.usefixtures("deployment")
def test_put_of_what_a_builder_may_take() -> None:
    """A template in the defaults of a builder is for the builder's model to refuse, which `put` does not know."""
    run("put", "defaults", "{dags: {Job: {mood: '{{ ds }}'}}}")


def test_get_and_list(deployment: Deployment) -> None:
    """One document as it is stored; all keys, or those that begin alike."""
    deployment.put("flags/job", b"true  # on")
    assert run("get", "flags/job") == "true  # on\n"
    assert run("list").split() == ["flags/job", "tenants/acme"]
    assert json.loads(run("list", "tenants/", "--json")) == ["tenants/acme"]
    assert "there is no key 'tenants/acne', did you mean 'tenants/acme'?" in error("get", "tenants/acne")


def test_delete(deployment: Deployment) -> None:
    """Keys are removed, whatever they hold; one that does not exist keeps all of them."""
    deployment.put("tenants/hooli", {})
    assert "nothing was removed: there is no key 'tenants/acne'" in error("delete", "tenants/hooli", "tenants/acne")
    assert "tenants/hooli removed from file://" in run("delete", "tenants/hooli")
    assert run("list").split() == ["tenants/acme"]


def test_the_version() -> None:
    """The version can be named in a report."""
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", run("--version"))


def test_plan_and_status_for_programs(deployment: Deployment) -> None:
    """A plan and a status can be read as JSON."""
    deployment.parse()
    deployment.put("tenants/hooli", {"dags": {"Job": {}}})
    found = json.loads(run("plan", "--json"))
    assert (found["added"], found["problems"], found["held"]) == (["hooli__job"], [], None)
    status = json.loads(run("status", "--json"))
    assert (status["deployments"], status["machine"]["dags"]) == ([], 2)


def test_plan_of_another_environment(deployment: Deployment) -> None:
    """An environment's layer of the defaults can be planned without a change of settings."""
    deployment.put("defaults", {"environments": {"staging": {"enabled": False}}})
    assert run("plan", "--environment", "staging").splitlines() == ["0 DAGs: 0 new, 0 changed, 0 to go"]


def test_plan_of_a_store_without_tenants(deployment: Deployment) -> None:
    """A store that is empty or holds no tenant is named, with the next step."""
    deployment.remove("tenants/acme")
    assert run("plan").splitlines() == [
        "0 DAGs: 0 new, 0 changed, 0 to go",
        f"file://{deployment.folder}/config holds no tenants. Write documents: dagfactory-consul push FOLDER",
    ]


def test_plan_of_what_is_new(deployment: Deployment) -> None:
    """Before the first parse everything is new, and planning leaves no trace."""
    assert run("plan").splitlines() == [
        "+ acme__job",
        "+ acme__other",
        "2 DAGs: 2 new, 0 changed, 0 to go",
    ]
    assert not (deployment.folder / "state").exists()


def test_plan_of_a_change(deployment: Deployment) -> None:
    """What an edit will do is shown before it is in force: what comes, what changes, and what goes."""
    deployment.parse()
    deployment.put("tenants/acme", {"dags": {"Job": {"limit": 7}}})
    deployment.put("tenants/hooli", {"dags": {"Job": {}}})
    assert run("plan").splitlines() == [
        "+ hooli__job",
        "~ acme__job",
        "- acme__other",
        "2 DAGs: 1 new, 1 changed, 1 to go",
    ]


def test_plan_with_a_problem(deployment: Deployment) -> None:
    """A problem is shown with what it leaves as it is, and the exit code says so."""
    deployment.parse()
    deployment.put("tenants/acme", {"dags": {"Job": {"limt": 7}}})
    assert run("plan", status=1).splitlines() == [
        "- acme__other",
        "! acme__job stays as it is, because of a problem",
        "problem: tenants/acme (DAG acme__job): dags.Job.limt: unknown field, did you mean 'limit'?",
        "1 DAGs: 0 new, 0 changed, 1 to go",
    ]


REFUSED = {
    "a schedule that is none": ({"schedule": "every hour"}, "Airflow does not take this DAG: "),
    "a schedule that never comes": ({"schedule": "0 0 31 2 *"}, "its schedule gives no run"),
    "a builder that raises": ({"mood": "raising"}, "raised ValueError: no such region"),
}


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize("case", REFUSED)
def test_plan_refuses_what_the_processor_refuses(tmp_path: Path, case: str) -> None:
    """What is new is built and checked, so a folder that passes is one that Airflow takes."""
    config, expected = REFUSED[case]
    write(tmp_path / "draft/tenants/hooli.yaml", json.dumps({"dags": {"Job": config}}))
    said = run("plan", "--store", tmp_path / "draft", status=1)
    assert "problem: tenants/hooli (DAG hooli__job): " in said
    assert expected in said


@pytest.mark.usefixtures("deployment")
def test_plan_looks_for_pools(tmp_path: Path) -> None:
    """A pool that Airflow's database does not have is a problem; without a database nothing is said of it."""
    write(tmp_path / "draft/tenants/hooli.yaml", json.dumps({"dags": {"Job": {"airflow": {"pool": "defautl_pool"}}}}))
    assert "+ hooli__job" in run("plan", "--store", tmp_path / "draft")
    make_database()
    add_default_pool_if_not_exists()
    said = run("plan", "--store", tmp_path / "draft", status=1)
    make_database()
    assert "there is no pool 'defautl_pool' (task only), did you mean 'default_pool'?" in said


def test_plan_of_a_folder_is_about_that_folder(deployment: Deployment, tmp_path: Path) -> None:
    """What is wrong in the deployment's own store, or held there, is no problem of another folder."""
    deployment.put("tenants/broken", b"{")
    deployment.parse()
    write(tmp_path / "draft/tenants/acme.yaml", json.dumps({"dags": {"Job": {}, "Other": {}}}))
    assert "problem" not in run("plan", "--store", tmp_path / "draft")


@pytest.mark.usefixtures("deployment")
def test_plan_of_another_store(tmp_path: Path) -> None:
    """A folder can be planned before it is pushed."""
    write(tmp_path / "draft/tenants/hooli.yaml", "dags: {Job: {}}")
    assert "+ hooli__job" in run("plan", "--store", tmp_path / "draft")


def test_plan_without_a_store(deployment: Deployment) -> None:
    """A store that cannot be read is an error, and not a plan to remove everything."""
    deployment.parse()
    deployment.unmount()
    assert "the folder does not exist: is it mounted?" in error("plan")


@pytest.mark.usefixtures("deployment")
def test_status_before_anything() -> None:
    """Before the first parse nothing is deployed, and the exit code says so."""
    assert "no DAG processor has deployed them" in run("status", status=1)


def test_status_of_a_store_that_holds_nothing(deployment: Deployment) -> None:
    """A new user first sees the store's address, the cause, and the next step."""
    deployment.remove("tenants/acme")
    said = run("status", status=1)
    assert said.startswith(f"Nothing is deployed: file://{deployment.folder}/config holds nothing. Write documents: ")
    deployment.unmount()
    assert "the folder does not exist" in run("status", status=1)


def test_status_names_what_is_held(deployment: Deployment) -> None:
    """Each key and DAG that is held is named."""
    deployment.parse()
    deployment.remove("tenants/acme")
    deployment.parse()
    held = [line.split()[1] for line in run("status").splitlines() if line.startswith("held ")]
    assert held == ["tenants/acme", "acme__job", "acme__other"]


def test_status(deployment: Deployment) -> None:
    """What is in force, where it came from, how old it is, and what is wrong."""
    deployment.put("tenants/bad", {"x": 1})
    deployment.put("flags/job", value=True)
    deployment.parse()
    deployment.put("flags/job", value=False)
    deployment.parse()
    deployment.later(3600)
    shown = dict(re.findall(r"(?m)^(store|snapshot|last asked|DAGs|problem) +(.*)$", run("status")))
    assert shown["store"] == f"file://{deployment.folder}/config"
    assert re.fullmatch(r"[0-9a-f]{16}, read \d+ s ago \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)", shown["snapshot"])
    assert re.match(r"36\d\d s ago", shown["last asked"])
    assert shown["DAGs"] == "1 active, 1 draining"
    assert shown["problem"].startswith("tenants/bad: x: unknown field")


def test_status_of_a_former_configuration(deployment: Deployment) -> None:
    """A DAG that keeps a former configuration is named, with when and why the present one was refused."""
    deployment.parse()
    deployment.put("tenants/acme", b"dags: [")
    deployment.parse()
    line = r"former      acme__job: its present configuration was refused \d+ s ago \(.* UTC\): tenants/acme: malformed"
    assert re.search(line, run("status"))


def test_status_of_a_store_that_fails(deployment: Deployment) -> None:
    """How often in a row the store has failed is shown, and that all stays in force."""
    deployment.parse()
    deployment.unmount()
    for _ in range(2):
        deployment.parse()
        deployment.later(1000)
    shown = run("status")
    assert "2 failures in a row" in shown
    assert "stays in force" in shown


def test_accept(deployment: Deployment) -> None:
    """What is held is put in force when somebody accepts exactly that."""
    deployment.parse()
    deployment.put("tenants/hooli", {"dags": {"Job": {}}})
    deployment.parse()
    for key in ("tenants/acme", "tenants/hooli"):
        deployment.remove(key)
    deployment.parse()
    (command,) = re.findall(r"dagfactory-consul (accept [0-9a-f]{16})", run("status"))
    assert run(*command.split(), "--show").splitlines() == [
        "- tenants/acme",
        "- tenants/hooli",
        "- acme__job",
        "- acme__other",
        "- hooli__job",
    ]
    assert (
        run("plan", status=1)
        .splitlines()[-2]
        .startswith(
            "held: the store is empty (DAGs: acme__job, acme__other, hooli__job). They stay until they are back. "
        )
    )
    assert "Accepted: the store is empty" in run(*command.split())
    assert {"draining" in dag.tags for dag in deployment.parse().values()} == {True}


def test_accept_of_something_else(deployment: Deployment) -> None:
    """Accepting what is not held changes nothing, and says what is."""
    assert "nothing is held" in error("accept", "0123")
    deployment.parse()
    deployment.remove("tenants/acme")
    deployment.parse()
    assert re.search(r"'0123' is not what is held, but [0-9a-f]{16}: the store is empty", error("accept", "0123"))


def test_an_unknown_setting(deployment: Deployment) -> None:
    """A setting that is misspelt is an error with the near miss, whatever the command is."""
    deployment.set(stroe="x")
    assert "unknown setting 'stroe' in section [dagfactory_consul], did you mean 'store'?" in error("status")


@pytest.mark.usefixtures("deployment")
def test_a_secret_in_the_stores_url() -> None:
    """Credentials have no place in a URL, and are not repeated in the error."""
    said = error("plan", "--store", "consul://user:hunter2@localhost")
    assert "must not hold credentials" in said
    assert "hunter2" not in said
