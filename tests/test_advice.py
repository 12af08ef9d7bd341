"""Which of Airflow's settings slow bundle mode or break it."""

from __future__ import annotations

import pytest

from dagfactory_consul.advice import advise

GOOD = {
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__FILE_PARSING_SORT_MODE": "modified_time",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    "AIRFLOW__DAG_PROCESSOR__DISABLE_BUNDLE_VERSIONING": "False",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": "/var/lib/airflow/bundles",
    "AIRFLOW__CORE__FERNET_KEY": "any",
}


@pytest.fixture(autouse=True)
def good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings as they should be."""
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_good_settings_need_no_word() -> None:
    """Where all is as it should be nothing is said."""
    assert list(advise(0)) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "30"),
        ("DAG_PROCESSOR__FILE_PARSING_SORT_MODE", "alphabetical"),
        ("DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL", "5"),
        ("DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL", "soon"),
        ("DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL", "30"),
        ("DAG_PROCESSOR__DISABLE_BUNDLE_VERSIONING", "True"),
    ],
)
def test_each_setting_that_hurts_is_named(monkeypatch: pytest.MonkeyPatch, option: str, value: str) -> None:
    """The line says which setting it is, what it is, why that hurts, and what to set instead."""
    name = f"AIRFLOW__{option}"
    monkeypatch.setenv(name, value)
    (line,) = advise(0)
    assert f"{option.partition('__')[2].lower()} is {value}:" in line
    assert line.endswith(f"Set {name}={GOOD[name]}")


def test_airflows_own_defaults_hurt(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow as it comes is told all that slows it."""
    for name in GOOD:
        monkeypatch.delenv(name)
    said = "\n".join(advise(300))
    slow = ("min_serialized_dag_update_interval", "bundle_refresh_check_interval", "min_file_process_interval")
    assert all(option in said for option in (*slow, "refresh_interval is 300 s"))


def test_the_bundles_own_interval() -> None:
    """A bundle that is looked at every five minutes is that late."""
    (line,) = advise(300)
    assert "300 s" in line
    assert "refresh_interval" in line


@pytest.mark.parametrize("path", ["", "/tmp/airflow", "/var/tmp/x"])  # noqa: S108  # what is warned of
def test_storage_below_the_temporary_folder(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Bundles where every user may write are advised against, Airflow's own default among them."""
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", path)
    (line,) = advise(0)
    assert "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH" in line


def test_no_key_to_sign_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a fernet key the advice says who may run code by that."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    (line,) = advise(0)
    assert "AIRFLOW__CORE__FERNET_KEY" in line
