"""Cron expressions: what is kept of them, and that timetables stay what Airflow makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow._shared.timezones.timezone import parse_timezone
from airflow.exceptions import AirflowTimetableInvalid
from airflow.timetables import _cron
from airflow.timetables.interval import CronDataIntervalTimetable
from airflow.timetables.trigger import CronTriggerTimetable, MultipleCronTriggerTimetable

from dagfactory_consul import cron

EXPRESSIONS = ("@daily", "*/5 3 * * 1-5", "0 0 1 * *", "0 12 1,15 * 1", "30 2 * 6 *", "@once-a-day", "* * * * * *", "")
ZONES = ("UTC", "Europe/Berlin", parse_timezone("Europe/Berlin"), parse_timezone(3600))
OF_AIRFLOW: Any = getattr(_cron.CronMixin.__init__, "__wrapped__", _cron.CronMixin.__init__)


@pytest.fixture(autouse=True)
def of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back what Airflow has there itself: any bundle in this process replaces it."""
    monkeypatch.setattr(_cron.CronMixin, "__init__", OF_AIRFLOW)


def made() -> list[dict[str, Any]]:
    """Return what all timetables are made of."""
    kinds: list[Callable[..., Any]] = [CronTriggerTimetable, CronDataIntervalTimetable]
    found = [vars(kind(each, timezone=zone)) for kind in kinds for each in EXPRESSIONS for zone in ZONES]
    several = MultipleCronTriggerTimetable("0 6 * * *", "@daily", timezone="UTC")
    return [*found, *(vars(each) for each in several._timetables)]


def test_timetables_stay_what_airflow_makes() -> None:
    """With it each timetable is made as without it, the first time and the second; a malformed one, too."""
    before = made()
    cron.keep()
    assert _cron.CronMixin.__init__ is not OF_AIRFLOW
    assert made() == before
    assert made() == before
    assert before[0]["description"] == "At 00:00"
    with pytest.raises(AirflowTimetableInvalid):
        CronTriggerTimetable("@once-a-day", timezone="UTC").validate()


def test_timetables_share_nothing_that_can_change() -> None:
    """What is set on one is not seen on another one of the same expression."""
    cron.keep()
    one, other = (CronTriggerTimetable("@daily", timezone="UTC") for _ in range(2))
    one.description = "changed"
    assert other.description == CronTriggerTimetable("@daily", timezone="UTC").description == "At 00:00"


def test_each_expression_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked for, in however many timetables; in another timezone it is another one."""
    worked_out: list[tuple[str, str]] = []

    def counted(self: _cron.CronMixin, cron: str, timezone: str) -> None:
        worked_out.append((cron, timezone))
        OF_AIRFLOW(self, cron, timezone)

    monkeypatch.setattr(_cron.CronMixin, "__init__", counted)
    cron.keep()
    cron.keep()  # once more is no more
    for _ in range(3):
        for zone in ("UTC", "Europe/Berlin"):
            assert CronTriggerTimetable("0 6 * * *", timezone=zone).description == "At 06:00"
    assert worked_out == [("0 6 * * *", "UTC"), ("0 6 * * *", "Europe/Berlin")]


def test_another_airflow_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is gone, or takes something else, nothing is put in its place; what can change is not shared."""

    def takes_more(self: _cron.CronMixin, cron: str, timezone: str, jitter: float = 0) -> None: ...

    def makes_more(self: Any, cron: str, timezone: str) -> None:
        self.seen = [cron, timezone]

    monkeypatch.setattr(_cron.CronMixin, "__init__", takes_more)
    cron.keep()
    assert _cron.CronMixin.__init__ is takes_more
    monkeypatch.setattr(_cron.CronMixin, "__init__", makes_more)
    cron.keep()
    one, other = (CronTriggerTimetable("@daily", timezone="UTC") for _ in range(2))
    assert vars(one)["seen"] is not vars(other)["seen"]
    monkeypatch.delattr(_cron, "CronMixin")
    cron.keep()
    assert not hasattr(_cron, "CronMixin")


def test_timetables_of_others_are_left_as_they_are() -> None:
    """A class of somebody else may describe itself otherwise; and a timezone need not be hashable."""

    class Own(CronTriggerTimetable):
        def _describe_with_dom_dow_fix(self, expression: str) -> str:
            return f"own {expression}"

    cron.keep()
    assert CronTriggerTimetable("@daily", timezone="UTC").description == "At 00:00"
    assert Own("@daily", timezone="UTC").description == "own 0 0 * * *"
    zone: Any = ["not", "hashable"]
    assert CronTriggerTimetable("@daily", timezone=zone)._timezone is zone


def test_a_timezone_that_does_not_exist() -> None:
    """An error stays the error that it is, each time."""
    cron.keep()
    for _ in range(2):
        with pytest.raises(Exception, match="nowhere"):
            CronTriggerTimetable("@daily", timezone="nowhere")
