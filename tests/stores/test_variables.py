"""The store that is one Airflow Variable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dagfactory_consul.errors import SettingsError, StoreDenied, StoreRejected, StoreUnreachable
from dagfactory_consul.stores import open_store
from dagfactory_consul.stores.variables import VariableStore


def holding(tree: Any, **singles: str) -> VariableStore:
    """Open a store over these Variables."""
    texts = {"dagfactory": tree if isinstance(tree, str) else json.dumps(tree), **singles}
    return VariableStore("dagfactory", find=texts.get)


def contents(store: VariableStore) -> dict[str, Any]:
    return {entry.key: json.loads(entry.value) for entry in store.read().entries}


def test_parts_of_the_tree_are_entries() -> None:
    """Members of tenants, flags and projects are entries of their own; every other part is one."""
    store = holding(
        {
            "tenants": {"acme": {"enabled": True}, "zenith": {}},
            "flags": {"process-messages": False},
            "projects": {"flywheel": {"a": {"b": 1}}},
            "defaults": {"environments": {"production": {}}},
            "_ready": True,
        }
    )
    assert contents(store) == {
        "_ready": True,
        "defaults": {"environments": {"production": {}}},
        "flags/process-messages": False,
        "projects/flywheel": {"a": {"b": 1}},
        "tenants/acme": {"enabled": True},
        "tenants/zenith": {},
    }


def test_tenants_as_a_list() -> None:
    """Tenants may be one list, which is the entry `tenants`."""
    assert contents(holding({"tenants": [{"id": "acme"}]})) == {"tenants": [{"id": "acme"}]}


def test_text_stays_text() -> None:
    """Letters beyond ASCII come through as they are."""
    entry = holding({"tenants": {"acme": {"name": "Caf\u00e9"}}}).get("tenants/acme")
    assert entry is not None
    assert entry.value == '{"name":"Caf\u00e9"}'.encode()


def test_missing_variable_is_unreachable() -> None:
    """A Variable that Airflow does not give is never "no entries": it may only be out of sight."""
    with pytest.raises(StoreUnreachable, match="'nowhere'"):
        open_store("variable://nowhere").read()


def test_empty_tree_is_empty() -> None:
    """A Variable that holds an empty object is known to hold nothing."""
    assert holding({}).read().entries == ()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "tenants: {}", '"x"'])
def test_what_is_no_tree(text: str) -> None:
    """A Variable that holds no JSON object is an error that names it."""
    with pytest.raises(StoreRejected, match="the Variable 'dagfactory'"):
        holding(text).read()


def test_denied() -> None:
    """A secrets backend that refuses the Variable is a denied store."""

    def refuse(_: str) -> str | None:
        raise PermissionError("no access to this path")

    with pytest.raises(StoreDenied, match="no access"):
        VariableStore("dagfactory", find=refuse).read()


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"schedule": "@daily"}', {"schedule": "@daily"}), ("3", 3), ("false", False), ("@daily", "@daily"), ("", "")],
)
def test_single_variables(text: str, value: Any) -> None:
    """One key of a project may stand in a Variable of its own: JSON where it is JSON, else text."""
    store = holding({}, dagfactory_flywheel_schedule=text)
    assert store.single("flywheel", "schedule") == value
    assert store.single("flywheel", "other") is None


def test_airflow_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Variables are Airflow's own."""
    monkeypatch.setenv("AIRFLOW_VAR_MINE", '{"tenants": {"acme": {}}}')
    monkeypatch.setenv("AIRFLOW_VAR_MINE_FLYWHEEL_OWNER", "data")
    store = open_store("variable://mine")
    assert isinstance(store, VariableStore)
    assert [entry.key for entry in store.read().entries] == ["tenants/acme"]
    assert (store.single("flywheel", "owner"), store.single("flywheel", "none")) == ("data", None)


@pytest.mark.parametrize("url", ["variable://", "variable://a/b", "variable://a?b=c"])
def test_urls_that_name_no_variable(url: str) -> None:
    """A variable:// URL is one name."""
    with pytest.raises(SettingsError, match="variable:// URL"):
        open_store(url)
