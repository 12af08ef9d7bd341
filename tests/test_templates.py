"""Templates in documents: refused everywhere, unless a builder's model and the defaults let them pass."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field

from dagfactory_consul import DagBuilder, DagConfig, DAGFactory, Model, OperatorOnly, Templated
from dagfactory_consul.allowed import explain_operators_field
from dagfactory_consul.errors import BuildError
from dagfactory_consul.plan import Plan, plan, plan_one
from tests.making import definition, registry_of, snapshot_of


class Inner(Model):
    text: str = ""
    command: Templated = ""


class ReportConfig(DagConfig):
    command: Templated = ""
    partition: str = "{{ ts_nodash }}"
    commands: tuple[Templated, ...] = ()
    inner: Inner = Inner()
    either: Templated | int | None = None
    unclear: Templated | list[str] = ""
    options: dict[str, Any] = Field({})
    doubled: Annotated[str, AfterValidator(lambda text: text.replace("<", "{{"))] = ""
    image: OperatorOnly[str] = "none"
    pods: tuple[dict[str, OperatorOnly[int]], ...] = ()


class Report(DagBuilder[ReportConfig]):
    def tasks(self) -> None: ...


REGISTRY = registry_of(definition("Report", Report, flags={"shape": "plain"}), definition("Other", Report))
ALLOW = {"allow": {"connections": ["acme_*", "{tenant}__*"], "macros": ["ds"]}}
GOOD: dict[str, Any] = {"dags": {"Other": {}}}


def planned(documents: Mapping[str, Any]) -> Plan:
    return plan(snapshot_of({"tenants/good": GOOD, **documents}), REGISTRY, "production")


def refused(entry: dict[str, Any], **more: Any) -> str:
    """Return what is said of a tenant's Report, which alone is refused."""
    found = planned({"tenants/acme": {"dags": {"Report": entry, "Other": {}}, **more}, "defaults": ALLOW})
    assert "good__other" in found.specs
    (problem,) = found.problems
    assert problem.tenant == "acme"
    return str(problem)


@pytest.mark.parametrize("mark", ["{{ ds }}", "{% raw %}", "{# x #}", "a{{", "\u007b\u007b ds"])
@pytest.mark.parametrize(
    ("entry", "path"),
    [
        (lambda text: {"partition": text}, "dags.Report.partition"),
        (lambda text: {"description": text}, "dags.Report.description"),
        (lambda text: {"tags": ["a", text]}, "dags.Report.tags[1]"),
        (lambda text: {"airflow": {"owner": text}}, "dags.Report.airflow.owner"),
        (lambda text: {"inner": {"text": text}}, "dags.Report.inner.text"),
        (lambda text: {"options": {"a": [{"b": text}]}}, "dags.Report.options.a[0].b"),
        (lambda text: {"options": {text: 1}}, "dags.Report.options."),
        (lambda text: {"unclear": [text]}, "dags.Report.unclear[0]"),
    ],
)
def test_a_field_that_is_not_templated_holds_no_template(mark: str, entry: Any, path: str) -> None:
    """Wherever a template stands in an entry, it costs this DAG alone, and the problem names the place."""
    said = refused(entry(mark))
    assert said.startswith(f"tenants/acme (DAG acme__report): {path}")
    assert "which Airflow would render as code when a task starts" in said


def test_a_template_behind_an_escape_is_found() -> None:
    """JSON's escapes hide no template."""
    text = json.dumps({"dags": {"Report": {"partition": "@@ ds }}"}}}).replace("@@", "\\u007b\\u007b").encode()
    found = planned({"tenants/acme": text})
    assert "dags.Report.partition holds a template" in str(found.problems[0])


def test_what_a_model_makes_is_looked_at() -> None:
    """A template that only the model's validators make is refused as well."""
    assert "dags.Report.doubled holds a template" in refused({"doubled": "< ds }}"})


def test_a_models_own_default_may_hold_one() -> None:
    """What the builder's author has written is code."""
    assert planned({"tenants/acme": {"dags": {"Report": {}}}}).problems == ()


