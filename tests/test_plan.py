from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any, Self

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import field_validator, model_validator

from dagfactory_consul import models
from dagfactory_consul.builders import DagBuilder
from dagfactory_consul.keyed_file import dumps
from dagfactory_consul.models import DagConfig, shown
from dagfactory_consul.plan import Plan, diff, plan, plan_one
from dagfactory_consul.problems import Problem
from dagfactory_consul.registry import Registry
from dagfactory_consul.snapshot import of_lines
from dagfactory_consul.spec import DagSpec
from tests.making import definition, json_values, registry_of, snapshot_of

GATED = registry_of(
    definition("Job", gate="job"),
    definition("Other"),
    definition("Optional", gate="opt-in", flags={"opt-in": False}),
    definition("Shaped", flags={"parser": "v1", "batch": 10}),
)


def planned(documents: Mapping[str, Any], *, registry: Registry = GATED, environment: str = "production") -> Plan:
    return plan(snapshot_of(documents), registry, environment)


def only(documents: Mapping[str, Any], **options: Any) -> DagSpec:
    """Return the one spec that these documents give, without a problem."""
    found = planned(documents, **options)
    assert found.problems == ()
    (spec,) = found.specs.values()
    return spec


def problem(documents: Mapping[str, Any], **options: Any) -> Problem:
    """Return the one problem that these documents give."""
    (found,) = planned(documents, **options).problems
    return found


def as_bytes(found: Plan) -> str:
    return dumps([[spec.to_json() for spec in found.specs.values()], found.problems])


def shuffled(value: Any, order: random.Random) -> Any:
    """Return the same JSON with the keys of its objects in another order."""
    if isinstance(value, dict):
        names = list(value)
        order.shuffle(names)
        return {name: shuffled(value[name], order) for name in names}
    return [shuffled(each, order) for each in value] if isinstance(value, list) else value


EXAMPLE = {
    "defaults": {"airflow": {"retries": 1}, "environments": {"production": {"attributes": {"region": "eu"}}}},
    "flags/job": True,
    "flags/parser": {"state": "ENABLED", "variants": {"a": "v1", "b": "v2"}, "targeting": {"fractional": [["b", 1]]}},
    "tenants/acme": {"attributes": {"tier": "gold", "size": 3}, "dags": {"Job": {"limit": 5}, "Shaped": {}}},
    "tenants/globex": {"dags": {"Job": [{"name": "b"}, {"name": "a", "options": {"y": 1, "x": 2}}], "Nonsense": {}}},
    "tenants/hooli": {"enabled": 7},
}


@given(st.randoms())
def test_equal_snapshots_give_equal_plans(order: random.Random) -> None:
    """The order of keys and of fields does not matter: the plan is the same to the byte, its problems too."""
    one, other = planned(EXAMPLE), planned(shuffled(EXAMPLE, order))
    assert as_bytes(one) == as_bytes(other)
    assert one.version == other.version


def test_the_order_of_dag_ids_is_theirs() -> None:
    """Specs are sorted by DAG id, whatever the order of tenants and entries is."""
    assert list(planned(EXAMPLE).specs) == ["acme__job", "acme__shaped", "globex__a", "globex__b"]


@given(json_values("enabled attributes airflow dags Job Shaped name limit options schedule owner"))
def test_a_changed_tenant_changes_only_its_own_dags(document: Any) -> None:
    """Whatever is written into one tenant's document, the specs of all others stay as they are, hash and all."""
    before, after = planned(EXAMPLE), planned({**EXAMPLE, "tenants/acme": document})
    changed = diff(before.specs, after.specs)
    touched = {*changed.added, *changed.removed, *changed.changed}
    assert {dag_id for dag_id in touched if not dag_id.startswith("acme__")} == set()


