from __future__ import annotations

from pathlib import Path

import pytest

from dagfactory_consul.attempt import MAX_BACKOFF, PARSES_HERE, Attempt

NOW = 1_000_000.0


def waits(attempt: Attempt, ttl: float) -> float:
    """Return after how many whole seconds the next attempt is due."""
    return next(second for second in range(100_000) if attempt.is_due(attempt.at + second, ttl))


def test_the_first_attempt_is_due() -> None:
    """Where nothing was ever attempted, an attempt is due."""
    assert Attempt().is_due(NOW, ttl=30)


def test_after_a_success_the_ttl_is_waited_for() -> None:
    """One attempt a TTL, while the store answers."""
    assert waits(Attempt(at=NOW), ttl=30) == 30
    assert waits(Attempt(at=NOW), ttl=0) == 0


def test_failures_are_waited_out_longer_and_longer() -> None:
    """Each failure in a row doubles the wait, up to a minute: a store that is down is not stormed."""
    assert [waits(Attempt(at=NOW, failures=each), ttl=5) for each in (1, 2, 3, 4, 5, 6, 1000)] == [
        5,
        10,
        20,
        40,
        MAX_BACKOFF,
        MAX_BACKOFF,
        MAX_BACKOFF,
    ]


def test_a_short_ttl_does_not_make_it_storm() -> None:
    """Even without a TTL a failing store is left in peace for a second, then for longer."""
    assert [waits(Attempt(at=NOW, failures=each), ttl=0) for each in (1, 2, 3)] == [1, 2, 4]


def test_a_long_ttl_is_never_shortened() -> None:
    """A failure does not make attempts more frequent than successes do."""
    assert [waits(Attempt(at=NOW, failures=each), ttl=300) for each in (0, 1, 5)] == [300, 300, 300]


@pytest.mark.parametrize("failures", [0, 1, 20])
def test_a_clock_that_was_set_back_stops_nothing(failures: int) -> None:
    """An attempt in the future is one of a clock that was wrong: the next one is due at once."""
    assert Attempt(at=NOW, failures=failures).is_due(NOW - 1, ttl=30)


def test_parses_count_for_a_while() -> None:
    """A machine whose last attempt was a parse's counts as one with a processor, for ten minutes or ten TTLs."""
    parse = Attempt(at=NOW, by_parse=True)
    assert parse.parses_here(NOW + PARSES_HERE - 1, ttl=30)
    assert not parse.parses_here(NOW + PARSES_HERE, ttl=30)
    assert parse.parses_here(NOW + 2999, ttl=300)
    assert not Attempt(at=NOW, by_parse=False).parses_here(NOW, ttl=30)


def test_an_attempt_is_read_as_it_was_saved(tmp_path: Path) -> None:
    """What one process has attempted the next one knows; nothing else is left in the folder."""
    attempt = Attempt(at=NOW, failures=3, error='consul://x: refused "ü"', by_parse=True)
    attempt.save(tmp_path)
    assert Attempt.load(tmp_path) == attempt
    assert [path.name for path in tmp_path.iterdir()] == ["attempt.json"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", "5", '{"when": 1}', '{"at": 1}}', "\udcff"])
def test_what_cannot_be_read_counts_as_no_attempt(tmp_path: Path, text: str | None) -> None:
    """A missing, damaged or foreign file costs one attempt too many, and no more."""
    if text is not None:
        (tmp_path / "attempt.json").write_bytes(text.encode(errors="surrogateescape"))
    assert Attempt.load(tmp_path) == Attempt()