@pytest.mark.parametrize("content", [{"attributes": {"a": ["{{ x"]}}, {"airflow": {"tags": ["{% x"]}}])
def test_templates_outside_entries(content: dict[str, Any]) -> None:
    """What all of a tenant's DAGs share is refused for all of them."""
    found = planned({"tenants/acme": {**GOOD, **content}})
    assert sorted(found.specs) == ["good__other"]
    assert "holds a template" in str(found.problems[0])


@pytest.mark.parametrize(
    "text",
    ["plain", "{{ ds }}", "x {{conn.acme_billing.password}} y {{ ds }}", "{{ conn.acme__x.host }}", "{{- ds -}}"],
)
def test_allowed_references_pass(text: str) -> None:
    """A Templated field holds the macros and connections that the defaults name, at any depth."""
    entry = {"command": text, "commands": [text], "inner": {"command": text}, "either": text}
    found = planned({"tenants/acme": {"dags": {"Report": entry}}, "defaults": ALLOW})
    assert found.problems == ()
    assert found.specs["acme__report"].config["command"] == text


@pytest.mark.parametrize(
    "text",
    [
        "{{ ts }}",
        "{{ conn.globex_billing.password }}",
        "{{ conn.globex__x.password }}",
        "{{ conn.acme_billing.password[::-1] }}",
        "{{ conn.acme_billing.__class__ }}",
        "{{ conn.acme_billing.get_uri() }}",
        "{{ conn.acme_billing.extra_dejson.key }}",
        "{{ conn['acme_billing'].password }}",
        "{{ conn.acme_billing }}",
        "{{ conn }}",
        "{{ macros.yaml.unsafe_load('x') }}",
        "{{ var.value.secret }}",
        "{{ 'hunter2' }}",
        "{{ ds | upper }}",
        "{{ ds ~ ts }}",
        "{{ ds if ds else ts }}",
        "{{ [ds] }}",
        "{% set a = 1 %}",
        "{% do x %}",
        "{# note #}",
        "{{ ds",
        "{{ }}",
        "{{" + "(" * 4000,
        "{{ ds }}" + "x" * 5000,
        "{{ ds }}{% raw %}",
    ],
)
@pytest.mark.parametrize("where", ["command", "commands", "either"])
def test_other_references_are_refused(text: str, where: str) -> None:
    """Filters, calls, subscripts, blocks, constants, other names and other connections do not pass."""
    assert f"dags.Report.{where}" in refused({where: [text] if where == "commands" else text})


def test_nothing_is_allowed_unless_the_defaults_say_so() -> None:
    """Without `allow` no reference passes, in a Templated field either."""
    found = planned({"tenants/acme": {"dags": {"Report": {"command": "{{ ds }}"}}}})
    assert "{{ ds }} is none of the macros that `allow` in the defaults names: it names none" in str(found.problems[0])


@pytest.mark.parametrize(
    ("defaults", "path"),
    [
        ({"attributes": {"a": "{{ x }}"}}, "attributes.a"),
        ({"dags": {"Report": {"partition": "{{ ts }}"}}}, "dags.Report.partition"),
        ({"dags": {"Report": {"command": "{{ ts }}"}}}, "dags.Report.command"),
        ({"environments": {"staging": {"dags": {"Report": {"partition": "{{ ts }}"}}}}}, "environments.staging.dags"),
        ({"environments": {"staging": {"airflow": {"owner": "{{ ts }}"}}}}, "environments.staging.airflow.owner"),
    ],
)
def test_the_defaults_hold_no_template(defaults: dict[str, Any], path: str) -> None:
    """Defaults with a template are a problem of their own, and no tenant's: their last good contents stay."""
    found = planned({"defaults": {**defaults, **ALLOW}})
    assert sorted(found.specs) == ["good__other"]
    (problem,) = found.problems
    assert problem.key == "defaults"
    assert path in problem.message


def test_the_defaults_may_hold_allowed_references() -> None:
    """A Templated field of the defaults holds what the defaults allow."""
    found = planned({"defaults": {"dags": {"Other": {"command": "{{ ds }}"}}, **ALLOW}})
    assert found.problems == ()
    assert found.specs["good__other"].config["command"] == "{{ ds }}"


