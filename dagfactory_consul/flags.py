"""Feature flags: a constant or a flagd definition, evaluated for one tenant at a time.

The text of a flag is flagd's: https://flagd.dev/reference/flag-definitions/. Reasons are OpenFeature's:
https://openfeature.dev/specification/types#resolution-reason. Targeting is evaluated by `openfeature-flagd-core`,
imported only when a flag has rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import templates
from .decisions import Decision
from .errors import DocumentError, near_miss
from .sensitive import explain_secret, find_secret
from .snapshot import Document
from .targeting import Targeting, TargetingError

FOLDER = "flags"
_FIELDS = ("state", "variants", "defaultVariant", "targeting", "metadata", "$schema")


class Flag:
    """One flag, parsed and checked.

    Args:
        document: its text, decoded.
        is_tried: whether its rule was found to be good before, and need not be tried.

    Raises:
        DocumentError: the text is neither `true`, `false` nor a definition that can be evaluated.
    """

    def __init__(self, document: Document, *, is_tried: bool = False) -> None:
        self.name = document.key.removeprefix(f"{FOLDER}/")
        self.document = document
        if document.malformed:
            raise DocumentError(document.malformed, key=document.key)
        if where := find_secret(document.value):
            raise self._error(explain_secret(where))
        if reason := templates.explain(document.value):
            raise self._error(reason)
        self.definition = self._definition(document.value)
        self.targeting: Targeting | None = None
        self._chosen: tuple[Mapping[str, Any] | None, float, Any] = (None, 0.0, None)
        """What the rule has said last, and for which context and time: all DAGs of a tenant ask for the same."""
        if rule := self.definition.get("targeting"):
            self.targeting = self._of_rule(rule)
            if not is_tried:
                self._try_targeting(rule)

    def evaluate(self, default: Any, context: Mapping[str, Any], now: float) -> Decision:
        """Say what the flag's value is for a context.

        Args:
            default: the builder's default, which answers for a disabled flag; its type is the flag's type.
            context: `targetingKey` and the attributes that rules may ask for.
            now: seconds since the epoch, for rules that ask for the time.

        Raises:
            DocumentError: a rule names no variant of this flag, or the value is of another type than the default.
        """
        if self.definition["state"] == "DISABLED":
            return Decision(default, None, "DISABLED", self.document.index)
        variant, reason = self._variant(context, now)
        if variant is None:
            return Decision(default, None, "DEFAULT", self.document.index)
        value = self.definition["variants"].get(variant)
        if variant not in self.definition["variants"]:
            raise self._no_variant(variant)
        if not _same_type(value, default):
            raise self._error(f"variant {variant!r} is {value!r}, but the builder expects a value like {default!r}")
        return Decision(value, variant, reason, self.document.index)

    def _variant(self, context: Mapping[str, Any], now: float) -> tuple[str | None, str]:
        fallback = self.definition.get("defaultVariant") or None
        if not self.targeting:
            return fallback, "STATIC"
        if self._chosen[0] is not context or self._chosen[1] != now:
            self._chosen = (context, now, self._choose(context, now))
        chosen = self._chosen[2]
        if isinstance(chosen, Exception):  # whatever a rule makes the evaluator raise is a fault of this flag
            raise self._error(f"its targeting cannot be evaluated: {chosen}") from chosen
        if chosen is None:
            return fallback, "DEFAULT"
        return (str(chosen).lower() if isinstance(chosen, bool) else str(chosen)), "TARGETING_MATCH"

    def _choose(self, context: Mapping[str, Any], now: float) -> Any:
        """Return what the rule says, or the error that it raises."""
        assert self.targeting is not None, "only a flag with a rule has anything to choose by"
        try:
            return self.targeting.evaluate(self._data(context, now))
        except Exception as error:  # noqa: BLE001  # a rule makes the evaluator raise anything
            return error

    def _definition(self, value: Any) -> dict[str, Any]:
        if isinstance(value, bool):
            name = "on" if value else "off"
            return {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": name}
        if not isinstance(value, dict):
            raise self._error(
                f"a flag is true, false or a flagd definition, not {value!r}; for another value write "
                '{"state": "ENABLED", "variants": {"a": …}, "defaultVariant": "a"}'
            )
        for field in value:
            if field not in _FIELDS:
                raise self._error(f"unknown field {field!r}{near_miss(field, _FIELDS)}")
        if value.get("state") not in ("ENABLED", "DISABLED"):
            found = f"not {value['state']!r}" if "state" in value else "and missing here"
            raise self._error(f"`state` is ENABLED or DISABLED, {found}")
        variants = value.get("variants")
        if not isinstance(variants, dict) or not variants:
            raise self._error("`variants` has at least one name and its value")
        chosen = value.get("defaultVariant")
        if isinstance(chosen, bool):  # flagd lets true stand for "true"
            value = {**value, "defaultVariant": (chosen := str(chosen).lower())}
        if chosen and not (isinstance(chosen, str) and chosen in variants):
            raise self._error(f"`defaultVariant` {chosen!r} is none of its variants{near_miss(str(chosen), variants)}")
        if not isinstance(value.get("targeting") or {}, dict):
            raise self._error("`targeting` is a JsonLogic rule, an object")
        definition: dict[str, Any] = value
        return definition

    def _of_rule(self, rule: dict[str, Any]) -> Targeting:
        try:
            return Targeting(rule)
        except (TargetingError, RecursionError) as error:
            raise self._error(f"its targeting cannot be evaluated: {error}") from error

    def _try_targeting(self, rule: dict[str, Any]) -> None:
        # An unknown operator shows only when it is met; most of them are met with a context that has nothing to offer.
        context = {"targetingKey": "tenant", "tenant": "tenant"}
        self._variant(context, now=0.0)
        self._try_arrays(context)
        for variant in _fractions(rule):
            if variant not in self.definition["variants"]:
                raise self._error(f"`fractional` names no variant: {variant!r}{near_miss(variant, self._names())}")
        for variant in _results(rule):
            if variant not in self.definition["variants"]:
                raise self._no_variant(variant)

    def _try_arrays(self, context: Mapping[str, Any]) -> None:
        """Try what may cost much in branches, too, that this context does not take."""
        assert self.targeting is not None, "only a flag with a rule is tried"
        try:
            self.targeting.try_arrays(self._data(context, 0.0))
        except TargetingError as error:
            raise self._error(f"its targeting cannot be evaluated: {error}") from error
        except Exception:  # noqa: BLE001, S110  # an operation that needs a tenant's attributes may fail without them
            pass

    def _data(self, context: Mapping[str, Any], now: float) -> dict[str, Any]:
        return {**context, "$flagd": {"flagKey": self.name, "timestamp": int(now)}}

    def _names(self) -> list[str]:
        return list(self.definition["variants"])

    def _no_variant(self, name: str) -> DocumentError:
        return self._error(f"its targeting names no variant: {name!r}{near_miss(name, self._names())}")

    def _error(self, message: str) -> DocumentError:
        return DocumentError(message, key=self.document.key)


def _fractions(rule: Any) -> Iterator[str]:
    """Yield the variants that `fractional` operations name outright."""
    if isinstance(rule, dict):
        for operator, arguments in rule.items():
            if operator == "fractional" and isinstance(arguments, list):
                for each in arguments:
                    if isinstance(each, list) and each and isinstance(each[0], str):
                        yield each[0]
            yield from _fractions(arguments)
    elif isinstance(rule, list):
        for each in rule:
            yield from _fractions(each)


def _results(rule: Any) -> Iterator[str]:
    """Yield the results that a rule names outright, also in branches that no tenant takes yet."""
    if isinstance(rule, str):
        yield rule
    elif isinstance(rule, dict):
        for operator, arguments in rule.items():
            if operator in ("if", "?:") and isinstance(arguments, list):
                # Conditions and results in turn; the last one of an odd number is a result as well.
                for each in arguments[1::2] + (arguments[-1:] if len(arguments) % 2 else []):
                    yield from _results(each)


def _same_type(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int | float):
        return isinstance(value, int | float)
    return default is None or isinstance(value, type(default))