@given(json_values("enabled attributes airflow environments production dags Job Shaped name limit options owner"))
def test_no_defaults_break_a_plan(document: Any) -> None:
    """Whatever is written into the defaults, there is a plan, and a problem for each tenant that it spoils."""
    assume(not (isinstance(document, dict) and document.get("enabled") is False))  # which switches all off
    found = planned({**EXAMPLE, "defaults": document})
    named = {spec.tenant for spec in found.specs.values()} | {each.tenant for each in found.problems}
    assert {"hooli", "globex"} <= named


def test_a_plan_leaves_the_snapshot_as_it_is() -> None:
    """Planning twice from one snapshot gives the same: nothing in it is changed."""
    snapshot = snapshot_of(EXAMPLE)
    first = plan(snapshot, GATED, "production")
    assert as_bytes(plan(snapshot, GATED, "production")) == as_bytes(first)


LAYERS: dict[str, dict[str, Any]] = {
    "defaults": {"defaults": {"dags": {"Other": {"limit": 1}}}},
    "environment": {"defaults": {"environments": {"production": {"dags": {"Other": {"limit": 2}}}}}},
    "DAG": {"tenants/acme": {"dags": {"Other": {"limit": 3}}}},
}


def laid(*layers: dict[str, Any]) -> dict[str, Any]:
    """Return the documents of several layers, put together."""
    from dagfactory_consul.tenants import merge

    documents: dict[str, Any] = {"tenants/acme": {"dags": {"Other": {}}}}
    for each in layers:
        documents = merge(documents, each)
    return documents


@pytest.mark.parametrize(("upto", "limit"), [(0, 10), (1, 1), (2, 2), (3, 3)])
def test_precedence_of_a_builders_fields(upto: int, limit: int) -> None:
    """Lowest first: the builder's own default, the defaults, the environment's, the DAG's entry."""
    assert only(laid(*list(LAYERS.values())[:upto])).config["limit"] == limit


AIRFLOW_LAYERS: list[dict[str, Any]] = [
    {"defaults": {"airflow": {"pool": "defaults"}}},
    {"defaults": {"environments": {"production": {"airflow": {"pool": "environment"}}}}},
    {"defaults": {"dags": {"Other": {"airflow": {"pool": "builder"}}}}},
    {"tenants/acme": {"airflow": {"pool": "tenant"}}},
    {"tenants/acme": {"dags": {"Other": {"airflow": {"pool": "dag"}}}}},
]


@pytest.mark.parametrize(
    ("upto", "pool"), [(0, None), (1, "defaults"), (2, "environment"), (3, "builder"), (4, "tenant"), (5, "dag")]
)
def test_precedence_of_airflows_settings(upto: int, pool: str | None) -> None:
    """A tenant's `airflow` is over all that the defaults say, and the DAG's own over the tenant's."""
    assert only(laid(*AIRFLOW_LAYERS[:upto])).config["airflow"]["pool"] == pool


def test_layers_are_merged_field_by_field() -> None:
    """What an upper layer does not name stays as the lower one has it; null takes it away."""
    documents = laid(
        {"defaults": {"airflow": {"pool": "p", "retries": 3}, "attributes": {"tier": "iron", "region": "eu"}}},
        {"tenants/acme": {"airflow": {"owner": "me"}, "attributes": {"tier": "gold"}}},
    )
    documents["tenants/acme"]["airflow"]["retries"] = None
    spec = only(documents)
    assert {"pool": "p", "owner": "me", "retries": None}.items() <= spec.config["airflow"].items()
    assert spec.attributes == {"tier": "gold", "region": "eu"}


def test_another_environments_layer_does_not_count() -> None:
    """Only the layer of this deployment's environment is merged, and builders see which one that is."""
    spec = only(laid(LAYERS["environment"]), environment="staging")
    assert (spec.config["limit"], spec.environment) == (10, "staging")