@pytest.mark.parametrize(
    "flag",
    [
        {"state": "ENABLED", "variants": {"a": "{{ ds }}"}, "defaultVariant": "a"},
        {"state": "ENABLED", "variants": {"a": {"b": ["{% x"]}}, "defaultVariant": "a"},
        {"state": "ENABLED", "variants": {"{{ a": "x"}, "defaultVariant": "{{ a"},
    ],
)
def test_a_flag_holds_no_template(flag: dict[str, Any]) -> None:
    """A flag with a template is a problem of its own; the builder's default counts instead."""
    found = planned({"tenants/acme": {"dags": {"Report": {}}}, "flags/shape": flag})
    assert found.specs["acme__report"].flags == {"shape": "plain"}
    (problem,) = found.problems
    assert (problem.key, "holds a template" in problem.message) == ("flags/shape", True)


def test_a_project_holds_no_template() -> None:
    """A project's document with a template is malformed, so it keeps its last good contents."""
    document = snapshot_of({"projects/x": {"a": {"b": "{{ ds }}"}}})["projects/x"]
    assert "a.b holds a template" in (document.malformed or "")


def test_one_dag_is_planned_without_templates() -> None:
    """A worker that plans one DAG refuses what the plan refuses."""
    snapshot = snapshot_of({"tenants/acme": {"dags": {"Report": {"partition": "{{ x }}"}}}})
    assert plan_one(snapshot, REGISTRY, "production", "acme__report") is None


def test_a_factory_refuses_templates() -> None:
    """A mapping in code passes templates in Templated fields alone; a model is code."""
    factory = DAGFactory("production", REGISTRY)
    with pytest.raises(BuildError, match="partition holds a template"):
        factory.create("Report", {"partition": "{{ x }}"})
    assert factory.create("Report", {"command": "{{ x }}"}).config.command == "{{ x }}"
    assert factory.create("Report", ReportConfig(partition="{{ x }}")).config.partition == "{{ x }}"


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"image": "x"}, "dags.Report.image"),
        ({"image": None}, "image"),
        ({"pods": [{"a": 1}]}, "pods[0].a"),
        ({"pods": None}, "pods"),
    ],
)
def test_what_only_the_defaults_may_set(entry: dict[str, Any], path: str) -> None:
    """An OperatorOnly field in a tenant's document is a problem of that DAG, whatever it says."""
    assert f"{path}: only the defaults may set this field" in refused(entry)


def test_what_only_the_defaults_may_set_may_be_deep_in_a_field() -> None:
    """It is found where no whole field is OperatorOnly, and null takes away nothing that the defaults say below."""

    class Pod(Model):
        image: OperatorOnly[str] = "none"

    class Deep(DagConfig):
        pods: dict[str, OperatorOnly[int]] | None = None
        pod: Pod | None = None

    for entry, path in (({"pods": {"a": 1}}, "x.pods.a"), ({"pods": None}, "x.pods"), ({"pod": None}, "x.pod")):
        assert f"{path}: only the defaults" in (explain_operators_field(entry, Deep, "x") or "")
    assert explain_operators_field({"schedule": None, "pod": {}}, Deep, "x") is None


def test_the_defaults_set_what_only_they_may() -> None:
    """The same field in the defaults reaches the tenants' DAGs."""
    found = planned({"defaults": {"dags": {"Other": {"image": "ours", "pods": [{"a": 1}]}}}})
    assert found.problems == ()
    assert found.specs["good__other"].config["image"] == "ours"


BOUNDS = {
    "pools": ["{tenant}_pool", "shared"],
    "queues": ["default"],
    "owners": ["{tenant}"],
    "tags": ["gold"],
    "priorities": [0, 10],
}


