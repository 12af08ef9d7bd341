from __future__ import annotations

import contextlib
import signal
import threading
import time
from types import FrameType, FunctionType

import pytest

from dagfactory_consul.time_limit import TimeLimitExceededError, time_limit
from tests.waiting import wait_until


class OuterError(BaseException):
    """What an outer timer raises, as Airflow's own around the parse of a file."""


def raise_outer(_signal: int, _frame: FrameType | None) -> None:
    raise OuterError


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end)


def test_what_takes_too_long_is_stopped() -> None:
    """The limit stops code that is busy, and says what it was and how long it had."""
    with (
        pytest.raises(TimeLimitExceededError, match=r"building acme took longer than 0\.05 s"),
        time_limit(0.05, "building acme"),
    ):
        spin(5)


def test_what_is_in_time_is_left_alone() -> None:
    """No timer goes on after the code within has ended, and the handler is who it was."""
    signal.setitimer(signal.ITIMER_REAL, 0)  # pytest's own
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(5, "it"):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_code_cannot_take_it_for_an_error_of_its_own() -> None:
    """`except Exception` within does not swallow the limit."""
    with pytest.raises(TimeLimitExceededError), time_limit(0.05, "it"), contextlib.suppress(Exception):
        spin(5)


def test_an_outer_timer_goes_on() -> None:
    """Airflow's own limit around the whole file still comes, and when it was due."""
    before = signal.signal(signal.SIGALRM, raise_outer)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(TimeLimitExceededError), time_limit(0.05, "it"):
            spin(5)
        with pytest.raises(OuterError):
            spin(5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_outer_timer_that_is_due_first_comes_first() -> None:
    """A limit that would be later than Airflow's own leaves that one alone."""
    before = signal.signal(signal.SIGALRM, raise_outer)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(OuterError), time_limit(5, "it"):
            spin(5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_another_thread_has_no_limit() -> None:
    """Signals reach only the main thread: elsewhere the code just runs."""
    ended = threading.Event()

    def work() -> None:
        with time_limit(0.01, "it"):
            spin(0.05)
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended.is_set()


def run_module(name: str, seconds: float) -> None:
    """Run code as the import of a module of that name does."""
    exec(compile(f"spin({seconds})", name, "exec"), {"__name__": name, "spin": spin})  # noqa: S102  # the test's own


def test_airflows_imports_do_not_count() -> None:
    """Who asks for a module of Airflow first does not pay for its import, which goes through to its end."""
    asked: list[int] = []
    with time_limit(0.2, "building acme", on_import=lambda: asked.append(1)):
        run_module("airflow.providers.heavy", 0.6)
    assert asked


def test_other_imports_count() -> None:
    """A builder's own module that takes long is the builder's affair."""
    with pytest.raises(TimeLimitExceededError), time_limit(0.1, "it"):
        run_module("acme.heavy", 5)


def test_an_outer_timer_comes_during_an_import() -> None:
    """Airflow's own limit around the whole file comes when it is due, although nothing counts until then."""
    before = signal.signal(signal.SIGALRM, raise_outer)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    try:
        with pytest.raises(OuterError), time_limit(0.2, "it"):
            run_module("airflow.providers.heavy", 5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def busy(until: float) -> bool:
    while time.monotonic() < until:
        pass
    return True


def test_the_end_of_a_limit_is_not_broken_off() -> None:
    """A tick that finds the limit's own code at its end, late on a busy machine, lets it end."""
    of_the_limit = FunctionType(busy.__code__, {"__name__": time_limit.__module__, "time": time})
    with time_limit(0.1, "the build"):
        assert of_the_limit(time.monotonic() + 0.5)
