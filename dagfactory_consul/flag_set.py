"""The flags of a snapshot: each keeps its last good definition where its present one cannot be used."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .decisions import Decision
from .document_limits import NoLimits, SlowRuleError
from .errors import BrokenOffError, DocumentError
from .flags import FOLDER, Flag
from .problems import INSTEAD, Problem
from .snapshot import Document, Snapshot


class KnownFlags(NamedTuple):
    """What is known of a snapshot's flags before they are parsed."""

    problems: Mapping[str, Problem] = {}
    """The problems of flags that cannot be parsed, by key: they are not parsed again."""
    tried: Container[str] = ()
    """The keys of the flags whose rules were good before: they are not tried again."""
    slow: Mapping[str, str] = {}
    """Why flags are refused whose rules have taken too long for all tenants together, by key."""
    given_up: frozenset[str] = frozenset()
    """The keys of those flags whose last good rules have taken too long as well: they are not evaluated."""

    def without(self, error: SlowRuleError) -> KnownFlags:
        """Return this and that a rule has taken too long: it is refused, or given up if there is no better one."""
        if error.was_good or error.key in self.slow:
            known = self._replace(given_up=self.given_up | {error.key})
        else:
            known = self
        return known if error.was_good else known._replace(slow={**self.slow, error.key: error.reason})


_NOTHING_KNOWN, _NO_LIMITS = KnownFlags(), NoLimits()


class FlagSet(Mapping[str, Flag]):
    """The flags of a snapshot. A malformed one keeps its last good definition, and is a problem of its own.

    Args:
        documents: of the flags.
        last_good: the documents that were good before, by key.
        limits: on each flag's time. One over its limit keeps its last good definition, too.
        known: what need not be found out again.
    """

    def __init__(
        self,
        documents: Iterable[Document],
        last_good: Mapping[str, Document] | None = None,
        *,
        limits: NoLimits = _NO_LIMITS,
        known: KnownFlags = _NOTHING_KNOWN,
    ) -> None:
        self.problems: dict[str, Problem] = {}
        self.failures = 0
        """How many evaluations have failed so far."""
        self.broken_off: set[str] = set()
        """The keys of the flags that were not parsed, since they took too long or ended a process."""
        self._limits = limits
        self._known = known
        self._last_good = last_good or {}
        self._flags: dict[str, Flag] = {}
        for document in documents:
            name, key = document.key.removeprefix(f"{FOLDER}/"), document.key
            if (problem := known.problems.get(key)) is not None:
                self.problems[key] = problem
                flag = _good(self._last_good.get(key))
            else:
                flag = self._parsed(document, is_tried=key in known.tried)
            if flag is not None:
                self._flags[name] = flag

    def _parsed(self, document: Document, *, is_tried: bool) -> Flag | None:
        """Return a flag, or its last good definition."""
        try:
            return self._parse(document, is_tried=is_tried)
        except DocumentError as error:
            if isinstance(error, BrokenOffError):
                self.broken_off.add(document.key)
            previous = _good(self._last_good.get(document.key))
            self._note(error, "its last good definition" if previous else "each builder's default")
            return previous

    def _parse(self, document: Document, *, is_tried: bool) -> Flag:
        if reason := self._known.slow.get(document.key):
            raise BrokenOffError(reason, key=document.key)
        with self._limits.of(document):
            return Flag(document, is_tried=is_tried)

    def __getitem__(self, name: str) -> Flag:
        return self._flags[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._flags)

    def __len__(self) -> int:
        return len(self._flags)

    def evaluate(self, name: str, default: Any, context: Mapping[str, Any], now: float) -> Decision:
        """Say what a flag's value is; the default where there is no such flag, or it fails, which is a problem.

        Raises:
            SlowRuleError: its rule takes too long for all tenants together.
            DocumentError: so did its last good rule: what it says cannot be known.
        """
        flag = self._flags.get(name)
        if flag is not None and flag.document.key in self._known.given_up:
            raise DocumentError("its targeting takes too long: shorten its lists", key=flag.document.key)
        if flag is None:
            return Decision(default, None, "ERROR" if f"{FOLDER}/{name}" in self.problems else "DEFAULT")
        try:
            if flag.targeting is None:
                return flag.evaluate(default, context, now)
            return self._evaluate_rule(flag, default, context, now)
        except DocumentError as error:
            self.failures += 1
            self._note(error, "the builder's default")
            return Decision(default, None, "ERROR", flag.document.index)

    def _evaluate_rule(self, flag: Flag, default: Any, context: Mapping[str, Any], now: float) -> Decision:
        previous = self._last_good.get(flag.document.key)
        was_good = previous is not None and previous.value == flag.document.value
        with self._limits.of_rule(flag.document, was_good=was_good):
            return flag.evaluate(default, context, now)

    def _note(self, error: DocumentError, instead: str) -> None:
        self.problems.setdefault(error.key, Problem(error.key, error.reason + INSTEAD + instead))


def flags_of(
    snapshot: Snapshot,
    last_good: Mapping[str, Document] | None = None,
    *,
    limits: NoLimits = _NO_LIMITS,
    known: KnownFlags = _NOTHING_KNOWN,
) -> FlagSet:
    """Parse the flags of a snapshot; the arguments are those of FlagSet."""
    return FlagSet(snapshot.under(FOLDER), last_good, limits=limits, known=known)


def _good(document: Document | None) -> Flag | None:
    """Return the flag of a document that was good before; None where this version takes it no more."""
    try:
        return Flag(document, is_tried=True) if document is not None else None
    except DocumentError:
        return None
