from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagfactory_consul import DAGFactory
from dagfactory_consul.errors import BuildError
from dagfactory_consul.plan import Plan, plan
from dagfactory_consul.registry import registry
from dagfactory_consul.snapshot import from_reading
from dagfactory_consul.stores import Reading, open_store

from .conftest import DAGS, ROOT

STEPS = ["fetch", "validate", "process", "report"]
PODS = {
    "runtime": "kubernetes",
    "kubernetes": {
        "image": "registry.example/pipelines:1",
        "volume_claim": "results",
        "namespace": "acme",
        "env": {"LOG_LEVEL": "debug"},
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "2Gi"},
    },
}
BUILDERS = ["ProcessMessages", "ProcessInvoices"]


@pytest.fixture(scope="module")
def factory() -> DAGFactory:
    registry.load(["builders"])
    return DAGFactory("production", registry)


def serialise(dag: Any) -> str:
    from airflow.serialization.serialized_objects import DagSerialization

    return json.dumps(DagSerialization.to_dict(dag), sort_keys=True, default=str)


@pytest.mark.parametrize("source", ["builders", str(DAGS / "builders")])
def test_the_builders_are_found_as_a_package_and_as_a_folder(source: str) -> None:
    """The setting may name the package or the folder; both find both builders, with nothing else on the path."""
    code = (
        "import json, sys; from dagfactory_consul.registry import registry\n"
        f"registry.load([{source!r}]); print(json.dumps([sorted(registry), list(map(str, registry.problems))]))\n"
        "assert 'airflow' not in sys.modules, 'the configuration alone does not need Airflow'"
    )
    path = {"PYTHONPATH": str(DAGS)} if source == "builders" else {}
    done = subprocess.run([sys.executable, "-c", code], env=path, cwd="/", capture_output=True, check=True)
    assert json.loads(done.stdout) == [sorted(BUILDERS), []]


@pytest.mark.parametrize("name", BUILDERS)
def test_a_dag_has_the_steps_one_after_the_other(factory: DAGFactory, name: str) -> None:
    """A tenant's DAG runs the pipeline's steps in their order."""
    dag = factory.create(name, tenant="acme").build()
    assert sorted(dag.task_ids) == sorted(STEPS)
    assert [sorted(dag.get_task(step).downstream_task_ids) for step in STEPS] == [[step] for step in STEPS[1:]] + [[]]


@pytest.mark.parametrize("runtime", [{}, PODS])
@pytest.mark.parametrize("name", BUILDERS)
def test_equal_configuration_builds_an_equal_dag(factory: DAGFactory, name: str, runtime: dict[str, Any]) -> None:
    """Two builds of one configuration serialise to the same bytes, in the worker or in pods."""
    first, again = (factory.create(name, runtime, tenant="acme").build() for _ in range(2))
    assert serialise(first) == serialise(again)


def test_both_runtimes_have_the_same_shape(factory: DAGFactory) -> None:
    """Where the steps run does not change which there are, nor their order."""
    local = factory.create("ProcessMessages", tenant="acme").build()
    pods = factory.create("ProcessMessages", PODS, tenant="acme").build()
    assert local.task_dict.keys() == pods.task_dict.keys()
    assert all(local.get_task(step).downstream_task_ids == pods.get_task(step).downstream_task_ids for step in STEPS)


def test_a_tenants_dag_reads_the_tenants_records(factory: DAGFactory) -> None:
    """Unless the configuration names others, the customer is the tenant; a flag's value reaches the tasks."""
    dag = factory.create("ProcessMessages", tenant="acme", flags={"message-parser": "v2"}).build()
    task: Any = dag.get_task("process")
    pipeline, step, options = task.op_args
    assert (pipeline, step) == ("messages", "process")
    assert (options.value["customers"], options.value["parser"]) == (["acme"], "v2")
    assert task.op_kwargs["run_id"] == "{{ run_id }}"


def test_pods_are_as_the_configuration_says(factory: DAGFactory) -> None:
    """Namespace, image, resources and environment of the pods come from the configuration."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    for task in factory.create("ProcessInvoices", PODS, tenant="acme").build().tasks:
        assert isinstance(task, KubernetesPodOperator)
        task.render_template_fields({"run_id": "run 1"})
        assert (task.namespace, task.image) == ("acme", "registry.example/pipelines:1")
        assert task.container_resources is not None
        assert task.container_resources.requests == {"cpu": "500m", "memory": "1Gi"}
        assert task.container_resources.limits == {"cpu": "2", "memory": "2Gi"}
        env: Any = task.env_vars
        assert {each.name: each.value for each in env} == {"LOG_LEVEL": "debug", "PYTHONPATH": "/opt/airflow/dags"}
        assert [mount.mount_path for mount in task.volume_mounts] == ["/results"]


def test_a_pods_command_is_understood(factory: DAGFactory, tmp_path: Path) -> None:
    """What a pod is told to run does run, once Airflow has filled in the run's id."""
    pods = {**PODS, "output_dir": str(tmp_path)}
    dag = factory.create("ProcessInvoices", pods, tenant="acme").build()
    for step in STEPS:
        task: Any = dag.get_task(step)
        task.render_template_fields({"run_id": "run 1"})
        command = [sys.executable, *task.cmds[1:], *task.arguments]
        subprocess.run(command, env={"PYTHONPATH": str(DAGS)}, cwd="/", capture_output=True, check=True)
    result = json.loads((tmp_path / "acme" / "process_invoices" / "run%201" / "result.json").read_text())
    assert (result["accepted"], result["gross_by_customer"].keys()) == (112, {"acme"})