@pytest.mark.parametrize(
    ("documents", "dag_ids"),
    [
        ({}, ["acme__job"]),
        ({"flags/job": True}, ["acme__job"]),
        ({"flags/job": False}, []),
        ({"flags/opt-in": True}, ["acme__job", "acme__optional"]),
    ],
)
def test_gates(documents: dict[str, Any], dag_ids: list[str]) -> None:
    """A gate that nobody has defined is open, unless the builder's default for it says otherwise."""
    tenant: dict[str, Any] = {"dags": {"Job": {}, "Optional": {}}}
    assert list(planned({**documents, "tenants/acme": tenant}).specs) == dag_ids


def test_a_gate_may_open_for_some() -> None:
    """A gate with a rule lets in whom the rule names."""
    rule = {"if": [{"==": [{"var": "tier"}, "gold"]}, "on", "off"]}
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "targeting": rule}
    gold, iron = ({"attributes": {"tier": tier}, "dags": {"Job": {}}} for tier in ("gold", "iron"))
    assert list(planned({"flags/job": flag, "tenants/a": gold, "tenants/b": iron}).specs) == ["a__job"]


@pytest.mark.parametrize(
    "documents",
    [
        {"tenants/acme": {"enabled": False, "dags": {"Other": {}}}},
        {"tenants/acme": {"dags": {"Other": {"enabled": False}}}},
        {"defaults": {"enabled": False}, "tenants/acme": {"dags": {"Other": {}}}},
        {"defaults": {"dags": {"Other": {"enabled": False}}}, "tenants/acme": {"dags": {"Other": {}}}},
    ],
)
def test_enabled_false_switches_off(documents: dict[str, Any]) -> None:
    """A tenant or an entry that is not enabled gives no DAG, and that is no problem."""
    found = planned(documents)
    assert (found.specs, found.problems) == ({}, ())


@pytest.mark.parametrize("value", ["false", "no", 0, [], {}])
def test_enabled_is_a_boolean(value: Any) -> None:
    """What looks like false to a human does not leave a DAG running unnoticed: it is a problem of that DAG."""
    found = problem({"tenants/acme": {"dags": {"Other": {"enabled": value}, "Job": {}}}})
    assert (found.key, found.dag_id) == ("tenants/acme", "acme__other")
    assert f"dags.Other.enabled: is true or false, not {shown(value)}" in found.message


def test_flags_are_in_the_spec() -> None:
    """The values of the declared flags are decided in the plan, with the index of the change that decided."""
    spec = only({"flags/batch": {"state": "ENABLED", "variants": {"a": 20}, "defaultVariant": "a"}} | shaped())
    assert spec.flags == {"parser": "v1", "batch": 20}
    assert [spec.decisions[name].index for name in ("parser", "batch")] == [0, 7]


def shaped() -> dict[str, Any]:
    return {"tenants/acme": {"dags": {"Shaped": {}}}}


def test_a_flags_value_is_in_the_hash_and_its_edit_is_not() -> None:
    """A flip changes the spec; a rewritten flag that says the same does not."""
    v2 = {"state": "ENABLED", "variants": {"a": "v2", "b": "v3"}, "defaultVariant": "a"}
    hashes = {
        only({"flags/parser": flag} | shaped()).hash for flag in (v2, {**v2, "targeting": {"if": [False, "b", "a"]}})
    }
    assert len(hashes | {only(shaped()).hash}) == 2


def test_variations_of_one_builder() -> None:
    """A list gives several DAGs of one builder, each with its own name and configuration."""
    found = planned({"tenants/acme": {"dags": {"Other": [{"name": "fast", "limit": 1}, {"name": "slow"}, {}]}}})
    assert {dag_id: spec.config["limit"] for dag_id, spec in found.specs.items()} == {
        "acme__fast": 1,
        "acme__other": 10,
        "acme__slow": 10,
    }


def test_an_unknown_builder() -> None:
    """A builder that is not known is a problem of the tenant, with the near miss."""
    found = problem({"tenants/acme": {"dags": {"Othr": {}}}})
    assert (found.key, found.tenant, found.dag_id) == ("tenants/acme", "acme", None)
    assert found.message.startswith("dags.Othr: there is no builder 'Othr', did you mean 'Other'?")


