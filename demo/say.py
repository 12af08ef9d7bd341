"""What the demonstration prints: a line for each step and how long it took, with a spinner on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Say:
    """Prints to standard output: plain lines to a file or a pipe, a spinner while waiting on a terminal."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def line(self, text: str = "") -> None:
        """Print one line, at once."""
        print(text, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """Print a title, what the body puts into the list, and how long it took; or that it failed."""
        start = time.monotonic()
        notes: list[str] = []
        try:
            with _spinner(title):
                yield notes
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            self.line(f"  {'stop' if stopped else 'FAIL'}  {time.monotonic() - start:6.1f} s  {title}")
            raise
        self.line(f"  ok    {time.monotonic() - start:6.1f} s  {title}{''.join(f'; {note}' for note in notes)}")

    @property
    def seconds(self) -> float:
        """How long it has been since the beginning."""
        return time.monotonic() - self._start


@contextmanager
def _spinner(title: str) -> Iterator[None]:
    if not sys.stdout.isatty():
        yield
        return
    from rich.console import Console  # only a terminal needs it

    with Console().status(title):
        yield
