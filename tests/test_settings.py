from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dagfactory_consul.errors import SettingsError
from dagfactory_consul.runtime import PARSING_DAG_ID, client_of, folder_of, release_path
from dagfactory_consul.settings import Settings
from dagfactory_consul.stores.memory import MemoryStore

READS = """
import sys
if sys.argv[1] == "with Airflow":
    import airflow.configuration
from dagfactory_consul.settings import Settings
from dagfactory_consul.errors import SettingsError
try:
    settings = Settings.read()
    print(*(getattr(settings, name) for name in sys.argv[2:]), sep="|")
except SettingsError as error:
    print("SettingsError:", error)
print("airflow" in sys.modules)
"""
READERS = ["with Airflow", "without Airflow"]


def setting(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"AIRFLOW__DAGFACTORY_CONSUL__{name}", text)


def from_file(folder: Path, reader: str, text: str, *names: str, **environment: str) -> str:
    """Return what another process makes of an airflow.cfg: the settings of these names, or the error."""
    (folder / "airflow.cfg").write_text(text)
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env |= {"AIRFLOW_HOME": str(folder), **environment}
    command = [sys.executable, "-c", READS, reader, *names]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    answer, _, loaded = done.stdout.strip().rpartition("\n")
    assert loaded == str(reader == "with Airflow")
    return answer


def test_nothing_set_is_the_table_of_defaults() -> None:
    """Without any configuration the defaults of the table hold, and the folder is in Airflow's home."""
    found = Settings.read()
    defaults = {each.name: each.default for each in fields(Settings)}
    assert {each: getattr(found, each) for each in defaults} == {
        **defaults,
        "state_dir": Path(os.environ["AIRFLOW_HOME"]) / "dagfactory-consul",
    }


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("STORE", " consul://consul.service:8500 ", "consul://consul.service:8500"),
        ("BUILDERS", "acme.builders, /opt/builders,,", ("acme.builders", "/opt/builders")),
        ("TTL", "0.5", 0.5),
        ("GUARD_MINIMUM", "0", 0),
        ("GUARD_SHARE", "1", 1.0),
        ("STATE_DIR", "/var/lib/x", Path("/var/lib/x")),
        ("STATE_DIR", "~/x", Path("~/x").expanduser()),
        ("FALLBACK_ON_MISSING", "True", True),
        ("FALLBACK_ON_MISSING", "f", False),
        ("FALLBACK", "", ""),
        ("TTL", "", 30.0),
    ],
)
def test_the_environment_sets(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any) -> None:
    """Each kind of setting is read from its variable, in its type; an empty one says nothing, save of the fallback."""
    setting(monkeypatch, name, text)
    found = getattr(Settings.read(), name.lower())
    assert (found, type(found)) == (value, type(value))


