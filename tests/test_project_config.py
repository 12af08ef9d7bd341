from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagfactory_consul import DAGFactory, ProjectConfig
from dagfactory_consul.client import ConfigClient
from dagfactory_consul.errors import DocumentError, NothingKnownError, StoreUnreachable, UnknownKeyError
from dagfactory_consul.settings import Settings
from dagfactory_consul.stores.memory import MemoryStore
from tests.making import definition, registry_of

FLYWHEEL = {
    "schedule": "@daily",
    "owner": None,
    "process_messages": {"limit": 3, "airflow": {"queue": "q"}, "items": [1, 2]},
}

Open = Callable[..., ProjectConfig]


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """A store with one project in it."""
    store = MemoryStore(str(tmp_path))
    store.put("projects/flywheel", json.dumps(FLYWHEEL).encode())
    return store


@pytest.fixture
def project(store: MemoryStore, tmp_path: Path) -> Open:
    """Open a project's configuration, as a new process does; each time the store is asked."""

    def open_project(name: str = "flywheel", **settings: Any) -> ProjectConfig:
        read = Settings.read(store=store.url, fallback="variable://dagfactory", **settings)
        client = ConfigClient(lambda: store, tmp_path / "state", ttl=0.0)
        return ProjectConfig(name, client=client, settings=read)

    return open_project


def test_keys_are_attributes(project: Open) -> None:
    """`config.schedule` and `config["schedule"]` are the same, at every depth; lists and null are what they are."""
    config = project()
    assert config.schedule == config["schedule"] == "@daily"
    assert config.process_messages.airflow.queue == config["process_messages"]["airflow"]["queue"] == "q"
    assert (config.owner, config.process_messages["items"]) == (None, [1, 2])


def test_a_configuration_is_a_mapping(project: Open) -> None:
    """It can be iterated, asked for what it holds, and unpacked, as any mapping."""
    part = project().process_messages
    assert list(part) == ["airflow", "items", "limit"]
    assert ("limit" in part, "limt" in part, len(part)) == (True, False, 3)
    assert {**part}["limit"] == part.get("limit") == 3
    assert part.get("limt", 7) == 7


def test_a_configuration_can_be_copied(project: Open) -> None:
    """Python's own machinery, which asks objects for methods, finds nothing that it should not."""
    part = project().process_messages
    assert dict(copy.deepcopy(part)) == dict(part)
    assert not hasattr(part, "__html__")


def test_the_environment(project: Open, store: MemoryStore) -> None:
    """`config.environment` is the deployment's, unless the document says another."""
    assert project(environment="staging").environment == "staging"
    store.put("projects/flywheel", b"environment: test")
    assert project(environment="staging").environment == "test"


def test_an_unknown_key(project: Open, store: MemoryStore) -> None:
    """The error names the part, the store and the near miss, on one line."""
    with pytest.raises(UnknownKeyError) as caught:
        project().process_messages.limits  # noqa: B018  # it is the attribute's absence that is tested
    assert str(caught.value) == (
        f"projects/flywheel.process_messages in {store.url} has no key 'limits', did you mean 'limit'?"
    )


def test_an_unknown_key_is_what_python_expects(project: Open) -> None:
    """It is an AttributeError and a KeyError, so `getattr` with a default and `hasattr` work."""
    config = project()
    assert getattr(config, "schedul", "none") == "none"
    assert not hasattr(config, "schedul")
    for kind in (AttributeError, KeyError):
        with pytest.raises(kind):
            config["schedul"]


def test_an_unknown_project(project: Open) -> None:
    """A project that nobody has configured is an error with the near miss."""
    with pytest.raises(UnknownKeyError, match=r"has no project 'flywheels', did you mean 'flywheel'\?"):
        project("flywheels")


