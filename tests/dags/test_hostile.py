from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagfactory_consul import DAGFactory
from dagfactory_consul.plan import Plan, plan
from dagfactory_consul.registry import registry
from tests.making import snapshot_of

from .conftest import DAGS

HOSTILE = (
    "{{ 1/0 }}",
    "{% for each in [] %}",
    "; touch owned",
    "$(touch owned)",
    "`touch owned`",
    "../..",
    "x.sh",
    "x.sql",
)
POD = {"image": "registry.example/pipelines:1", "volume_claim": "results"}
BUILDERS = ["ProcessMessages", "ProcessInvoices"]


@pytest.fixture(scope="module")
def factory() -> DAGFactory:
    registry.load(["builders"])
    return DAGFactory("production", registry)


def in_code(factory: DAGFactory, name: str, config: dict[str, Any]) -> Any:
    """Build a project's DAG from a model, which is not looked through for templates as documents are."""
    model = registry[name].config.model_validate(config)
    return factory.create(name, model).build()


def rendered(task: Any) -> Any:
    """Return a task as it is when it starts: Airflow has filled in what is a template."""
    task.resolve_template_files()
    task.render_template_fields({"run_id": "run 1", "dag": task.dag})
    return task


def planned(tenant: dict[str, Any], defaults: dict[str, Any] | None = None) -> Plan:
    registry.load(["builders"])
    return plan(snapshot_of({"tenants/acme": tenant, "defaults": defaults or {}}), registry, "production")


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", BUILDERS)
def test_a_step_in_the_worker_gets_what_the_configuration_says(factory: DAGFactory, name: str, hostile: str) -> None:
    """Nothing in a configuration is rendered or read from a file where a step runs in Airflow's worker."""
    dag = in_code(factory, name, {"customers": [hostile], "output_dir": hostile})
    task = rendered(dag.get_task("fetch"))
    assert (task.op_args[2]["customers"], task.op_kwargs["output_dir"]) == ([hostile], hostile)
    assert task.op_kwargs["run_id"] == "run 1"


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_pod_gets_what_the_configuration_says(factory: DAGFactory, hostile: str) -> None:
    """Nothing in a configuration is rendered or read from a file where a step runs in a pod."""
    pod = {
        "image": hostile,
        "volume_claim": hostile,
        "namespace": hostile,
        "dags_folder": hostile,
        "env": {"A": hostile},
    }
    config = {"customers": [hostile], "output_dir": hostile, "runtime": "kubernetes", "kubernetes": pod}
    task = rendered(in_code(factory, "ProcessMessages", config).get_task("fetch"))
    assert (task.image, task.namespace) == (hostile, hostile)
    assert {each.name: each.value for each in task.env_vars} == {"A": hostile, "PYTHONPATH": hostile}
    assert task.volumes[0].persistent_volume_claim.claim_name == hostile
    assert f"--output-dir={hostile}" in task.arguments
    assert json.loads(task.arguments[-1].removeprefix("--options="))["customers"] == [hostile]


def test_a_pods_command_takes_hostile_values_as_data(factory: DAGFactory, tmp_path: Path) -> None:
    """The command of a pod does run with them, and does nothing but read the records of customers of these names."""
    pods = {"runtime": "kubernetes", "kubernetes": POD}
    config = {"customers": ["acme", *HOSTILE], "output_dir": str(tmp_path / "$(touch owned); x.sh"), **pods}
    dag = in_code(factory, "ProcessMessages", config)
    for step in ("fetch", "validate", "process", "report"):
        task = dag.get_task(step)
        task.render_template_fields({"run_id": "../../run", "dag": dag})
        command = [sys.executable, *task.cmds[1:], *task.arguments]
        subprocess.run(command, env={"PYTHONPATH": str(DAGS)}, cwd=tmp_path, capture_output=True, check=True)
    assert [each.name for each in tmp_path.iterdir()] == ["$(touch owned); x.sh"]
    (result,) = tmp_path.glob("*/*/*/*/result.json")
    assert json.loads(result.read_text())["by_customer"] == {"acme": 150}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("customers", ["globex"]),
        ("output_dir", "/etc"),
        ("runtime", "kubernetes"),
        ("kubernetes", {**POD, "namespace": "kube-system"}),
        ("kubernetes", {"env": {"LD_PRELOAD": "/results/evil.so"}}),
    ],
)
@pytest.mark.parametrize("name", BUILDERS)
def test_a_tenant_does_not_choose_where_and_for_whom_its_steps_run(name: str, field: str, value: object) -> None:
    """A tenant's document sets neither its pods, nor where results go, nor whose records are read."""
    found = planned({"dags": {name: {field: value}}})
    (problem,) = found.problems
    assert f"{name}.{field}: only the defaults may set this field" in str(problem)
    assert not found.specs


def test_the_defaults_say_what_the_pods_are() -> None:
    """What the platform's team says in the defaults is how each tenant's steps run."""
    pods = {"runtime": "kubernetes", "kubernetes": POD, "output_dir": "/results/out"}
    found = planned({"dags": {"ProcessMessages": {"max_body_chars": 7}}}, {"dags": {"ProcessMessages": pods}})
    config = found.specs["acme__process_messages"].config
    assert found.problems == ()
    assert (config["kubernetes"]["image"], config["max_body_chars"]) == (POD["image"], 7)


def test_no_tenant_reads_what_the_defaults_say_is_for_projects(factory: DAGFactory) -> None:
    """Whose records are read is a project's to say: a tenant's DAG with customers is not built."""
    builder = factory.create("ProcessMessages", {"customers": ["globex"]}, tenant="acme")
    with pytest.raises(ValueError, match="customers is for projects"):
        builder.build()


@pytest.mark.parametrize("name", ["A B", "A=B", "{{ x }}", ""])
def test_a_variable_of_a_pod_has_a_name(factory: DAGFactory, name: str) -> None:
    """A name that a shell could not set is refused: Airflow renders these names, and takes no literal for them."""
    with pytest.raises(ValueError, match="env"):
        in_code(factory, "ProcessMessages", {"runtime": "kubernetes", "kubernetes": {**POD, "env": {name: "1"}}})


def test_a_description_is_data(factory: DAGFactory) -> None:
    """The texts that each DAG has are shown as they are, and no file is read for them."""
    found = planned(
        yaml.safe_load("dags: {ProcessMessages: {description: x.md, airflow: {owner: x.sh, tags: [../..]}}}")
    )
    spec = found.specs["acme__process_messages"]
    dag = factory.create("ProcessMessages", spec.config, tenant="acme").build()
    assert (dag.description, dag.default_args["owner"]) == ("x.md", "x.sh")
    assert "../.." in dag.tags