def test_variables_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Airflow's own settings `$VAR` and `${VAR}` stand for the environment's; unknown ones are left alone."""
    monkeypatch.setenv("CUSTOMER", "acme")
    setting(monkeypatch, "PREFIX", "$CUSTOMER/${CUSTOMER}/$UNKNOWN_HERE/")
    assert Settings.read().prefix == "acme/acme/$UNKNOWN_HERE/"


def test_a_keyword_wins() -> None:
    """What the caller gives wins over all configuration, in its text or in its type; None leaves it as it is."""
    found = Settings.read(ttl="5", builders=["a", "b"], state_dir=Path("/x"), environment=None, fallback="")
    assert (found.ttl, found.builders, found.state_dir) == (5.0, ("a", "b"), Path("/x"))
    assert (found.environment, found.fallback) == ("production", "")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("TTL", "soon", "TTL is 'soon', and must be a number"),
        ("GUARD_MINIMUM", "2.5", "GUARD_MINIMUM is '2.5', and must be a number"),
        ("FALLBACK_ON_MISSING", "yes", "FALLBACK_ON_MISSING is 'yes', and must be true or false"),
        ("TIMEOUT", "-1", "TIMEOUT is -1.0, and must be 0 or more"),
        ("TTL", "nan", "TTL is nan, and must be 0 or more"),
        ("GUARD_SHARE", "20", "GUARD_SHARE is 20.0: a share is between 0 and 1"),
        ("GUARD_SHARE", "nan", "GUARD_SHARE is nan: a share is between 0 and 1"),
        ("PREFIX", "/", "PREFIX is empty: the whole store would be read"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str) -> None:
    """A value that cannot be meant is an error that names the variable and the value."""
    setting(monkeypatch, name, text)
    with pytest.raises(SettingsError, match=f"^AIRFLOW__DAGFACTORY_CONSUL__{re.escape(message)}"):
        Settings.read()


@pytest.mark.parametrize(("name", "near"), [("TLL", "'ttl'"), ("STORE_CMD", "'store'"), ("BUILDER", "'builders'")])
def test_an_unknown_setting_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str, near: str) -> None:
    """A setting that nobody reads is not passed over: the message says which one was probably meant."""
    setting(monkeypatch, name, "5")
    with pytest.raises(SettingsError) as caught:
        Settings.read()
    assert str(caught.value).startswith(
        f"unknown setting '{name.lower()}' in section [dagfactory_consul], did you mean"
    )
    assert near in str(caught.value)


def test_an_unknown_keyword_is_an_error() -> None:
    """The same holds for what a caller gives, and an override that is None."""
    with pytest.raises(SettingsError, match=r"unknown setting 'enviroment', did you mean 'environment'"):
        Settings.read(enviroment=None)


@pytest.mark.parametrize("reader", READERS)
def test_the_file_sets_and_the_environment_wins(tmp_path: Path, reader: str) -> None:
    """airflow.cfg means the same whether Airflow reads it or this package does: escapes, variables, empty values."""
    text = (
        "[core]\nload_examples = False\nlog_format = %%(asctime)s\n"
        "[dagfactory_consul]\nttl = 5\nstore = $FOLDER/config\nprefix = 100%%/\nfallback =\nenvironment = test\n"
    )
    names = ("ttl", "store", "prefix", "fallback", "environment", "state_dir")
    environment = {"FOLDER": "/etc", "AIRFLOW__DAGFACTORY_CONSUL__TTL": "7"}
    found = from_file(tmp_path, reader, text, *names, **environment)
    assert found == f"7.0|/etc/config|100%/||test|{tmp_path}/dagfactory-consul"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("line", "message"),
    [("Store = consul://", "unknown setting 'Store' in section"), ("prefix = 100%/", "section [dagfactory_consul] of")],
)
def test_the_file_is_refused_by_both_readers(tmp_path: Path, reader: str, line: str, message: str) -> None:
    """What one reader does not take for a setting, in its name or in its value, the other does not either."""
    assert from_file(tmp_path, reader, f"[dagfactory_consul]\n{line}\n").startswith(f"SettingsError: {message}")


def test_the_file_may_stand_elsewhere(tmp_path: Path) -> None:
    """AIRFLOW_CONFIG names another file, as it does for Airflow."""
    (tmp_path / "other.cfg").write_text("[dagfactory_consul]\nttl = 9\n")
    environment = {"AIRFLOW_CONFIG": str(tmp_path / "other.cfg")}
    assert from_file(tmp_path, "without Airflow", "[dagfactory_consul]\nttl = 5\n", "ttl", **environment) == "9.0"


def test_a_file_that_is_no_configuration_is_named(tmp_path: Path) -> None:
    """An airflow.cfg that cannot be parsed is an error with its path, not a set of defaults."""
    assert f"{tmp_path}/airflow.cfg cannot be read" in from_file(tmp_path, "without Airflow", "no section\n")


def test_every_setting_is_described() -> None:
    """The table says of each setting what it means, its type, and its default as it would be written."""
    found = {name: (kind, default) for name, kind, default, _, about in Settings.describe() if about.endswith(".")}
    assert list(found) == [each.name for each in fields(Settings)]
    assert found["ttl"] == ("float", "30.0")
    assert found["guard_minimum"] == ("integer", "2")
    assert found["fallback_on_missing"] == ("boolean", "False")
    assert (found["builders"], found["state_dir"]) == (("string", ""), ("string", ""))


def test_a_default_as_described_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes every default out, as the documentation shows it, changes nothing."""
    before = Settings.read()
    for name, _, default, _, _ in Settings.describe():
        setting(monkeypatch, name.upper(), default)
    assert Settings.read() == before


# --- What the settings are put together to


def test_the_client_is_as_the_settings_say(tmp_path: Path) -> None:
    """Store, prefix, times, guard and fallback of the client are those of the settings."""
    given: dict[str, Any] = {"store": "memory://a", "prefix": "p", "ttl": 5, "timeout": 1, "fallback": "memory://b"}
    client = client_of(Settings.read(state_dir=tmp_path, guard_share=0.5, guard_minimum=7, **given))
    assert (client.store.url, client.ttl, client.timeout) == ("memory://a/p/", 5, 1)
    assert (client.guard.share, client.guard.minimum, client.task_start) == (0.5, 7, False)
    assert client.fallback is not None
    assert isinstance(client.fallback(), MemoryStore)


def test_no_fallback_is_none(tmp_path: Path) -> None:
    """An empty fallback means that there is none."""
    assert client_of(Settings.read(state_dir=tmp_path, fallback="")).fallback is None


def test_a_task_start_is_known_by_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The client knows a task's start by what Airflow sets then: the very variable that Airflow's own reader reads."""
    from airflow.sdk import get_parsing_context

    monkeypatch.setenv(PARSING_DAG_ID, "acme__job")
    assert get_parsing_context().dag_id == "acme__job"
    assert client_of(Settings.read(state_dir=tmp_path)).task_start


def test_each_store_and_prefix_has_its_own_folder(tmp_path: Path) -> None:
    """What is known of one store is not taken for another's, and no folder's name shows an address."""
    stores = [("consul://a", "p"), ("consul://b", "p"), ("consul://a", "q"), ("consul://a,q", "")]
    found = {folder_of(Settings.read(state_dir=tmp_path, store=store, prefix=f"x{prefix}")) for store, prefix in stores}
    assert len(found) == 4
    assert all(folder.parent == tmp_path and re.fullmatch("[0-9a-f]{12}", folder.name) for folder in found)


def test_a_prefix_is_the_same_with_its_slashes(tmp_path: Path) -> None:
    """`dagfactory` and `dagfactory/` are one prefix, and share what is known of it."""
    folders = {folder_of(Settings.read(state_dir=tmp_path, prefix=prefix)) for prefix in ("p", "p/", "/p/")}
    assert len(folders) == 1


def test_each_environment_has_its_own_release(tmp_path: Path) -> None:
    """Environments and sets of builders share the snapshot, and not what is in force."""
    given = [{"environment": "test"}, {"environment": "production"}, {"builders": "a"}, {"builders": "a,b"}]
    found = {release_path(Settings.read(state_dir=tmp_path, **each)) for each in given}
    assert (len(found), len({path.parent for path in found})) == (4, 1)