def test_an_unknown_field() -> None:
    """A field that the builder's model does not have is a problem of that DAG alone, with path and near miss."""
    found = planned({"tenants/acme": {"dags": {"Other": {"limt": 3}, "Job": {}}}})
    assert list(found.specs) == ["acme__job"]
    assert found.problems == (
        Problem("tenants/acme", "dags.Other.limt: unknown field, did you mean 'limit'?", "acme", "acme__other"),
    )


@pytest.mark.parametrize("place", ["defaults", "tenants/acme"])
def test_airflows_settings_that_are_none(place: str) -> None:
    """What is no object where an object belongs is a problem, in an entry as well as in the defaults."""
    documents = laid({place: {"dags": {"Other": {"airflow": "gold"}}}})
    (said,) = [each for each in planned(documents).problems if each.key == place]
    assert "dags.Other.airflow: input should be a valid dictionary" in said.message


@pytest.mark.parametrize("tenant", ["../x", "", "x" * 300, "\u0430\u0441me", "A", "a/b"])
def test_bad_tenant_ids(tenant: str) -> None:
    """An id that is none gives no DAG, and is named without being repeated at length."""
    found = planned({f"tenants/{tenant}": {"dags": {"Job": {}}}, "tenants/good": {"dags": {"Job": {}}}})
    assert list(found.specs) == ["good__job"]
    (said,) = found.problems
    assert said.key == f"tenants/{tenant}"
    assert len(said.message) < 200


@pytest.mark.parametrize("name", ["../x", "", "x" * 300, "\u0430\u0441me", 7, ["a"]])
def test_bad_dag_names(name: Any) -> None:
    """A DAG's name becomes a part of its id, and so is an id itself."""
    found = problem({"tenants/acme": {"dags": {"Other": {"name": name}}}})
    assert found.message.startswith("dags.Other.name: ")
    assert "is not an id: it takes 1 to 63 of a-z" in found.message


@pytest.mark.parametrize("tenant", ["a__b", "a_", "a__"])
def test_no_tenant_gives_another_ones_dag_id(tenant: str) -> None:
    """A tenant whose id has `__`, or ends in `_`, is told what to do, and keeps its last good DAGs."""
    documents = {"tenants/a": {"dags": {"Job": {"name": "b__c"}}}, f"tenants/{tenant}": {"dags": {"Job": {}}}}
    found = planned(documents)
    assert {dag_id: spec.tenant for dag_id, spec in found.specs.items()} == {"a__b__c": "a"}
    (problem,) = found.problems
    assert str(problem).startswith(f"tenants/{tenant}: {tenant!r} is no id of a tenant: `__` parts it from the DAG's")
    assert "Write the document under another id, and then remove this key" in problem.message
    assert found.keeps(DagSpec(f"{tenant}__job", "Job", "job", "production", {}, tenant))


@given(st.from_regex(models.ID_PATTERN, fullmatch=True), st.from_regex(models.ID_PATTERN, fullmatch=True))
def test_a_dag_id_has_one_tenant(tenant: str, name: str) -> None:
    """The first double underscore of a DAG id parts a tenant's id from the DAG's name, whatever these are."""
    assume(models.is_tenant_id(tenant))
    assert f"{tenant}__{name}".split("__", 1) == [tenant, name]


def test_one_dag_id_twice_within_a_tenant() -> None:
    """Variations need names: the first entry has the builder's, the next one is a problem."""
    found = problem({"tenants/acme": {"dags": {"Other": [{}, {"limit": 1}]}}})
    assert found.dag_id == "acme__other"
    assert "dags.Other[1]: an entry before it gives the DAG id 'acme__other' too" in found.message


def test_entries_that_are_off_may_share_a_name() -> None:
    """Two entries of one name are in nobody's way while only one of them is on."""
    documents = {"tenants/acme": {"dags": {"Job": {"name": "x"}, "Other": {"name": "x"}}}, "flags/job": False}
    assert only(documents).builder == "Other"


