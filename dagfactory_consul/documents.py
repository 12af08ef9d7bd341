"""Decoding a document's text: JSON, or YAML in the part of it that means the same as JSON."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable
from typing import Any

from .errors import DocumentError

MAX_DEPTH = 100
"""How deep objects and lists may stand in each other: far from where reading, writing or building would give up."""
_MAX_EXPANDED = 4_194_304
"""How many characters YAML's aliases may blow a document up to: eight of the largest values that a store takes."""


def decode(key: str, text: bytes) -> Any:
    """Decode JSON or YAML.

    YAML is read as its 1.2 core schema would have it: `no`, `12:30` and dates are strings, only `true` and `false` are
    booleans; a number with a leading zero stays a string. A key that stands twice, a number that JSON does not know
    (NaN) or no computer holds (1e999), a key that is no string and half a surrogate pair are errors, since a reader
    could not tell what was meant.

    Raises:
        DocumentError: the text is neither; the message says the line and column.
    """
    try:
        string = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8 text (byte {error.start})", key=key) from error
    if not string.strip():
        raise DocumentError("the value is empty: write {} for a document that says nothing", key=key)
    try:
        value = json.loads(string, object_pairs_hook=_unique, parse_constant=_refuse_number, parse_float=_finite)
    except _DuplicateKeyError as error:
        raise DocumentError(f"the key {error.args[0]!r} stands twice", key=key) from error
    except RecursionError as error:
        raise DocumentError(_TOO_DEEP, key=key) from error
    except ValueError as error:
        # What begins like a number of JSON may go on as YAML: `NaN: 1`.
        whole = isinstance(error, _NumberError) and error.number == string.strip()
        if string.lstrip()[0] in "{[" or whole:
            raise DocumentError(f"malformed JSON: {error}", key=key) from error
        return _decode_yaml(key, string)
    if string.count("[") + string.count("{") > MAX_DEPTH and _is_too_deep(value):
        raise DocumentError(_TOO_DEEP, key=key)
    if "\\u" in string and _has_half_a_pair(value):
        raise DocumentError(r"\ud800 to \udfff are halves of a character, and one stands alone", key=key)
    return value


_TOO_DEEP = f"nested too deeply: more than {MAX_DEPTH} objects and lists in each other"


class _DuplicateKeyError(Exception):
    pass


class _NumberError(ValueError):
    def __init__(self, number: str) -> None:
        super().__init__(f"{number} is not a number in JSON, or too large")
        self.number = number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(next(name for name in names if names.count(name) > 1))
    return result


def _refuse_number(number: str) -> Any:
    raise _NumberError(number)


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse_number(number)


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        if not (level := [below for each in level for below in _contents(each) if isinstance(below, dict | list)]):
            return False
    return True


def _contents(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _has_half_a_pair(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _decode_yaml(key: str, string: str) -> Any:
    import yaml

    try:
        _check_growth(key, string)
        value = yaml.load(string, Loader=_yaml_loader())  # noqa: S506  # a SafeLoader, made stricter
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}, column {place.column + 1}" if place else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DocumentError(f"malformed YAML: {what}{where}", key=key) from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # What PyYAML raises where a scalar is not what its tag says (`!!int ""`), and for an int of 5,000 digits.
        raise DocumentError(f"malformed YAML: a value is not of its type ({error})", key=key) from error
    try:
        # Aliases may contain themselves, 1e999 is a number to YAML, and half a surrogate pair is no text: all refused.
        return json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise DocumentError(f"not expressible in JSON: {error}", key=key) from error


def _check_growth(key: str, string: str) -> None:
    """Refuse what nests too deeply, or grows out of bounds where its aliases are written out.

    PyYAML would recurse for every level, in C without a limit, and JSON's writer copies what aliases share. The events
    of the parser tell beforehand, without either.
    """
    import yaml

    anchored: dict[str | None, tuple[int, int]] = {}  # characters and levels, by anchor
    total = 0
    opened: list[tuple[str | None, int, int]] = []  # anchor, total before it, levels seen below it
    for event in yaml.parse(string, Loader=_base_loader()):
        levels = 0
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, total, 0))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before, below = opened.pop()
            levels = below + 1
            anchored[anchor] = (total - before, levels)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1 + len(event.value)
            anchored[event.anchor] = (1 + len(event.value), 0)
        elif isinstance(event, yaml.AliasEvent):
            size, levels = anchored.get(event.anchor, (0, 0))  # of what is not known the composer will complain
            total += size
            if total > _MAX_EXPANDED:
                raise DocumentError("its aliases make it too large: write out less by them", key=key)
        if len(opened) + levels > MAX_DEPTH:
            raise DocumentError(_TOO_DEEP, key=key)
        if opened and levels > opened[-1][2]:
            opened[-1] = (*opened[-1][:2], levels)


_PLAIN = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "float": (r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*|(?=[eE]))|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
}
"""What an unquoted scalar may be besides null and a string: pattern, and the characters that it can begin with."""


def _base_loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def _yaml_loader() -> Any:
    """Return a SafeLoader with `_PLAIN` as plain scalars, which refuses keys that stand twice or are no strings."""
    import yaml

    base = _base_loader()

    class Loader(base):  # type: ignore[misc, valid-type]  # chosen at run time
        def flatten_mapping(self, node: Any) -> None:
            """Check a mapping's own keys, before those are added that it merges."""
            if not hasattr(node, "is_checked"):  # another one that merges it may have been here before
                self._check_names(node)
                node.is_checked = True
            super().flatten_mapping(node)

        def _check_names(self, node: Any) -> None:
            names = set()
            for name_node, _ in node.value:
                if name_node.tag == "tag:yaml.org,2002:merge":
                    continue
                name = self.construct_object(name_node, deep=True)
                if not isinstance(name, str):
                    problem = f"the key {name!r} is not a string: put it in quotes"
                elif name in names:
                    problem = f"the key {name!r} stands twice"
                else:
                    names.add(name)
                    continue
                raise yaml.constructor.ConstructorError(None, None, problem, name_node.start_mark)

    replaced = {f"tag:yaml.org,2002:{name}" for name in (*_PLAIN, "timestamp", "value")}
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in replaced]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    for name, (pattern, first) in _PLAIN.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"^(?:{pattern})$"), list(first))
    return Loader
