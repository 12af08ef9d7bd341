"""Airflow's line about each look at a bundle: seldom for ours, as it is for others'."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
import structlog
from airflow._shared.logging.structlog import PER_LOGGER_LEVELS, configure_logging

from dagfactory_consul import quiet


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What Airflow's own set-up of its loggers writes, with loggers kept from their first use as in a DAG processor."""
    before = structlog.get_config()
    written = io.StringIO()
    monkeypatch.setattr("logging.config.dictConfig", lambda _config: None)
    configure_logging(log_level="INFO", output=written)
    structlog.configure(**{**structlog.get_config(), "cache_logger_on_first_use": True})
    yield written
    structlog.configure(**before)


@pytest.fixture
def look(log: io.StringIO) -> Callable[[str], None]:
    """Log as the manager does; its logger has been used before anything is hushed."""
    manager = structlog.get_logger(quiet.MANAGER)
    manager.info("Refreshing bundle %s", "warm-up")
    assert "warm-up" in log.getvalue()
    return lambda name: manager.info("Refreshing bundle %s", name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr(quiet.Seldom.__init__, "__defaults__", (lambda: now[0],))
    return now


def test_one_line_in_ten_minutes(log: io.StringIO, look: Callable[[str], None], clock: list[float]) -> None:
    """Of our bundle's looks one is logged in ten minutes, whatever logger was used before."""
    quiet.hush("tenants")
    for clock[0] in range(60, 1261, 60):
        look("tenants")
    assert log.getvalue().count("Refreshing bundle tenants") == 2


def test_other_lines_stay(log: io.StringIO, look: Callable[[str], None]) -> None:
    """Another bundle's looks, and all else that the manager logs, stay."""
    quiet.hush("tenants")
    for line in ("Error refreshing bundle tenants", "Found 3 files for bundle tenants"):
        structlog.get_logger(quiet.MANAGER).info(line)
        assert line in log.getvalue()
    for name in ("tenants2", "tenants2", "plain"):
        look(name)
    assert log.getvalue().count("bundle tenants2") == 2
    assert "Refreshing bundle plain" in log.getvalue()


@pytest.mark.usefixtures("log")
def test_hushed_once() -> None:
    """A bundle that is made anew in the same process adds nothing."""
    for name in ("tenants", "tenants", "others"):
        quiet.hush(name)
    kept = [each.name for each in structlog.get_config()["processors"] if isinstance(each, quiet.Seldom)]
    assert sorted(kept) == ["others", "tenants"]


def test_debug_shows_each_look(log: io.StringIO, look: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the manager logs at level DEBUG, each look is logged."""
    monkeypatch.setitem(PER_LOGGER_LEVELS, "airflow.dag_processing.manager", 10)
    quiet.hush("tenants")
    for _ in range(3):
        look("tenants")
    assert log.getvalue().count("Refreshing bundle tenants") == 3