def test_what_a_former_version_has_decoded_is_looked_through_for_secrets() -> None:
    """A snapshot of a former version, which knew fewer secrets, holds what this version would have refused."""
    good = snapshot_of({"tenants/acme": {"attributes": {"key": "none"}, "dags": {"Other": {}}}})
    lines = {"tenants/acme": good.lines["tenants/acme"].replace('"key":"none"', '"password":"hunter2hunter2"')}
    former = of_lines(lines, source="", mark=None, read_at=0.0, decoded_by="0.0.1")
    (said,) = plan(former, GATED, "production").problems
    assert "attributes.password looks like a secret" in said.message


def test_what_is_held_is_looked_through_for_secrets() -> None:
    """The guard holds lines of a former snapshot, whoever has decoded it."""
    good = snapshot_of({"tenants/acme": {"attributes": {"key": "none"}, "dags": {"Other": {}}}})
    lines = {"tenants/acme": good.lines["tenants/acme"].replace('"key":"none"', '"password":"hunter2hunter2"')}
    held = of_lines(lines, source="", mark=None, read_at=0.0, held={"version": "x", "missing": ["tenants/acme"]})
    assert [each.tenant for each in plan(held, GATED, "production").problems] == ["acme"]


def test_a_secret_is_refused() -> None:
    """What looks like a secret is named by its path, never shown, and keeps the whole document out."""
    found = planned({"tenants/acme": {"dags": {"Other": {"options": {"api_key": "hunter2hunter2"}}, "Job": {}}}})
    (said,) = found.problems
    assert found.specs == {}
    assert "dags.Other.options.api_key looks like a secret" in said.message
    assert "hunter2" not in as_bytes(found)


def test_malformed_defaults_keep_the_last_good() -> None:
    """A typo in the defaults, which shape every DAG, changes none of them."""
    good = planned({"defaults": {"dags": {"Other": {"limit": 4}}}, "tenants/acme": {"dags": {"Other": {}}}})
    broken = snapshot_of({"defaults": b"{", "tenants/acme": {"dags": {"Other": {}}}})
    found = plan(broken, GATED, "production", last_good=good.shared)
    assert not diff(good.specs, found.specs)
    assert found.shared["defaults"] == good.shared["defaults"]
    assert "In force instead: its last good contents" in found.problems[0].message


def test_defaults_that_never_were_good() -> None:
    """Without a last good copy there are no defaults, and a problem that says so."""
    found = planned({"defaults": {"airflw": {}}, "tenants/acme": {"dags": {"Other": {}}}})
    assert list(found.specs) == ["acme__other"]
    assert "airflw: unknown field, did you mean 'airflow'" in found.problems[0].message
    assert "In force instead: no defaults" in found.problems[0].message


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"Othr": {}}, "dags.Othr: there is no builder 'Othr', did you mean 'Other'?"),
        ({"Other": {"limt": 1}}, "dags.Other.limt: unknown field, did you mean 'limit'?"),
        ({"Other": {"airflow": {"ownr": "x"}}}, "dags.Other.airflow.ownr: unknown field, did you mean 'owner'?"),
        ({"Other": {"limit": "many"}}, "dags.Other.limit: input should be a valid integer"),
    ],
)
def test_defaults_for_a_builder_that_are_wrong(entry: dict[str, Any], expected: str) -> None:
    """What the defaults have wrong is said of the defaults, where it has to be mended, and not of tenants alone."""
    (said,) = [each for each in planned({"defaults": {"dags": entry}}).problems if each.key == "defaults"]
    assert expected in said.message


class DemandingConfig(DagConfig):
    region: str
    size: int = 0

    @model_validator(mode="after")
    def _large_in_the_east(self) -> Self:
        if self.region == "east" and not self.size:
            raise ValueError("the east needs a size")
        return self


