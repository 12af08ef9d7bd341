"""The limits on documents: what a tenant may have, and what a column of Airflow's holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dagfactory_consul.client import ConfigClient
from dagfactory_consul.documents import LIMIT
from dagfactory_consul.models import AirflowSettings, DagConfig
from dagfactory_consul.plan import plan
from dagfactory_consul.snapshot import MAX_DOCUMENT_BYTES, Snapshot, from_reading
from dagfactory_consul.stores.base import Entry, Reading
from dagfactory_consul.stores.memory import MemoryStore
from tests.making import registry_of, snapshot_of

BIG = {"attributes": {"note": "x" * MAX_DOCUMENT_BYTES}}


def reading(**texts: str) -> Reading:
    return Reading(tuple(Entry(f"tenants/{name}", text.encode(), 1) for name, text in texts.items()))


@pytest.mark.parametrize("key", ["tenants/evil", "flags/evil", "projects/evil", "defaults"])
def test_a_document_over_its_size_is_malformed_alone(key: str) -> None:
    """It is told with its size and the setting, whatever kind of document it is; its neighbours are as they were."""
    found = snapshot_of({key: BIG, "tenants/good": {}})
    assert "65,564 bytes, and may have 65,536" in (found[key].malformed or "")
    assert "AIRFLOW__DAGFACTORY_CONSUL__MAX_DOCUMENT_BYTES" in (found[key].malformed or "")
    assert found["tenants/good"].malformed is None


def test_the_list_of_tenants_may_be_larger() -> None:
    """A list in one key may be as large as the store takes; the size is that of each tenant in it."""
    small = [{"id": f"t{number}", "attributes": {"note": "x" * 40_000}} for number in range(4)]
    found = snapshot_of({"tenants": [*small, {"id": "evil", **BIG}]})
    assert [key for key in found if found[key].malformed] == ["tenants/evil"]


def of_limit(largest: int, previous: Snapshot | None = None) -> str | None:
    found = from_reading(reading(acme='{"enabled": true}'), now=0, previous=previous, largest=largest)
    return found["tenants/acme"].malformed


def test_another_limit_acts_on_what_is_known() -> None:
    """A document that has not changed is weighed anew: its limit may have been raised, or lowered."""
    refused = from_reading(reading(acme='{"enabled": true}'), now=0, largest=10)
    taken = from_reading(reading(acme='{"enabled": true}'), now=0, largest=100)
    assert of_limit(100, refused) is None
    assert "may have 10" in (of_limit(10, taken) or "")


def test_a_raised_limit_acts_though_the_store_has_not_changed(tmp_path: Path) -> None:
    """The message says to raise the setting: that is followed by the next refresh, not only by the next change."""
    store = MemoryStore("limits")
    store.put("tenants/acme", b'{"enabled": true}')
    for largest, is_refused in ((10, True), (100, False)):
        client = ConfigClient(lambda: store, tmp_path / "state", ttl=0, largest=largest)
        assert bool(client.refresh()["tenants/acme"].malformed) == is_refused


def test_a_document_that_names_the_setting_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its writer would have the whole store read, and this document decoded, by each look of the processor."""
    store = MemoryStore("limits")
    store.put("tenants/evil", json.dumps({"attributes": {"note": f"{LIMIT} may have 1: "}}).encode())
    reading, kept = store.read(), ConfigClient(lambda: store, tmp_path / "state", ttl=0).refresh()
    monkeypatch.setattr(store, "read", lambda: pytest.fail("the store is read again"))
    assert ConfigClient(lambda: store, tmp_path / "state", ttl=0).refresh().version == kept.version
    monkeypatch.setattr("dagfactory_consul.snapshot.decode", lambda *_, **__: pytest.fail("it is decoded again"))
    assert from_reading(reading, now=0, previous=kept).version == kept.version


@pytest.mark.parametrize("entries", [[{"name": f"d{number}"} for number in range(101)], [{"enabled": False}] * 101])
def test_a_tenant_has_a_hundred_dags(entries: list[dict[str, Any]]) -> None:
    """A document with more is a problem of its tenant, with the number and the setting; all its last good DAGs stay."""
    found = plan(snapshot_of({"tenants/evil": {"dags": {"Job": entries}}}), registry_of(), "production")
    (problem,) = found.problems
    assert (problem.tenant, problem.dag_id, dict(found.specs)) == ("evil", None, {})
    assert "describes 101 DAGs, and a tenant may have 100" in problem.message
    assert "AIRFLOW__DAGFACTORY_CONSUL__MAX_DAGS" in problem.message


def test_the_limit_of_dags_is_a_setting() -> None:
    """As many as the limit are planned."""
    entries = [{"name": f"d{number}"} for number in range(3)]
    snapshot = snapshot_of({"tenants/acme": {"dags": {"Job": entries}}})
    assert len(plan(snapshot, registry_of(), "production", max_dags=3).specs) == 3
    assert len(plan(snapshot, registry_of(), "production", max_dags=2).specs) == 0


COLUMNS = {"owner": 500, "pool": 256, "queue": 256}
"""Airflow 3.3.2: dag_owner_attributes.owner, task_instance.pool and .queue."""


@pytest.mark.parametrize("field", COLUMNS)
def test_a_text_is_as_long_as_its_column(field: str) -> None:
    """A longer one would end the scheduler, or the DAG processor."""
    assert AirflowSettings.model_validate({field: "x" * COLUMNS[field]})
    with pytest.raises(ValueError, match=f"at most {COLUMNS[field]} characters"):
        AirflowSettings.model_validate({field: "x" * (COLUMNS[field] + 1)})


def test_the_columns_are_airflows() -> None:
    """An Airflow whose columns are shorter is noticed here."""
    from airflow.models.dag import DagOwnerAttributes, DagTag
    from airflow.models.taskinstance import TaskInstance

    lengths = {name: getattr(TaskInstance, name).type.length for name in ("pool", "queue")}
    assert {"owner": DagOwnerAttributes.owner.type.length, **lengths} == COLUMNS
    assert DagTag.name.type.length == 100


@pytest.mark.parametrize("number", [2**31, 3_000_000_000, 2**62])
@pytest.mark.parametrize(
    ("model", "field"),
    [
        (AirflowSettings, "priority"),
        (AirflowSettings, "concurrency"),
        (AirflowSettings, "retries"),
        (DagConfig, "max_active_runs"),
    ],
)
def test_a_number_fits_its_column(model: type[AirflowSettings | DagConfig], field: str, number: int) -> None:
    """Columns hold 32 bits."""
    assert model.model_validate({field: 2**31 - 1})
    with pytest.raises(ValueError, match="less than or equal to 2147483647"):
        model.model_validate({field: number})


@pytest.mark.parametrize("seconds", [1e300, 31_536_001, float("inf"), float("nan")])
def test_a_delay_ends_at_a_year(seconds: float) -> None:
    """What no timedelta holds, and what nobody waits for, is refused."""
    assert AirflowSettings.model_validate({"retry_delay": 31_536_000})
    with pytest.raises(ValueError, match="retry_delay"):
        AirflowSettings.model_validate({"retry_delay": seconds})


@pytest.mark.parametrize(("field", "most"), [("schedule", 250), ("description", 5_000)])
def test_texts_of_a_dag_are_bounded(field: str, most: int) -> None:
    """A cron of 800 letters has a summary that its column does not hold; nobody reads a description of pages."""
    assert DagConfig.model_validate({field: "x" * most})
    with pytest.raises(ValueError, match=f"at most {most} characters"):
        DagConfig.model_validate({field: "x" * (most + 1)})
