"""Waiting for something to come, and watching that something does not, always with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")

EVERY = 0.25
"""Seconds from one look to the next."""


class TooLateError(AssertionError):
    """What was waited for did not come."""


class UnexpectedError(AssertionError):
    """What must not come came."""


def until(look: Callable[[], T | Literal[False] | None], what: str, *, seconds: float, every: float = EVERY) -> T:
    """Call `look` until it returns something true, and return that.

    An AssertionError raised by `look` counts as "not yet": the last one is shown if the time runs out.

    Raises:
        TooLateError: after `seconds`, naming what was waited for and what was seen last.
        UnexpectedError: `look` saw what must not be.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen: object
        try:
            if value := look():
                return value
            seen = value
        except UnexpectedError:
            raise
        except AssertionError as error:
            seen = error
        if time.monotonic() >= deadline:
            raise TooLateError(f"after {seconds:.0f} s still waiting until {what}; last seen: {seen}")
        time.sleep(every)


def never(look: Callable[[], object], what: str, *, seconds: float, every: float = EVERY) -> None:
    """Call `look` again and again for `seconds`, and raise UnexpectedError as soon as it returns something true."""
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        if seen := look():
            raise UnexpectedError(f"after {passed:.1f} s {what}: {seen}")
        time.sleep(every)