class Demanding(DagBuilder[DemandingConfig]):
    """Needs what the defaults do not say."""


@pytest.mark.parametrize("entry", [{"size": 3}, {"region": "east"}, {"name": "x", "enabled": False}])
def test_defaults_need_not_be_complete(entry: dict[str, Any]) -> None:
    """What an entry of the defaults lacks, a tenant may say: that is no problem."""
    registry = registry_of(definition("Demanding", Demanding))
    assert planned({"defaults": {"dags": {"Demanding": entry}}}, registry=registry).problems == ()


def test_a_malformed_flag_keeps_its_last_good() -> None:
    """A typo in a gate neither opens nor closes it."""
    good = planned({"flags/job": False, "tenants/acme": {"dags": {"Job": {}}}})
    broken = snapshot_of({"flags/job": "fals", "tenants/acme": {"dags": {"Job": {}}}})
    found = plan(broken, GATED, "production", last_good=good.shared)
    assert found.specs == {}
    assert [each.key for each in found.problems] == ["flags/job"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("tenant/acme", "nobody reads this key, did you mean 'tenants'?"),
        ("default", "nobody reads this key, did you mean 'defaults'?"),
        ("flags/Job", "'Job' is not an id"),
        ("projects/a b", "'a b' is not an id"),
    ],
)
def test_a_key_that_nobody_reads(key: str, expected: str) -> None:
    """A misspelt key is a problem, not silence."""
    assert expected in problem({key: True if key.startswith("flags/") else {}}).message


def test_a_list_of_tenants_is_as_good_as_keys() -> None:
    """One key `tenants` with a list gives the same specs as a key for each."""
    listed = only({"tenants": [{"id": "acme", "dags": {"Other": {"limit": 2}}}]})
    assert listed == only({"tenants/acme": {"dags": {"Other": {"limit": 2}}}})


class PickyConfig(DagConfig):
    limit: int = 1

    @field_validator("limit")
    @classmethod
    def _breaks(cls, value: int) -> int:
        return {1: 1}[value]  # a KeyError is none of the errors that pydantic expects


class Picky(DagBuilder[PickyConfig]):
    """Has a validator with a bug."""


def test_a_model_that_breaks_harms_its_dag_alone() -> None:
    """A model is code, too: whatever it raises is a problem of the one DAG that it was asked about."""
    registry = registry_of(definition("Picky", Picky), definition("Other"))
    found = planned({"tenants/acme": {"dags": {"Picky": {"limit": 2}, "Other": {}}}}, registry=registry)
    assert list(found.specs) == ["acme__other"]
    assert found.problems[0].dag_id == "acme__picky"
    assert "PickyConfig cannot take it: KeyError: 2" in found.problems[0].message


@pytest.mark.parametrize("depth", [50, 300, 900, 985, 2000])
def test_nesting_harms_its_tenant_alone(depth: int) -> None:
    """However deep a document is nested, it is planned or is a problem, and the others are as they were."""
    nested = b'{"dags": {"Other": {"options": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}}}"
    found = planned({"tenants/acme": nested, "tenants/good": {"dags": {"Other": {}}}})
    assert "good__other" in found.specs
    assert len(found.specs) + len(found.problems) == 2


def test_the_problems_of_the_builders_are_the_plans() -> None:
    """A module that could not be imported is a problem that every plan shows."""
    registry = registry_of()
    registry.problems.append(Problem("acme.builders", "cannot be imported: no"))
    assert plan(snapshot_of({}), registry, "production").problems == tuple(registry.problems)


def test_a_diff() -> None:
    """New, gone and changed DAGs, by id; equal plans have an empty one."""
    before = planned({"tenants/acme": {"dags": {"Job": {}, "Other": {}}}}).specs
    after = planned({"tenants/acme": {"dags": {"Job": {"limit": 1}, "Shaped": {}}}}).specs
    found = diff(before, after)
    assert (found.added, found.removed, found.changed) == (("acme__shaped",), ("acme__other",), ("acme__job",))
    assert not diff(before, before)


