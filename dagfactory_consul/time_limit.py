"""A time limit on code that is not ours: a builder's module, or its `build`."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any


class TimeLimitExceededError(BaseException):
    """The limit has passed. Not an Exception, so that the code within cannot take it for one of its own."""


@contextlib.contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise TimeLimitExceededError where the code within takes longer.

    It works by SIGALRM, so only in the main thread, and only as soon as Python code runs; elsewhere there is no limit.
    A timer that is running already (Airflow's own, around the parse of a file) goes on afterwards where it was.
    """
    if threading.current_thread() is not threading.main_thread() or seconds <= 0:
        yield
        return

    def stop(_signal: int, _frame: Any) -> None:
        raise TimeLimitExceededError(f"{what} took longer than {seconds:g} s")

    outer_left, _ = signal.getitimer(signal.ITIMER_REAL)
    if outer_left and outer_left <= seconds:
        yield  # the outer limit comes first, and says so itself
        return
    outer_handler = signal.signal(signal.SIGALRM, stop)
    started = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, outer_handler)
        if outer_left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, outer_left - (time.monotonic() - started)))
