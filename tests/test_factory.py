from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from airflow.sdk import DAG

from dagfactory_consul import DAGFactory
from dagfactory_consul.builders import DagBuilder, Definition
from dagfactory_consul.decisions import Decision
from dagfactory_consul.errors import BuilderError, BuildError
from dagfactory_consul.project import ConfigNode
from tests.making import JobConfig, definition, registry_of

FACTORY = DAGFactory("staging", registry_of(definition(flags={"parser": "v1"}), definition("TwoWords")))


def create(
    config: Mapping[str, Any] | JobConfig | None = None, builder: str = "Job", **options: Any
) -> DagBuilder[Any]:
    return FACTORY.create(builder, config, **options)


@pytest.mark.parametrize("config", [{"limit": 3}, JobConfig(limit=3), ConfigNode({"limit": 3}, "x", "y")])
def test_a_configuration_is_a_mapping_or_a_model(config: Any) -> None:
    """A mapping, a part of a project's configuration and a model are all the same."""
    assert create(config).config == JobConfig(limit=3)


def test_a_nested_part_of_a_projects_configuration() -> None:
    """Objects within a project's configuration reach the model as in any mapping."""
    node = ConfigNode({"airflow": {"queue": "q"}, "options": {"a": {"b": 1}}}, "projects/x.job", "memory://")
    config = create(node).config
    assert (config.airflow.queue, config.options) == ("q", {"a": {"b": 1}})


def test_a_dag_by_hand() -> None:
    """`create(…).build()` gives a DAG of the environment, without tenant, named as its builder."""
    job = create(builder="TwoWords")
    dag = job.build()
    assert isinstance(dag, DAG)
    assert (dag.dag_id, job.tenant, job.environment) == ("two_words", None, "staging")


def test_for_a_tenant() -> None:
    """With a tenant it is that tenant's DAG, as the loader would name it."""
    job = create(tenant="acme", attributes={"tier": "gold"})
    assert (job.build().dag_id, job.attributes) == ("acme__job", {"tier": "gold"})


@pytest.mark.parametrize(
    ("config", "name", "expected"),
    [({}, None, "job"), ({"name": "mine"}, None, "mine"), ({}, "given", "given"), ({"name": "mine"}, "given", "given")],
)
def test_the_name(config: dict[str, Any], name: str | None, expected: str) -> None:
    """A name given here is over the configuration's, and that over the builder's."""
    assert create(config, name=name).name == expected


def test_a_group_under_a_parent() -> None:
    """`.build_group()` gives the same tasks as a group of the parent DAG."""
    with DAG("parent", schedule=None) as parent:
        create(name="inner").build_group()
    assert sorted(parent.task_ids) == ["inner.first", "inner.last"]


def test_flags_have_their_defaults() -> None:
    """A flag that nobody decides has the builder's default; one that is given here has that value."""
    assert create().flags["parser"] == "v1"
    assert create(flags={"parser": "v2"}).flags["parser"] == "v2"


class Deciding(ConfigNode):
    """A configuration that knows what the flags say."""

    def decide(self, definition: Definition) -> dict[str, Decision]:
        return {flag: Decision("v3", "new", "TARGETING_MATCH", 5) for flag in definition.flags}


def test_a_projects_flags_decide() -> None:
    """What a project's configuration says of a flag is over the default, and under what is given here."""
    node = Deciding({}, "projects/x", "memory://")
    assert create(node).flags["parser"] == "v3"
    assert create(node, flags={"parser": "v2"}).flags["parser"] == "v2"


def test_an_unknown_builder() -> None:
    """A builder that nobody has registered is an error with the near miss."""
    with pytest.raises(BuilderError, match=r"there is no builder 'Jop', did you mean 'Job'\?"):
        create(builder="Jop")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"config": {"limt": 1}}, "Job: limt: unknown field, did you mean 'limit'?"),
        ({"config": {"limit": "many"}}, "Job: limit: input should be a valid integer"),
        ({"config": {"name": "../x"}}, "Job: the DAG's name '../x' is not an id"),
        ({"name": "x" * 300}, "(300 characters)' is not an id"),
        ({"tenant": "../x"}, "Job: the tenant '../x' is not an id"),
        ({"flags": {"parsr": 1}}, "Job declares no flag 'parsr', did you mean 'parser'?"),
    ],
)
def test_a_wrong_configuration(options: dict[str, Any], expected: str) -> None:
    """What does not fit the builder is said when it is created, before anything is built."""
    with pytest.raises(BuildError, match=re.escape(expected)):
        create(**options)


@pytest.mark.parametrize("tenant", ["a__b", "a_"])
def test_a_tenants_id_holds_no_separator(tenant: str) -> None:
    """A tenant's id that would make DAG ids ambiguous is refused here as in a document."""
    with pytest.raises(BuildError, match="is no id of a tenant"):
        create(tenant=tenant)


def test_a_document_of_a_project_takes_no_tenants_dag_id() -> None:
    """A project's document names no DAG as a tenant's; the code that calls may name a DAG as it likes."""
    with pytest.raises(BuildError, match="name: 'acme__job' has a `__`, as the ids of tenants' DAGs have"):
        create({"name": "acme__job"})
    assert create(name="acme__job").dag_id == "acme__job"
