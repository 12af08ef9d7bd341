"""Descriptions of cron expressions: what is kept of them, and that they stay what Airflow says."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.timetables import _cron
from airflow.timetables.trigger import CronTriggerTimetable
from cron_descriptor import ExpressionDescriptor  # type: ignore[import-untyped]

from dagfactory_consul import descriptions

EXPRESSIONS = ("@daily", "*/5 3 * * 1-5", "0 0 1 * *", "0 12 1,15 * 1", "30 2 * 6 *", "@once-a-day", "* * * * * *", "")


@pytest.fixture(autouse=True)
def of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back what Airflow has there itself: any bundle in this process replaces it."""
    monkeypatch.setattr(_cron, "ExpressionDescriptor", ExpressionDescriptor)


def described(expression: str) -> str:
    return CronTriggerTimetable(expression, timezone="UTC").description


def test_descriptions_stay_what_airflow_says() -> None:
    """With it each expression is described as without it, the first time and the second; a malformed one, too."""
    before = [described(each) for each in EXPRESSIONS]
    descriptions.keep()
    assert vars(_cron)["ExpressionDescriptor"] is not ExpressionDescriptor
    assert [described(each) for each in EXPRESSIONS] == before
    assert [described(each) for each in EXPRESSIONS] == before
    assert before[0] == "At 00:00"


def test_each_expression_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked for, in however many timetables."""
    made: list[str] = []

    class Counted(ExpressionDescriptor):  # type: ignore[misc]
        def __init__(self, expression: str, **options: Any) -> None:
            made.append(expression)
            super().__init__(expression, **options)

    monkeypatch.setattr(_cron, "ExpressionDescriptor", Counted)
    descriptions.keep()
    descriptions.keep()  # once more is no more
    for _ in range(3):
        assert described("0 6 * * *") == "At 06:00"
    assert made == ["0 6 * * *"]


def test_another_airflow_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the name is gone nothing is put in its place."""
    monkeypatch.delattr(_cron, "ExpressionDescriptor")
    descriptions.keep()
    assert not hasattr(_cron, "ExpressionDescriptor")