@pytest.mark.parametrize(
    ("airflow", "path"),
    [
        ({"pool": "globex_pool"}, "pool: is none of the pools that `allow` in the defaults names: acme_pool, shared"),
        ({"queue": "privileged"}, "queue: is none of the queues"),
        ({"owner": "globex"}, "owner: is none of the owners"),
        ({"tags": ["gold", "globex"]}, "tags: is none of the tags that `allow` in the defaults names: gold"),
        ({"priority": 11}, "priority: 11 is not within 0 to 10"),
    ],
)
def test_what_a_tenant_may_not_choose(airflow: dict[str, Any], path: str) -> None:
    """The operator's bounds hold for the tenant's own `airflow` and for each entry's."""
    bounds = {"allow": BOUNDS}
    whole = planned({"tenants/acme": {**GOOD, "airflow": airflow}, "defaults": bounds})
    assert f"tenants/acme: airflow.{path}" in str(whole.problems[0])
    one = planned({"tenants/acme": {"dags": {"Other": {"airflow": airflow}}}, "defaults": bounds})
    assert f"(DAG acme__other): dags.Other.airflow.{path}" in str(one.problems[0])


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"airflow": {"pool": None}}, "airflow.pool: is none of the pools"),
        ({"airflow": {"queue": None}}, "airflow.queue: is none of the queues"),
        ({"airflow": {"priority": None}}, "airflow.priority: 1 is not within 2 to 3"),
        ({"airflow": None}, "airflow.pool: is none of the pools"),
    ],
)
def test_null_does_not_take_away_what_bounds_a_tenant(entry: dict[str, Any], path: str) -> None:
    """It chooses Airflow's own default over what the defaults say, and that default has to be allowed as well."""
    ours = {"pool": "tenants", "queue": "tenants", "priority": 2}
    bounds = {"pools": ["tenants"], "queues": ["tenants"], "priorities": [2, 3]}
    documents = {"tenants/acme": {"dags": {"Other": entry}}, "defaults": {"allow": bounds, "airflow": ours}}
    assert f"(DAG acme__other): dags.Other.{path}" in str(planned(documents).problems[0])
    assert planned({**documents, "tenants/acme": {"dags": {"Other": {}}}}).problems == ()


def test_null_chooses_a_default_that_is_allowed() -> None:
    """Where Airflow's own pool, queue and priority, and the tenant as the owner, are allowed null says just these."""
    bounds = {"pools": ["default_pool"], "queues": ["default"], "owners": ["{tenant}"], "priorities": [1, 3]}
    found = planned({"tenants/acme": {"dags": {"Other": {"airflow": None}}}, "defaults": {"allow": bounds}})
    assert found.problems == ()


@pytest.mark.parametrize("airflow", [{"tags": [["gold"]]}, {"tags": [{}]}, {"priority": "high"}, {"priority": []}])
def test_a_choice_of_another_type_is_a_problem_of_its_own(airflow: dict[str, Any]) -> None:
    """What no bound can be compared with is refused by the model, and nobody else's plan breaks."""
    documents = {"tenants/acme": {"dags": {"Other": {"airflow": airflow, **airflow}}}, "defaults": {"allow": BOUNDS}}
    found = planned(documents)
    assert "good__other" in found.specs
    assert {problem.tenant for problem in found.problems} == {"acme"}


def test_what_a_tenant_may_choose() -> None:
    """What the patterns name passes, `{tenant}` as the tenant's own id; and all that the defaults say themselves."""
    airflow = {"pool": "acme_pool", "queue": "default", "owner": "acme", "tags": ["gold"], "priority": 10}
    defaults = {"allow": BOUNDS, "airflow": {"queue": "ours"}}
    found = planned({"tenants/acme": {**GOOD, "airflow": airflow}, "defaults": defaults})
    assert found.problems == ()
    assert found.specs["good__other"].config["airflow"]["queue"] == "ours"


@pytest.mark.parametrize("tag", ["draining", "Draining", " draining", "former-configuration", "Report"])
def test_tags_of_the_factory(tag: str) -> None:
    """No tenant takes the tag of a DAG that drains, nor a builder's name, whatever is allowed."""
    assert f"dags.Report.tags: {tag!r} is a tag that the factory gives" in refused({"tags": [tag]})


def test_a_tenant_has_no_allow() -> None:
    """Only the defaults say what is allowed."""
    found = planned({"tenants/acme": {**GOOD, "allow": {}}})
    assert "allow: unknown field" in str(found.problems[0])


def test_a_field_is_declared_where_pydantic_keeps_it() -> None:
    """Templated and OperatorOnly are plain types to pydantic."""

    class Some(BaseModel):
        text: Templated = Field(min_length=2)

    assert Some(text="ab").text == "ab"
