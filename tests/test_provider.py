from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.resources import files

import jsonschema  # type: ignore[import-untyped]
import pytest
from airflow.sdk import Connection

from dagfactory_consul import __version__
from dagfactory_consul.hook import ConsulHook
from dagfactory_consul.provider import get_provider_info
from dagfactory_consul.settings import Settings
from demo.consul import ConsulAgent, free_ports

TOKEN = "5f0b8a52-0000-4a3e-9c2e-0badc0ffee00"  # noqa: S105  # of nobody


@pytest.fixture(scope="module")
def airflow_says(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What Airflow's own commands print, started at the same time."""
    commands = ["providers list", "config list --section=dagfactory_consul --include-descriptions --include-env-vars"]
    home = tmp_path_factory.mktemp("airflow")
    env = {**os.environ, "AIRFLOW_HOME": str(home), "COLUMNS": "300"}
    start = [sys.executable, "-W", "ignore", "-m", "airflow"]
    pipe = subprocess.PIPE
    running = {each: subprocess.Popen([*start, *each.split()], env=env, stdout=pipe, text=True) for each in commands}
    return {each.split(" --")[0]: process.communicate()[0] for each, process in running.items()}


def connection(monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    """Let Airflow know a connection by an environment variable."""
    monkeypatch.setenv("AIRFLOW_CONN_CONSUL_DEFAULT", json.dumps({"conn_type": "consul", **fields}))


def test_the_info_is_valid() -> None:
    """The provider's info is what Airflow's own schema of it asks for."""
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_airflow_finds_the_info() -> None:
    """The installed package says under the entry point of providers where its info is."""
    (found,) = [each for each in entry_points(group="apache_airflow_provider") if each.module.startswith("dagfactory")]
    assert found.load() is get_provider_info


def test_the_info_holds_every_setting() -> None:
    """The info's options are the table of the settings, so that none is left out of Airflow's documentation of them."""
    options = get_provider_info()["config"]["dagfactory_consul"]["options"]
    assert list(options) == [name for name, *_ in Settings.describe()]


def test_airflow_lists_the_provider(airflow_says: dict[str, str]) -> None:
    """`airflow providers list` shows the package and its version."""
    (line,) = [each for each in airflow_says["providers list"].splitlines() if "dagfactory-consul" in each]
    assert __version__ in line
    assert "DAGs for many tenants" in line


@pytest.mark.parametrize("name", [name for name, *_ in Settings.describe()])
def test_airflow_explains_every_setting(airflow_says: dict[str, str], name: str) -> None:
    """`airflow config list` shows the section, and each setting with its meaning and its variable."""
    section = airflow_says["config list"].partition("[dagfactory_consul]")[2].partition("\n[")[0]
    about = next(about for each, _, _, _, about in Settings.describe() if each == name)
    assert about.split(":")[0] in section
    assert f"# Variable: AIRFLOW__DAGFACTORY_CONSUL__{name.upper()}\n" in section
    assert f"\n# {name} = \n" in section


def test_the_form_shows_what_there_is() -> None:
    """Airflow's form asks for a token, and not for a login that nobody uses."""
    behaviour = ConsulHook.get_ui_field_behaviour()
    assert (behaviour["hidden_fields"], behaviour["relabeling"]) == (["login"], {"password": "Token"})


def test_the_hook_opens_the_connections_store(
    monkeypatch: pytest.MonkeyPatch, consul_agent: ConsulAgent, consul_prefix: str
) -> None:
    """A connection is all that a store needs: what is written through it stands in that Consul."""
    connection(monkeypatch, host="127.0.0.1", port=consul_agent.port)
    store = ConsulHook(prefix=consul_prefix).get_conn()
    store.put("tenants/acme", b"{}")
    assert [entry.key for entry in store.read().entries] == ["tenants/acme"]
    store.close()


def test_the_connections_password_is_the_token(
    monkeypatch: pytest.MonkeyPatch, consul_with_acls: ConsulAgent, consul_prefix: str
) -> None:
    """Where Consul refuses strangers the connection's password opens it, and stands in nothing that is shown."""
    connection(monkeypatch, host="127.0.0.1", port=consul_with_acls.port, password=consul_with_acls.token)
    store = ConsulHook(prefix=consul_prefix).get_conn()
    store.put("tenants/acme", b"{}")
    assert len(store.read().entries) == 1
    assert consul_with_acls.token not in f"{store!r} {store.url}"
    store.close()


def test_the_button_says_that_consul_answers(monkeypatch: pytest.MonkeyPatch, consul_agent: ConsulAgent) -> None:
    """The test of a connection in Airflow's form asks the Consul that it names."""
    connection(monkeypatch, host=consul_agent.address)
    assert ConsulHook().test_connection() == (True, "Consul answers")


def test_the_button_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers the test fails with the address and the reason."""
    (port,) = free_ports(1)
    connection(monkeypatch, host="127.0.0.1", port=port)
    answers, message = ConsulHook().test_connection()
    assert not answers
    assert "consul_default" in message
    assert "refused" in message


def test_the_button_shows_no_token(monkeypatch: pytest.MonkeyPatch, consul_with_acls: ConsulAgent) -> None:
    """A wrong token is a failure, not an answer; and the message does not hold it."""
    connection(monkeypatch, host="127.0.0.1", port=consul_with_acls.port, password=TOKEN)
    answers, message = ConsulHook().test_connection()
    assert not answers
    assert TOKEN not in message


def test_a_connection_that_is_not_there_is_named() -> None:
    """The test of a connection that Airflow does not know says so, and how to add it."""
    answers, message = ConsulHook("consul_nowhere").test_connection()
    assert not answers
    assert "consul_nowhere" in message


def test_a_connection_that_describes_no_consul_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra that nobody reads fails the test, with its name and the one that was probably meant."""
    connection(monkeypatch, host="127.0.0.1", extra={"token-file": "/run/token"})
    answers, message = ConsulHook().test_connection()
    assert not answers
    assert "the connection 'consul_default' has no 'token-file', did you mean 'token_file'" in message


def test_airflow_tests_it_as_a_connection(monkeypatch: pytest.MonkeyPatch, consul_agent: ConsulAgent) -> None:
    """Airflow finds the hook by the connection's type, as its form does."""
    connection(monkeypatch, host="127.0.0.1", port=consul_agent.port)
    assert isinstance(Connection.get("consul_default").get_hook(), ConsulHook)
