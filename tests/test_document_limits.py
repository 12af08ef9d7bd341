"""The limits on documents: one that takes too long to plan is a problem of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

import openfeature.contrib.tools.flagd.core.targeting.targeting  # noqa: F401  # as the preflight: no rule pays for it
import pytest
from pydantic import model_validator

from dagfactory_consul import document_limits
from dagfactory_consul.builders import DagBuilder
from dagfactory_consul.document_limits import DocumentLimits
from dagfactory_consul.errors import BrokenOffError
from dagfactory_consul.models import DagConfig
from dagfactory_consul.plan import Plan, plan
from dagfactory_consul.snapshot import Document
from tests.making import definition, registry_of, snapshot_of

LIMIT = 0.3
ON: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
DEAR = {"if": [{"all": [list(range(300)), {"and": [True] * 50}]}, "on", "off"]}
"""A rule of 15,000 operations: one evaluation takes a hundredth of the limit, those of all `TENANTS` several limits."""


class MoodyConfig(DagConfig):
    mood: str = "good"

    @model_validator(mode="after")
    def _hang(self) -> Self:
        while self.mood == "hang":
            time.sleep(0.01)
        return self


class Moody(DagBuilder[MoodyConfig]):
    def tasks(self) -> None: ...


MOODY = registry_of(definition("Moody", Moody, flags={"flag": True}), definition("Job"))


def planned(documents: Mapping[str, Any], last_good: Mapping[str, Any] | None = None, **options: Any) -> Plan:
    shared = {key: Document(key, value, 1) for key, value in (last_good or {}).items()}
    limits = DocumentLimits(LIMIT, **options)
    return plan(snapshot_of(documents), MOODY, "production", last_good=shared, limits=limits)


def of(mood: str) -> dict[str, Any]:
    return {"dags": {"Job": {}, "Moody": {"mood": mood}}}


def test_a_tenant_that_hangs_is_a_problem_of_its_own() -> None:
    """The plan of the others goes on, and no DAG of the one that hangs takes its new configuration."""
    found = planned({"tenants/a": of("good"), "tenants/b": of("hang"), "tenants/c": of("good")})
    assert {spec.tenant for spec in found.specs.values()} == {"a", "c"}
    (problem,) = found.problems
    assert str(problem) == "tenants/b: working out its DAGs took longer than 0.3 s"
    assert (problem.tenant, problem.dag_id) == ("b", None)
    assert found.again == {"tenants/b"}


def test_defaults_that_hang_keep_their_last_good_contents() -> None:
    """What hangs in the defaults is nobody's else: no tenant is blamed for it."""
    good = {"attributes": {"tier": "gold"}}
    found = planned({"defaults": {"dags": {"Moody": {"mood": "hang"}}}, "tenants/a": of("good")}, {"defaults": good})
    (problem,) = found.problems
    assert problem.message == "checking it took longer than 0.3 s. In force instead: its last good contents"
    assert {spec.attributes["tier"] for spec in found.specs.values()} == {"gold"}


def test_documents_that_hang_share_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once slow documents have used up their pool each of them takes little; quick ones are planned all the same."""
    monkeypatch.setattr(document_limits, "AFTERWARDS", 0.1)
    documents = {f"tenants/{number}": of("hang") for number in range(6)}
    found = planned({**documents, "tenants/z": of("good")}, pool=0.5)
    limits = [problem.message.rpartition("than ")[2] for problem in found.problems]
    assert limits == ["0.3 s", "0.3 s", "0.1 s", "0.1 s", "0.1 s", "0.1 s"]
    assert {spec.tenant for spec in found.specs.values()} == {"z"}


def test_a_document_that_failed_before_is_not_begun() -> None:
    """Whoever knows that a document hangs says so before it costs anything."""

    def refuse(document: Document, _limit: float) -> None:
        if document.key == "tenants/b":
            raise BrokenOffError("it hung before", key=document.key)

    found = planned({"tenants/a": of("good"), "tenants/b": of("hang")}, begin=refuse)
    assert [str(each) for each in found.problems] == ["tenants/b: it hung before"]


TENANTS = {f"tenants/{number}": of("good") for number in range(400)}


def test_a_rule_that_is_slow_for_all_together_keeps_its_last_good_definition() -> None:
    """Its time is the flag's and no tenant's, and all tenants are planned by one and the same definition."""
    late: list[str] = []
    flag = {**ON, "targeting": DEAR}
    documents = {**TENANTS, "flags/flag": flag}
    found = planned(documents, {"flags/flag": False}, late=lambda document, _: late.append(document.key))
    (problem,) = found.problems
    assert problem.message == (
        "its targeting took longer than 0.3 s for all tenants together. In force instead: its last good definition"
    )
    assert {spec.flags["flag"] for spec in found.specs.values() if spec.builder == "Moody"} == {False}
    assert len(found.specs) == 2 * len(TENANTS)
    assert late == ["flags/flag"] == sorted(found.again)


def test_a_rule_in_force_that_has_become_slow_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no better definition, so the tenants that ask for it keep what they have; others are planned."""
    monkeypatch.setattr(document_limits, "WAS_GOOD", 1)
    flag = {**ON, "targeting": DEAR}
    found = planned({**TENANTS, "tenants/z": {"dags": {"Job": {}}}, "flags/flag": flag}, {"flags/flag": flag})
    assert [spec.tenant for spec in found.specs.values()] == ["z"]
    assert {f"tenants/{problem.tenant}" for problem in found.problems} == {*TENANTS}
    assert {str(problem).partition(": ")[2] for problem in found.problems} == {
        "flags/flag: its targeting takes too long: shorten its lists"
    }


def test_what_is_done_about_a_slow_document_is_not_broken_off() -> None:
    """The limit of a document ends when it has passed, however long it then takes to tell of it."""
    result = planned({"tenants/a": {"dags": {"Moody": {"mood": "hang"}}}}, late=lambda *_: time.sleep(3 * LIMIT))
    assert [each.message for each in result.problems] == [f"working out its DAGs took longer than {LIMIT:g} s"]


def test_no_limit() -> None:
    """0 is no limit, as everywhere."""
    limits = DocumentLimits(0)
    with limits, limits.of(Document("tenants/a", {})):
        time.sleep(0.15)
