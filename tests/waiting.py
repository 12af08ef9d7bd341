"""Waiting for a condition, with a deadline: no test sleeps for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], deadline: float = 10.0, *, every: float = 0.02) -> T:
    """Return what the condition returns, as soon as that is true; fail after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {condition}; it is {value!r}")
        time.sleep(every)
    return value
