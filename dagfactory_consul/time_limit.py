"""A time limit on code that is not ours: a builder's module, or its `build`."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType


class TimeLimitExceededError(BaseException):
    """The limit has passed. Not an Exception, so that the code within cannot take it for one of its own."""


class time_limit:  # noqa: N801  # used as a function is
    """Raise TimeLimitExceededError where the code within takes longer: `with time_limit(5, "the import"): …`.

    It works by SIGALRM, so only in the main thread, and only as soon as Python code runs; elsewhere there is no limit.
    A timer that is running already (Airflow's own, around the parse of a file) goes on afterwards where it was, and one
    that ends sooner is left alone: it says so itself.

    Args:
        seconds: the limit; 0 for none.
        what: that takes so long, for the error.
    """

    __slots__ = ("_outer_handler", "_outer_left", "_started", "seconds", "what")

    def __init__(self, seconds: float, what: str) -> None:
        self.seconds = seconds
        self.what = what
        self._started = 0.0

    def __enter__(self) -> None:
        if self.seconds <= 0 or threading.current_thread() is not threading.main_thread():
            return
        self._outer_left = signal.getitimer(signal.ITIMER_REAL)[0]
        if self._outer_left and self._outer_left <= self.seconds:
            return
        self._started = time.monotonic()
        self._outer_handler = signal.signal(signal.SIGALRM, self._stop)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_: object) -> None:
        if not self._started:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._outer_handler)
        if self._outer_left:
            left = self._outer_left - (time.monotonic() - self._started)
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left))

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        raise TimeLimitExceededError(f"{self.what} took longer than {self.seconds:g} s")
