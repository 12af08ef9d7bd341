"""The small client of Airflow's REST API, against answers that a real one gave."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from demo.api import PAUSES, AirflowApi

LOCKED = httpx.Response(500, json={"detail": {"reason": "Database error"}})


def api(
    answer: Callable[[httpx.Request], httpx.Response], sleep: Callable[[float], None] = lambda _: None
) -> AirflowApi:
    """Return a client whose log-in succeeds and whose other requests get `answer`, and which need not wait."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        assert request.headers.get("Authorization", "Bearer t") == "Bearer t"
        return answer(request)

    return AirflowApi("http://airflow", user="admin", password="", transport=httpx.MockTransport(handle), sleep=sleep)


def test_a_run_is_asked_for_again_under_the_same_id() -> None:
    """A database that was locked costs no run and makes no second one: the same id is asked for once more."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content)["dag_run_id"])
        return LOCKED if len(asked) == 1 else httpx.Response(200, json={})

    assert api(answer).trigger("acme__x") == asked[0]
    assert asked == [asked[0]] * 2


def test_a_run_that_is_there_already_is_started() -> None:
    """A conflict says that an earlier try, whose answer was an error, made the run after all."""
    answers = iter([LOCKED, httpx.Response(409, json={})])
    assert api(lambda _: next(answers)).trigger("acme__x")


def test_a_refusal_is_shown_and_not_repeated() -> None:
    """What Airflow refuses is an AssertionError with its words, at the first answer."""
    answers = iter([httpx.Response(404, text="no such DAG")])
    with pytest.raises(AssertionError, match="404 no such DAG"):
        api(lambda _: next(answers)).trigger("acme__x")


def test_a_database_that_stays_locked_is_an_error() -> None:
    """A locked database is waited for with ever longer pauses, half a minute in all, and not for ever."""
    slept: list[float] = []
    answers = iter([LOCKED] * (1 + len(PAUSES)))
    with pytest.raises(AssertionError, match="cannot be started: 500"):
        api(lambda _: next(answers), slept.append).trigger("acme__x")
    assert slept == sorted(slept)
    assert sum(slept) > 30


def test_all_pages_are_read() -> None:
    """A list that Airflow gives in pages is read to its end."""

    def answer(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        page = [{"dag_id": f"d{number}", "tags": []} for number in range(offset, min(offset + 100, 250))]
        return httpx.Response(200, json={"dags": page, "total_entries": 250})

    assert len(api(answer).dags()) == 250


def test_a_server_that_is_not_there_is_no_health() -> None:
    """While nobody answers nothing is healthy; that is no error, since Airflow is just starting."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    assert api(refuse).healthy() == {}


def test_a_list_is_read_though_the_database_was_locked() -> None:
    """A question that changes nothing is repeated like one that does."""
    answers = iter([LOCKED, LOCKED, httpx.Response(200, json={"dags": [], "total_entries": 0})])
    assert api(lambda _: next(answers)).dags() == {}
