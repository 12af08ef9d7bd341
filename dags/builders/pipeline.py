"""What both builders share: where a pipeline's steps run, and how they become tasks.

A document is data. A tenant's document sets none of the fields that are `OperatorOnly`, and Airflow gets each value of
a document as a `literal`: it renders neither templates in it, nor the file that its text may name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dagfactory_consul import DagBuilder, DagConfig, Model, OperatorOnly

# Airflow is not imported up here: commands such as `dagfactory-consul plan` need only the configuration's model.


Cores = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?m?$", description="Cores (0.5), or thousandths of one (500m)")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Memory = Annotated[str, Field(pattern=r"^[0-9]+(Ki|Mi|Gi)?$", description="Bytes, with a unit: 512Mi")]


class Resources(Model):
    """What a pod asks for, and what it may use at most."""

    cpu: Cores = "250m"
    memory: Memory = "256Mi"


class KubernetesConfig(Model):
    """How the pods look. They need Python and this folder, but neither Airflow nor this package."""

    image: str = Field(min_length=1, description="An image with Python 3.11 or later and the folder with the DAGs")
    volume_claim: str = Field(min_length=1, description="A claim that all pods can write: steps hand over in files")
    namespace: str = Field("default", min_length=1)
    dags_folder: str = Field("/opt/airflow/dags", description="Where the image has this folder")
    results_folder: str = Field("/results", description="Where the volume is mounted")
    service_account: str | None = None
    env: dict[EnvName, str] = Field({}, description="Environment variables; secrets belong in the cluster, not here")
    requests: Resources = Resources()
    limits: Resources = Resources(cpu="1", memory="512Mi")


class PipelineConfig(DagConfig):
    """The part of the configuration that does not depend on what is processed."""

    customers: OperatorOnly[tuple[str, ...]] = Field(
        (),
        description="In a project: whose records are read, all unless given. A tenant's DAG reads the tenant's alone",
    )
    on_rejects: Literal["keep", "fail"] = Field("keep", description="Whether too many rejects fail the run")
    max_reject_share: float = Field(0.25, ge=0, le=1, description="Of the records, with `on_rejects: fail`")
    output_dir: OperatorOnly[str | None] = Field(
        None, description="Default: $DAGFACTORY_EXAMPLE_OUTPUT, else $AIRFLOW_HOME/results"
    )
    runtime: OperatorOnly[Literal["local", "kubernetes"]] = Field(
        "local", description="In Airflow's worker, or each step in a pod"
    )
    kubernetes: OperatorOnly[KubernetesConfig | None] = Field(None, description="Needed with `runtime: kubernetes`")

    @model_validator(mode="after")
    def _pods_are_described(self) -> Self:
        if self.runtime == "kubernetes" and self.kubernetes is None:
            raise ValueError("runtime is kubernetes, so `kubernetes` must say at least image and volume_claim")
        return self


def add_steps(builder: DagBuilder[Any], pipeline: str, **options: Any) -> None:
    """Add a pipeline's steps to the DAG or group that is being built, one after the other.

    Args:
        builder: the builder at work.
        pipeline: a module of `pipelines/`.
        options: the fields of its `Options`, besides those that every pipeline has.
    """
    from airflow.sdk import chain

    from pipelines.steps import STEPS

    config: PipelineConfig = builder.config
    if builder.tenant and config.customers:  # the defaults have them: no tenant reads what is another tenant's
        raise ValueError("customers is for projects: a tenant's DAG reads the tenant's own records, remove it")
    options["customers"] = [builder.tenant] if builder.tenant else list(config.customers)
    options["max_reject_share"] = config.max_reject_share if config.on_rejects == "fail" else 1.0
    place = {
        "owner": builder.tenant or "{{ dag.dag_id }}",  # in a project: the project's own DAG
        "name": builder.name,
        "run_id": "{{ run_id }}",  # Airflow fills it in when the task starts, and so do pods get it
    }
    make = _pod if config.runtime == "kubernetes" else _local
    chain(*(make(config, pipeline, step, options, place) for step in STEPS))


def _local(config: PipelineConfig, pipeline: str, step: str, options: dict[str, Any], place: dict[str, str]) -> Any:
    """Run the step in Airflow's worker. Its summary is the task's XCom."""
    from airflow.sdk import task

    from pipelines.steps import run_step

    output_dir = _data(config.output_dir)
    return task(task_id=step)(run_step)(pipeline, step, _data(options), **place, output_dir=output_dir)


def _pod(config: PipelineConfig, pipeline: str, step: str, options: dict[str, Any], place: dict[str, str]) -> Any:
    """Run the same step in a pod, through its command line."""
    import json

    # More than a second of imports: only who runs pods pays for it.
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from kubernetes.client import models as k8s

    pod = config.kubernetes
    assert pod is not None  # the configuration's model saw to it
    options_text = json.dumps(options, sort_keys=True)
    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=_data(pod.volume_claim))
    return KubernetesPodOperator(
        task_id=step,
        name=f"{place['name']}-{step}".replace("_", "-"),
        namespace=_data(pod.namespace),
        image=_data(pod.image),
        service_account_name=pod.service_account,  # not a field that Airflow renders
        cmds=["python", "-m", "pipelines"],
        arguments=[
            pipeline,
            step,
            *(f"--{name.replace('_', '-')}={value}" for name, value in place.items()),
            _data(f"--output-dir={config.output_dir or pod.results_folder}"),
            _data(f"--options={options_text}"),
        ],
        env_vars={"PYTHONPATH": _data(pod.dags_folder), **{name: _data(value) for name, value in pod.env.items()}},
        container_resources=k8s.V1ResourceRequirements(
            requests=pod.requests.model_dump(), limits=pod.limits.model_dump()
        ),
        volumes=[k8s.V1Volume(name="results", persistent_volume_claim=claim)],
        volume_mounts=[k8s.V1VolumeMount(name="results", mount_path=pod.results_folder)],
    )


def _data(value: object) -> Any:
    """Return a value that Airflow hands over as it is. The operators' annotations do not know that they take one."""
    from airflow.sdk import literal

    return literal(value)
