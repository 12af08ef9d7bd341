"""Time limits on code that is not ours: on a builder's module or `build`, and on one tenant's part of a parse."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from types import FrameType
from typing import ClassVar

IMPORTS = 120.0
"""Seconds that Airflow's own imports may take within a limit, besides: a cold, busy machine takes ten for them."""
PARSE_SHARE = 3
"""One tenant's DAGs, or a preflight, may take this part of the time that Airflow leaves a parse: it loses all DAGs of a
file that takes longer."""
_TICK = 0.1
"""Seconds between two looks at what the code within is doing, at most."""


class TimeLimitExceededError(BaseException):
    """The limit has passed. Not an Exception, so that the code within cannot take it for one of its own."""


class time_limit:  # noqa: N801  # used as a function is
    """Raise TimeLimitExceededError where the code within takes longer: `with time_limit(5, "the import"): …`.

    The time in which a module of Airflow is imported does not count: the builder that asks for it first would pay for
    it, and an import that is broken off leaves modules behind that fail for everybody after.

    It works by SIGALRM, so only in the main thread, and only as soon as Python code runs; elsewhere there is no limit.
    A timer that is running already (Airflow's own, around the parse of a file) goes on afterwards where it was, and one
    that ends sooner is left alone: it says so itself.

    Args:
        seconds: the limit; 0 for none.
        what: that takes so long, for the error.
        on_import: is called now and then while a module of Airflow is imported.
    """

    __slots__ = (
        "_importing",
        "_last",
        "_on_import",
        "_outer_handler",
        "_outer_left",
        "_started",
        "_used",
        "seconds",
        "what",
    )
    ENDING: ClassVar[frozenset[str]] = frozenset({__name__})
    """The modules of what ends a limit. On a busy machine the next tick finds it at work: it is let end."""

    def __init__(self, seconds: float, what: str, *, on_import: Callable[[], object] | None = None) -> None:
        self.seconds = seconds
        self.what = what
        self._on_import = on_import
        self._started = self._used = self._importing = 0.0

    def __enter__(self) -> None:
        if self.seconds <= 0 or threading.current_thread() is not threading.main_thread():
            return
        self._outer_left = signal.getitimer(signal.ITIMER_REAL)[0]
        if self._outer_left and self._outer_left <= self.seconds:
            return
        self._started = self._last = time.monotonic()
        self._outer_handler = signal.signal(signal.SIGALRM, self._look)
        tick = min(_TICK, self.seconds / 4)
        signal.setitimer(signal.ITIMER_REAL, tick, tick)

    def __exit__(self, *_: object) -> None:
        if not self._started:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._outer_handler)
        if self._outer_left:
            left = self._outer_left - (time.monotonic() - self._started)
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left))

    def _look(self, number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_globals.get("__name__") in self.ENDING:
            return
        now = time.monotonic()
        passed, self._last = now - self._last, now
        if self._outer_left and now - self._started >= self._outer_left and callable(self._outer_handler):
            self._outer_handler(number, frame)
        elif _imports_airflow(frame) and self._importing < IMPORTS:
            self._importing += passed
            if self._on_import is not None:
                self._on_import()
        else:
            self._count(passed)

    @property
    def importing(self) -> float:
        """Seconds in which a module of Airflow was imported, which do not count."""
        return self._importing

    def _count(self, passed: float) -> None:
        self._used += passed
        if self._used >= self.seconds:
            raise TimeLimitExceededError(f"{self.what} took longer than {self.seconds:g} s")


def _imports_airflow(frame: FrameType | None) -> bool:
    """Say whether a module of Airflow's is just being run for the first time, and with it all that it imports."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and str(frame.f_globals.get("__name__")).startswith("airflow."):
            return True
        frame = frame.f_back
    return False


def share_of_parse() -> float:
    """Return the seconds that a part of the parse that runs here may take; inf where Airflow does not limit it."""
    return (signal.getitimer(signal.ITIMER_REAL)[0] or math.inf) / PARSE_SHARE


class TenantsShare:
    """How much of a parse each tenant's DAGs have taken, and may take together.

    Args:
        seconds: that one tenant's DAGs may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._used: dict[str | None, float] = defaultdict(float)

    def add(self, tenant: str | None, seconds: float) -> None:
        """Count the time that a DAG of a tenant has taken."""
        self._used[tenant] += seconds

    def why_over(self, tenant: str | None) -> str | None:
        """Say why no more DAGs of a tenant are built; None where there is time left."""
        if self._used[tenant] < self.seconds:
            return None
        return (
            f"the DAGs of {tenant} before it took {self.seconds:.0f} s, a third of what Airflow leaves the file: make "
            "them fewer or smaller, or raise [core] dagbag_import_timeout"
        )