@pytest.mark.parametrize(
    ("text", "reason"),
    [(b"{", "projects/flywheel: malformed JSON"), (b"[1]", "expected an object"), (b"yes", "expected an object")],
)
def test_a_document_that_is_none(project: Open, store: MemoryStore, text: bytes, reason: str) -> None:
    """A malformed document is an error that names it: a project's own DAG file cannot run without."""
    store.put("projects/flywheel", text)
    with pytest.raises(DocumentError, match=reason):
        project()


def test_the_last_good_stays(project: Open, store: MemoryStore) -> None:
    """When the store is gone the project's file goes on with what was read last."""
    project()
    store.failure = StoreUnreachable("refused", store=store.url)
    assert project().schedule == "@daily"


def test_nothing_known(project: Open, store: MemoryStore) -> None:
    """Without a store and a local copy there is an error, never an empty configuration."""
    store.failure = StoreUnreachable("refused", store=store.url)
    with pytest.raises(NothingKnownError, match="refused"):
        project()


def test_flags_decide_for_a_project(project: Open, store: MemoryStore) -> None:
    """A project is a targeting key, and what a flag does not say is the builder's default."""
    rule = {"if": [{"==": [{"var": "project"}, "flywheel"]}, "new", "old"]}
    flag = {"state": "ENABLED", "variants": {"old": "v1", "new": "v2"}, "targeting": rule}
    store.put("flags/parser", json.dumps(flag).encode())
    decisions = project().decide(definition(flags={"parser": "v1", "batch": 5}))
    assert {name: (each.value, each.reason) for name, each in decisions.items()} == {
        "parser": ("v2", "TARGETING_MATCH"),
        "batch": (5, "DEFAULT"),
    }


def test_a_part_of_a_project_knows_its_flags(project: Open, store: MemoryStore) -> None:
    """`factory.create("Job", config.process_messages)` evaluates the builder's flags for the project."""
    store.put("flags/fast", b"true")
    store.put("projects/flywheel", json.dumps({"job": {"limit": 3, "airflow": {"queue": "q"}}}).encode())
    factory = DAGFactory("staging", registry_of(definition(flags={"fast": False})))
    job = factory.create("Job", project().job)
    assert (job.flags["fast"], job.config.limit, job.config.airflow.queue) == (True, 3, "q")


def test_a_malformed_flag_is_the_builders_default(project: Open, store: MemoryStore) -> None:
    """A typo in a flag does not stop a project."""
    store.put("flags/fast", b"treu")
    found = project().decide(definition(flags={"fast": False}))["fast"]
    assert (found.value, found.reason) == (False, "ERROR")


@pytest.mark.parametrize(("text", "value"), [("plain text", "plain text"), ("7", 7), ('{"a": {"b": 1}}', None)])
def test_a_missing_key_may_be_a_variable(
    project: Open, monkeypatch: pytest.MonkeyPatch, text: str, value: object
) -> None:
    """With `fallback_on_missing` a key that the store lacks is looked up as one Airflow Variable."""
    monkeypatch.setenv("AIRFLOW_VAR_DAGFACTORY_FLYWHEEL_REGION", text)
    found = project(fallback_on_missing=True).region
    assert found.a.b == 1 if value is None else found == value


def test_the_store_is_over_the_variable(project: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that the store has, null included, is the store's; and without the setting nothing else is asked."""
    for key in ("SCHEDULE", "OWNER", "REGION"):
        monkeypatch.setenv(f"AIRFLOW_VAR_DAGFACTORY_FLYWHEEL_{key}", "from the Variable")
    config = project(fallback_on_missing=True)
    assert (config.schedule, config.owner) == ("@daily", None)
    assert not hasattr(project(), "region")


def test_a_whole_project_may_be_variables(project: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `fallback_on_missing` a project needs no document; a key that stands nowhere is an error all the same."""
    monkeypatch.setenv("AIRFLOW_VAR_DAGFACTORY_OTHER_REGION", "eu")
    config = project("other", fallback_on_missing=True, environment="staging")
    assert (config.region, config.environment) == ("eu", "staging")
    with pytest.raises(UnknownKeyError, match=r"projects/other in .* has no key 'regions'"):
        config["regions"]