def test_time_decides_only_through_flags() -> None:
    """A plan has no clock: `now` changes what rules ask for, and nothing else."""
    assert as_bytes(plan(snapshot_of(EXAMPLE), GATED, "x", now=0.0)) == as_bytes(
        plan(snapshot_of(EXAMPLE), GATED, "x", now=2e9)
    )
    window = {"if": [{">": [{"var": "$flagd.timestamp"}, 100]}, "on", "off"]}
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "targeting": window}
    snapshot = snapshot_of({"flags/job": flag, "tenants/acme": {"dags": {"Job": {}}}})
    sizes = [len(plan(snapshot, GATED, "x", now=now).specs) for now in (100.0, 101.0)]
    assert sizes == [0, 1]


@pytest.mark.parametrize("dag_id", list(planned(EXAMPLE).specs))
def test_one_dag_is_planned_as_among_all(dag_id: str) -> None:
    """Planning one DAG gives the spec that the whole plan has."""
    assert plan_one(snapshot_of(EXAMPLE), GATED, "production", dag_id) == planned(EXAMPLE).specs[dag_id]


@pytest.mark.parametrize(("dag_id", "tenant"), [("a__b__c", "a"), ("a__b__d", "a"), ("b__c__d", None), ("x__", None)])
def test_names_with_double_underscores(dag_id: str, tenant: str | None) -> None:
    """A DAG's name may hold two underscores; a DAG that may be another tenant's of old is not planned for this one."""
    documents = {
        "tenants/a": {"dags": {"Job": [{"name": "b__c"}, {"name": "b__d"}]}},
        "tenants/b": {"dags": {"Job": {"name": "c__d"}}},
        "tenants/b__c": {"dags": {"Job": {"name": "d"}}},
    }
    found = plan_one(snapshot_of(documents), GATED, "production", dag_id)
    assert (found.tenant if found else None) == tenant


@pytest.mark.parametrize(
    "documents",
    [
        {"flags/job": False, "tenants/acme": {"dags": {"Job": {"limit": 3}}}},
        {"tenants/acme": {"dags": {"Job": {"limit": 3, "enabled": False}}}},
        {"tenants/acme": {"enabled": False, "dags": {"Job": {"limit": 3}}}},
    ],
)
def test_one_dag_is_planned_though_it_is_off(documents: dict[str, Any]) -> None:
    """A task that starts just after its DAG was switched off still finds its configuration."""
    found = plan_one(snapshot_of(documents), GATED, "production", "acme__job")
    assert found is not None
    assert found.config["limit"] == 3


@pytest.mark.parametrize(
    "documents",
    [
        {"flags/job": False, "tenants/acme": {"dags": {"Job": {"name": "x"}, "Other": {"name": "x"}}}},
        {"tenants/acme": {"dags": {"Other": [{"name": "x", "enabled": False, "limit": 1}, {"name": "x"}]}}},
    ],
)
def test_of_two_entries_the_one_that_is_on_is_planned(documents: dict[str, Any]) -> None:
    """Where an entry that is off has the same id as one that is on, a task gets the one that runs."""
    (dag_id,) = planned(documents).specs
    assert plan_one(snapshot_of(documents), GATED, "production", dag_id) == only(documents)


@pytest.mark.parametrize("dag_id", ["acme__nothing", "nobody__job", "acme", "", "__", "hooli__job"])
def test_there_is_no_such_dag(dag_id: str) -> None:
    """A DAG that no document describes is None, whatever is asked for."""
    assert plan_one(snapshot_of(EXAMPLE), GATED, "production", dag_id) is None


def test_specs_survive_the_disk() -> None:
    """A spec that was written as JSON and read back is equal, and has the same hash."""
    for spec in planned(EXAMPLE).specs.values():
        again = DagSpec.from_json(json.loads(dumps(spec.to_json())))
        assert (again, again.hash) == (spec, spec.hash)