def test_kubernetes_is_imported_only_by_who_runs_pods(tmp_path: Path) -> None:
    """Importing the builders and building for a worker does not pay for the pod operator."""
    code = (
        "import sys; from dagfactory_consul import DAGFactory; from dagfactory_consul.registry import registry\n"
        "registry.load(['builders']); DAGFactory('p', registry).create('ProcessMessages', tenant='acme').build()\n"
        "assert 'airflow.sdk' in sys.modules and 'kubernetes' not in sys.modules"
    )
    env = {"PYTHONPATH": str(DAGS), "AIRFLOW_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("ProcessMessages", {"runtime": "kubernetes"}, "`kubernetes` must say at least image and volume_claim"),
        ("ProcessMessages", {"max_body_char": 3}, r"max_body_char: unknown field, did you mean 'max_body_chars'\?"),
        ("ProcessMessages", {"channels": ["fax"]}, r"channels\.0: .*'email', 'chat' or 'web'"),
        ("ProcessInvoices", {"rates": {"usd": 1}}, r"rates\.usd"),
        ("ProcessInvoices", {"min_amount": 9, "max_amount": 1}, "min_amount 9 is above max_amount 1"),
        ("ProcessInvoices", {"max_reject_share": 2}, "max_reject_share: .*less than or equal to 1"),
    ],
)
def test_a_wrong_configuration_is_refused(factory: DAGFactory, name: str, config: dict[str, Any], message: str) -> None:
    """What does not fit is refused before there is a DAG, and the message says where and why."""
    with pytest.raises(BuildError, match=message):
        factory.create(name, config, tenant="acme")


@pytest.mark.parametrize(
    ("name", "flag"), [("ProcessMessages", "message-parser"), ("ProcessInvoices", "invoice-rounding")]
)
def test_a_flag_with_an_unknown_value_builds_no_dag(factory: DAGFactory, name: str, flag: str) -> None:
    """A flag that says something no pipeline understands is an error of the DAG, not of its first run."""
    with pytest.raises(ValueError, match=f"the flag {flag} says 'v9'"):
        factory.create(name, tenant="acme", flags={flag: "v9"}).build()


def test_money_keeps_its_digits(factory: DAGFactory) -> None:
    """A rate that YAML reads as a float reaches the task as the decimal that was written."""
    dag = factory.create("ProcessInvoices", yaml.safe_load("rates: {USD: 0.92, GBP: 1.1}"), tenant="acme").build()
    task: Any = dag.get_task("process")
    assert task.op_args[2].value["rates"] == {"GBP": "1.1", "USD": "0.92"}


def plan_of(*folders: str) -> Plan:
    """Plan the documents of some folders, without Airflow."""
    registry.load(["builders"])
    entries = [entry for folder in folders for entry in open_store(str(ROOT / "demo" / folder)).read().entries]
    return plan(from_reading(Reading(tuple(entries)), now=0), registry, "production")


def test_the_sample_configuration_has_no_problems() -> None:
    """Every document in `demo/config` is valid, and three tenants have their DAGs."""
    planned = plan_of("config")
    assert planned.problems == ()
    assert sorted(planned.specs) == [
        "acme__process_invoices",
        "acme__process_messages",
        "globex__invoices_in_eur",
        "globex__invoices_in_usd",
        "globex__process_messages",
        "initech__process_invoices",
        "initech__process_messages",
    ]


def test_gold_tenants_get_the_newer_parser() -> None:
    """The sample's flag gives v2 to whoever is gold, and to few of the others."""
    specs = plan_of("config", "more").specs
    parsers = {
        spec.tenant: spec.flags["message-parser"] for spec in specs.values() if spec.builder == "ProcessMessages"
    }
    assert parsers == {"acme": "v2", "globex": "v1", "initech": "v1", "umbrella": "v2"}


def test_the_broken_tenant_says_what_is_wrong() -> None:
    """Both mistakes of the sample's broken tenant are named, with the near miss, and they are its own alone."""
    planned = plan_of("config", "more")
    (problem,) = planned.problems
    assert "dags.ProcessMessages.max_body_chars: input should be a valid integer" in str(problem)
    assert "dags.ProcessMessages.scedule: unknown field, did you mean 'schedule'?" in str(problem)
    assert len(planned.specs) == 9
