"""The limits on documents: how long each may take while all of them are planned, one after the other.

Models are users' code, and rules are users' documents: one that hangs is a problem of its own document, and the plan of
all others goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Self

from .errors import BrokenOffError
from .snapshot import Document
from .time_limit import TimeLimitExceededError, time_limit

POOL = 15.0
"""Seconds that all slow documents may take together, before each of them may take no more than `AFTERWARDS`."""
AFTERWARDS = 0.5
"""Seconds that a document may take once the pool is empty; most take less than a thousandth of it."""
WAS_GOOD = 6
"""A flag's rule that was good before may take so many times the limit: a busy machine is no reason to give it up."""
WORK = {"tenants": "working out its DAGs", "flags": "trying its targeting", "defaults": "checking it"}
"""The work on a document, by the folder of its key."""


class SlowRuleError(Exception):
    """A flag's rule takes too long for all tenants together, so that all is to be planned again without it."""

    def __init__(self, document: Document, reason: str, *, was_good: bool) -> None:
        super().__init__(f"{document.key}: {reason}")
        self.key = document.key
        self.reason = reason
        self.was_good = was_good
        """Whether the rule was good before, so that there is no better one."""


class NoLimits:
    """No limits, for code that plans in a process of its own or for one tenant alone."""

    def __enter__(self) -> Self:
        """Begin to measure."""
        return self

    def __exit__(self, *_: object) -> None:
        """Measure no more."""

    def of(self, document: Document) -> AbstractContextManager[object]:  # noqa: ARG002  # the other class asks
        """Limit the work on a document. Raises BrokenOffError, at the beginning or at the end."""
        return nullcontext()

    def of_rule(self, document: Document, *, was_good: bool) -> AbstractContextManager[object]:  # noqa: ARG002
        """Limit all evaluations of a flag's rule together, for whatever tenants. Raises SlowRuleError."""
        return nullcontext()


class DocumentLimits(NoLimits):
    """Time limits, by one timer for all documents: `with limits: … with limits.of(document): …`.

    The timer looks ten times a second which document or rule is at work, so a limit costs a document next to nothing.
    It works where `time_limit` does: in the main thread, as soon as Python code runs.

    Args:
        seconds: that one document may take; 0 for no limit.
        pool: seconds that slow documents may take together.
        begin: is told of each document and its limit before work on it begins. It may raise BrokenOffError.
        late: is told of each document that has taken too long, and why it is refused.
    """

    def __init__(
        self,
        seconds: float,
        *,
        pool: float = POOL,
        begin: Callable[[Document, float], object] = lambda _document, _limit: None,
        late: Callable[[Document, str], object] = lambda _document, _reason: None,
    ) -> None:
        self.seconds = seconds
        self.left = pool
        self._begin = begin
        self._late = late
        self._timer = _Timer(self)
        self._document: Document | None = None
        self._rule: Document | None = None
        self._limit = self._used = self._rule_limit = 0.0
        self._used_by_rules: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Start the timer."""
        self._timer.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the timer."""
        self._timer.__exit__()

    @contextmanager
    def of(self, document: Document) -> Iterator[None]:
        """Limit the work on a document. Raises BrokenOffError, at the beginning or where it takes too long."""
        limit = self._allowed()
        self._begin(document, limit)
        self._used, self._limit = 0.0, limit
        self._document = document
        try:
            yield
        except TimeLimitExceededError as error:
            self._document = None
            reason = f"{WORK[document.key.partition('/')[0]]} took longer than {limit:g} s"
            self._late(document, reason)
            raise BrokenOffError(reason, key=document.key) from error
        finally:
            self._document = None
            self._take(self._used)

    @contextmanager
    def of_rule(self, document: Document, *, was_good: bool) -> Iterator[None]:
        """Limit all evaluations of a flag's rule together: their time is the flag's, and no tenant's.

        Raises:
            SlowRuleError: they have taken too long.
        """
        self._rule_limit = self._allowed() * (WAS_GOOD if was_good else 1)
        self._rule = document
        try:
            yield
        except TimeLimitExceededError as error:
            self._rule = None
            self._take(self._used_by_rules.pop(document.key))
            reason = f"its targeting took longer than {self._rule_limit:g} s for all tenants together"
            self._late(document, reason)
            raise SlowRuleError(document, reason, was_good=was_good) from error
        finally:
            self._rule = None

    def count(self, passed: float) -> None:
        """Count what has passed for the document that is at work. Raises TimeLimitExceededError."""
        if self._rule is not None:
            key = self._rule.key
            self._used_by_rules[key] = used = self._used_by_rules.get(key, 0.0) + passed
            is_over = used >= self._rule_limit
        else:
            self._used += passed
            is_over = self._document is not None and self._used >= self._limit
        if is_over and self.seconds > 0:
            raise TimeLimitExceededError("a document took too long")

    def renew(self) -> None:
        """Tell of the document at work again: the time in which Airflow is imported does not count."""
        if self._document is not None:
            self._begin(self._document, self._limit)

    def _allowed(self) -> float:
        return self.seconds if self.left > 0 else min(self.seconds, AFTERWARDS)

    def _take(self, used: float) -> None:
        if used >= AFTERWARDS:
            self.left -= used


class _Timer(time_limit):
    __slots__ = ("_limits",)
    ENDING = time_limit.ENDING | {__name__, contextmanager.__module__}

    def __init__(self, limits: DocumentLimits) -> None:
        super().__init__(limits.seconds, "", on_import=limits.renew)
        self._limits = limits

    def _count(self, passed: float) -> None:
        self._limits.count(passed)
