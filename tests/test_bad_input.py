"""Whatever is written into the store or into a builder: a clear error, and nothing in force is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfactory_consul.errors import StoreRejected
from dagfactory_consul.plan import plan
from dagfactory_consul.stores import open_store
from tests.deployment import JOB, Deployment, shown
from tests.making import registry_of, snapshot_of, write

ACME = {"dags": {"Job": {"limit": 3}, "Other": {}}}


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Two good tenants, in force."""
    deployment = Deployment(tmp_path, monkeypatch)
    deployment.set(import_timeout=0.5, build_timeout=0.2)
    deployment.put("tenants/acme", ACME)
    deployment.put("tenants/globex", {"dags": {"Job": {}}})
    assert sorted(deployment.parse()) == ["acme__job", "acme__other", "globex__job"]
    return deployment


DOCUMENTS: dict[str, tuple[str, object, str]] = {
    "malformed JSON": (
        "tenants/acme",
        b'{"dags": }',
        "tenants/acme: malformed JSON: Expecting value: line 1 column 10",
    ),
    "malformed YAML": ("tenants/acme", b"dags: {Job: [", "tenants/acme: malformed YAML: "),
    "no UTF-8": ("tenants/acme", b"\xff\xfe", "tenants/acme: not UTF-8 text (byte 0)"),
    "empty": ("tenants/acme", b"", "tenants/acme: the value is empty: write {} for a document that says nothing"),
    "a key twice": ("tenants/acme", b'{"dags": {}, "dags": {}}', "tenants/acme: the key 'dags' stands twice"),
    "nested without end": ("tenants/acme", b"[" * 5_000, "tenants/acme: nested too deeply"),
    "a list for a document": ("tenants/acme", ["Job"], "expected an object with the fields of a tenant, not a list"),
    "a type that is wrong": (
        "tenants/acme",
        {"enabled": "yes"},
        "enabled: input should be a valid boolean, not a text",
    ),
    "a field of the tenant": ("tenants/acme", {"dag": {}}, "tenants/acme: dag: unknown field, did you mean 'dags'?"),
    "a field of the builder": (
        "tenants/acme",
        {"dags": {"Job": {"limt": 1}, "Other": {}}},
        "tenants/acme (DAG acme__job): dags.Job.limt: unknown field, did you mean 'limit'?",
    ),
    "a value of the builder": (
        "tenants/acme",
        {"dags": {"Job": {"limit": "many"}, "Other": {}}},
        "dags.Job.limit: input should be a valid integer, unable to parse string as an integer, not a text",
    ),
    "a schedule that is none": (
        "tenants/acme",
        {"dags": {"Job": {"schedule": "@sometimes"}, "Other": {}}},
        "tenants/acme (DAG acme__job): ",
    ),
    "an unknown builder": (
        "tenants/acme",
        {"dags": {"Jobb": {}}},
        "tenants/acme: dags.Jobb: there is no builder 'Jobb', did you mean 'Job'?",
    ),
    "a name that is no id": (
        "tenants/acme",
        {"dags": {"Job": {"name": "../x"}, "Other": {}}},
        "dags.Job.name: '../x' is not an id: it takes 1 to 63 of a-z, 0-9, _ and -",
    ),
    "one DAG id twice": (
        "tenants/acme",
        {"dags": {"Job": [{"limit": 3}, {"limit": 7}], "Other": {}}},
        "dags.Job[1]: an entry before it gives the DAG id 'acme__job' too: name one of them",
    ),
    "a secret": (
        "tenants/acme",
        {"dags": {"Job": {"description": "postgres://user:hunter2@db/x"}, "Other": {}}},
        "dags.Job.description looks like a secret: keep it in an Airflow connection",
    ),
    "a configuration with which the builder raises": (
        "tenants/acme",
        {"dags": {"Job": {"mood": "raising"}, "Other": {}}},
        "raised ValueError: no such region; its last good configuration stays in force",
    ),
    "an id with a path": ("tenants", [{"id": "../x", "dags": {"Job": {}}}], "tenants/../x: '../x' is not an id"),
    "an id that is empty": ("tenants", [{"id": "", "dags": {"Job": {}}}], "tenants/: '' is not an id"),
    "an id that is too long": ("tenants", [{"id": "x" * 300}], "x\\u2026 (300 characters)' is not an id"),
    "an id of look-alikes": ("tenants", [{"id": "\u0430cme"}], "'\\u0430cme' is not an id"),
    "no id at all": ("tenants", [{"dags": {}}], "a tenant in the list `tenants` needs an `id`"),
    "a tenant twice": ("tenants", [{"id": "acme"}], "there are two documents of this id, one of them in the list"),
    "a list that is none": ("tenants", 7, "tenants: expected a list of tenants, each with its `id`"),
    "a flag that is none": ("flags/job", "off", "flags/job: a flag is true, false or a flagd definition, not 'off'"),
    "a flag of another type": (
        "flags/parser",
        {"state": "ENABLED", "variants": {"a": 2}, "defaultVariant": "a"},
        "flags/parser: variant 'a' is 2, but the builder expects a value like 'v1'",
    ),
    "defaults that are none": ("defaults", {"airflw": {}}, "defaults: airflw: unknown field, did you mean 'airflow'?"),
    "defaults that cannot be read": ("defaults", b"{", "defaults: malformed JSON"),
    "a misspelt folder": ("tenant/new", {"dags": {}}, "tenant/new: nobody reads this key, did you mean 'tenants'?"),
    "a project that cannot be read": ("projects/flywheel", b"{", "projects/flywheel: malformed JSON"),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_bad_document(deployment: Deployment, case: str) -> None:
    """Each is an error that says what is wrong and where, and every DAG in force stays as it is, schedule and all."""
    key, value, expected = DOCUMENTS[case]
    deployment.put(key, value)
    for _ in range(2):
        dags = deployment.parse()
        assert {dag_id: shown(dag) for dag_id, dag in dags.items() if "draining" not in dag.tags} == {
            "acme__job": "3 v1",
            "acme__other": "10 v1",
            "globex__job": "10 v1",
        }
    said = deployment.errors()
    assert expected in said
    assert "hunter2" not in said


def test_two_tenants_with_one_dag_id(deployment: Deployment) -> None:
    """The tenant that has a DAG id keeps it: another one, whose id holds the separator, is refused."""
    deployment.put("tenants/b", {"dags": {"Other": {"name": "x__y"}}})
    deployment.parse()
    deployment.put("tenants/b__x", {"dags": {"Other": {"name": "y", "limit": 99}}})
    assert shown(deployment.parse()["b__x__y"]) == "10 v1"
    assert "tenants/b__x: 'b__x' is no id of a tenant: `__` parts it from the DAG's name" in deployment.errors()


MODULES: dict[str, tuple[str, str]] = {
    "raises": ("raise ValueError('no licence')", "cannot be imported: ValueError: no licence"),
    "hangs": ("while True: pass", "cannot be imported: the import took longer than 0.5 s"),
    "imports what is not installed": (
        "import pandaz",
        "cannot be imported: ModuleNotFoundError: No module named 'panda",
    ),
    "leaves": ("import sys; sys.exit(1)", "cannot be imported: SystemExit: 1"),
    "is no Python": ("def (", "cannot be imported: SyntaxError"),
    "takes another's name": (JOB, "cannot be imported: two builders are named 'Job'"),
}


@pytest.mark.parametrize("case", MODULES)
def test_a_bad_module_of_builders(deployment: Deployment, case: str) -> None:
    """A module that cannot be imported costs no other builder anything, and the problem names it."""
    code, expected = MODULES[case]
    write(deployment.folder / "builders/other_module.py", code)
    assert sorted(deployment.parse()) == ["acme__job", "acme__other", "globex__job"]
    assert f"{deployment.folder}/builders/other_module.py: {expected}" in deployment.errors()


def test_a_builder_that_can_no_longer_be_imported(deployment: Deployment) -> None:
    """Its DAGs cannot be built, but stay in force: they are back with the builder, and nobody else lost one."""
    write(deployment.folder / "builders/more.py", JOB.replace('"Job"', '"More"').split('@builder("Other"')[0])
    deployment.put("tenants/hooli", {"dags": {"More": {}, "Other": {}}})
    assert "hooli__more" in deployment.parse()
    write(deployment.folder / "builders/more.py", "import pandaz\n")
    assert sorted(deployment.parse()) == ["acme__job", "acme__other", "globex__job", "hooli__other"]
    assert "hooli__more" in deployment.release().dags
    assert "there is no builder 'More'" in deployment.errors()


def test_a_value_over_the_limit(deployment: Deployment) -> None:
    """A document that Consul would not take is refused before it is sent, with its size and the limit."""
    store = open_store(str(deployment.folder / "config"))
    with pytest.raises(StoreRejected, match=r"tenants/acme has 600,000 bytes; a value ends at 524,288: split"):
        store.put("tenants/acme", b"x" * 600_000)
    assert shown(deployment.parse()["acme__job"]) == "3 v1"


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_at_all(text: bytes) -> None:
    """Whatever bytes stand in a key, planning ends, and the tenant beside it has its DAGs."""
    for key in ("tenants/bad", "flags/bad", "defaults", "tenants", "projects/bad", "_ready"):
        documents = {key: text, "tenants/good": {"dags": {"Job": {}}}}
        found = plan(snapshot_of(documents), registry_of(), "production")
        assert "good__job" in found.specs


CALLS: dict[str, Callable[[Deployment], str]] = {
    "the problems": lambda deployment: deployment.errors(),
    "the DAGs": lambda deployment: deployment.errors("tenants.py"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_bad_setting(deployment: Deployment, case: str) -> None:
    """A setting that cannot be understood is an import error that names it and what stands there."""
    deployment.set(ttl="soon")
    assert "AIRFLOW__DAGFACTORY_CONSUL__TTL is 'soon', and must be a number" in CALLS[case](deployment)
