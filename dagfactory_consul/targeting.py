"""Targeting: a flag's JsonLogic rule, evaluated within a budget of operations.

`json_logic` keeps `if`, `map` and others to itself, so wrapping its operators would not see all that a rule does. It
asks each object for its length and each list for its items, however: the rule is held in objects and lists that count.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

OPERATIONS = 100_000
"""How many operations one evaluation may take. A rule of 64 KiB without array operators takes fewer."""

TEXT = 65_536
"""How many characters a text may have that a rule makes."""

_INTEGER_BITS = 64
"""How large a whole number may be that a rule works on: squaring one again and again would end the process."""
_CHARACTERS = 16
"""So many characters of an operator's arguments count as one operation."""
_ARRAY = frozenset(("map", "filter", "reduce", "all", "some", "none"))


class TargetingError(Exception):
    """A rule costs more than it may, or nests what it may not nest."""


class Targeting:
    """A rule that can be evaluated.

    Raises:
        TargetingError: an array operator stands in another one.
    """

    def __init__(self, rule: Mapping[str, Any]) -> None:
        self._meter = _Meter()
        self.arrays: list[Any] = []
        """The array operations in it, so that each can be tried, in a branch that is seldom taken too."""
        self._rule = self._counted(rule, "")
        self.operators = _operators(self._meter)

    def evaluate(self, data: dict[str, Any]) -> Any:
        """Return what the rule says. Raises TargetingError, and whatever the evaluator does."""
        return self._apply(self._rule, data)

    def try_arrays(self, data: dict[str, Any]) -> None:
        """Evaluate each array operation by itself. Raises as `evaluate` does."""
        for each in self.arrays:
            self._apply(each, data)

    def _apply(self, rule: Any, data: dict[str, Any]) -> Any:
        """Evaluate flagd's JsonLogic. Its own entry point reads the clock, and a plan must not."""
        from json_logic import jsonLogic

        self._meter.used = 0
        with _silenced():  # flagd's operators log a document's values as they are
            return jsonLogic(rule, data, self.operators)

    def _counted(self, rule: Any, inside: str) -> Any:
        """Return a rule whose parts count; `inside` names the array operator around it."""
        if isinstance(rule, list):
            return _List(self._meter, [self._counted(each, inside) for each in rule])
        if not isinstance(rule, dict):
            return rule
        operator = next(iter(rule)) if len(rule) == 1 else ""
        if operator not in _ARRAY:
            return _Object(self._meter, {name: self._counted(each, inside) for name, each in rule.items()})
        if inside:
            raise TargetingError(f"`{operator}` stands in `{inside}`: array operators do not nest")
        found = _Object(self._meter, {operator: self._counted(rule[operator], operator)})
        self.arrays.append(found)
        return found


@contextmanager
def _silenced() -> Iterator[None]:
    logger = logging.getLogger("openfeature.contrib")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _Meter:
    """Counts the operations of one evaluation."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0

    def count(self, operations: int) -> None:
        self.used += operations
        if self.used > OPERATIONS:
            raise TargetingError(f"it takes more than {OPERATIONS:,} operations: shorten its lists")


class _Object(dict[str, Any]):
    __slots__ = ("_meter",)

    def __init__(self, meter: _Meter, content: dict[str, Any]) -> None:
        super().__init__(content)
        self._meter = meter

    def __len__(self) -> int:
        self._meter.count(1)
        return super().__len__()


class _List(list[Any]):
    __slots__ = ("_meter",)

    def __init__(self, meter: _Meter, content: list[Any]) -> None:
        super().__init__(content)
        self._meter = meter

    def __iter__(self) -> Iterator[Any]:
        self._meter.count(super().__len__())
        return super().__iter__()

    def __len__(self) -> int:
        """Count as many operations as there are items: `if` asks for the length, and then for each of its tests."""
        length = super().__len__()
        self._meter.count(length)
        return length


@cache
def _known() -> Mapping[str, Any]:
    from openfeature.contrib.tools.flagd.core.targeting.targeting import OPERATORS

    return OPERATORS


def _operators(meter: _Meter) -> dict[str, Any]:
    return {name: _within(meter, name, operator) for name, operator in _known().items()}


def _within(meter: _Meter, name: str, operator: Any) -> Any:
    """Return an operator that counts what it is given, and refuses results that are too large."""
    if name == "var":  # most of all operations, and it makes nothing
        return operator

    def bounded(data: Any, *arguments: Any) -> Any:
        for each in arguments:
            _weigh(meter, each)
        if name == "*":
            meter.count(len(arguments) ** 2 // 64)
        result = operator(data, *arguments)
        if isinstance(result, str) and len(result) > TEXT:
            raise TargetingError(f"`{name}` makes a text of more than {TEXT:,} characters")
        return result

    return bounded


def _weigh(meter: _Meter, value: Any) -> None:
    """Count a value's parts, each as often as it stands there: lists that share one are written out by operators."""
    meter.count(1)
    if isinstance(value, str):
        meter.count(len(value) // _CHARACTERS)
    elif isinstance(value, list | tuple):
        for each in value:
            _weigh(meter, each)
    elif isinstance(value, dict):
        for each in value.values():
            _weigh(meter, each)
    elif isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
        raise TargetingError("it works on a whole number of more than 64 bits")
