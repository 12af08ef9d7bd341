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
LIMIT = "AIRFLOW__DAGFACTORY_CONSUL__MAX_DOCUMENT_BYTES"
"""The setting that says how many bytes a document may have."""
_LARGEST = 2**63
"""Integers end here, and likewise below zero: Airflow's parse sends its result by msgpack, which holds no larger one,
and then every DAG of the file is lost without an import error."""
_UNQUOTED = "Expecting property name enclosed in double quotes"
"""What json says of `{tier: gold}`, which is a mapping of YAML."""


def decode(key: str, text: bytes, *, largest: int | None = None) -> Any:
    """Decode JSON or YAML.

    YAML is read as its 1.2 core schema would have it: `no`, `12:30` and dates are strings, only `true` and `false` are
    booleans; a number with a leading zero stays a string. A key that stands twice, a number that JSON does not know
    (NaN) or no computer holds (1e999), a key that is no string and half a surrogate pair are errors, since a reader
    could not tell what was meant. An integer of more than 64 bits and the character NUL are errors, since Airflow's
    database and processes cannot take them.

    Args:
        key: of the document, for messages.
        text: the value, as the store has it.
        largest: how many bytes it may have, before and after its aliases are written out; None for no limit.

    Raises:
        DocumentError: the text is neither; the message says the line and column.
    """
    if largest is not None and len(text) > largest:  # before it costs anything
        raise too_large(key, len(text), largest)
    try:
        string = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8 text (byte {error.start})", key=key) from error
    if not string.strip():
        raise DocumentError("the value is empty: write {} for a document that says nothing", key=key)
    try:
        value = json.loads(string, object_pairs_hook=_unique, **_NUMBERS)
    except _DuplicateKeyError as error:
        raise DocumentError(f"the key {error.args[0]!a:.60} stands twice", key=key) from error
    except RecursionError as error:
        raise DocumentError(_TOO_DEEP, key=key) from error
    except ValueError as error:
        return _no_json(key, string, largest, error)
    if string.count("[") + string.count("{") > MAX_DEPTH and _is_too_deep(value):
        raise DocumentError(_TOO_DEEP, key=key)
    if "\\u" in string:
        _check_escapes(key, value)
    return value


def _no_json(key: str, string: str, largest: int | None, error: ValueError) -> Any:
    """Decode as YAML what is no JSON; else raise DocumentError."""
    # What begins like a number of JSON may go on as YAML: `NaN: 1`.
    whole = isinstance(error, _NumberError) and error.number == string.strip()
    unquoted = isinstance(error, json.JSONDecodeError) and error.msg == _UNQUOTED
    if not whole and (string.lstrip()[0] not in "{[" or unquoted):
        try:
            return _decode_yaml(key, string, largest)
        except DocumentError as second:
            if not unquoted:
                raise
            raise DocumentError(f"malformed JSON: {error}; and as YAML: {second.reason}", key=key) from error
    raise DocumentError(f"malformed JSON: {error}", key=key) from error


def _check_escapes(key: str, value: Any) -> None:
    """Refuse what a text of JSON can say by an escape, and no database or file takes."""
    _refuse_nul(key, value)
    if _has_half_a_pair(value):
        raise DocumentError(r"\ud800 to \udfff are halves of a character, and one stands alone", key=key)


def too_large(key: str, size: int, largest: int) -> DocumentError:
    """Return the error of a document that has more bytes than it may have."""
    return DocumentError(
        f"it has {size:,} bytes, and may have {largest:,}: write less, or raise the setting {LIMIT}",
        key=key,
    )


_TOO_DEEP = f"nested too deeply: more than {MAX_DEPTH} objects and lists in each other"


class _DuplicateKeyError(Exception):
    pass


class _NumberError(ValueError):
    def __init__(self, number: str) -> None:
        shown = number if len(number) <= 40 else f"{number[:37]}…"
        super().__init__(f"{shown} is not a number in JSON, or too large")
        self.number = number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        left = set(result)
        for name, _ in pairs:
            if name not in left:
                raise _DuplicateKeyError(name)
            left.remove(name)
    return result


def _refuse_number(number: str) -> Any:
    raise _NumberError(number)


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse_number(number)


def _integer(number: str) -> int:
    # A text of 20 characters is past the limit, and a long one would take int() more than linear time.
    if len(number) > 20 or not -_LARGEST <= (value := int(number)) < _LARGEST:
        raise _NumberError(number)
    return value


_NUMBERS: dict[str, Any] = {"parse_constant": _refuse_number, "parse_float": _finite, "parse_int": _integer}


def _refuse_nul(key: str, value: Any) -> None:
    """Raise DocumentError where a name or a string holds NUL: Postgres refuses it, and Airflow's DAG processor ends."""
    if (where := _nul_in(value)) is not None:
        raise DocumentError(f"{where or 'the text'} holds the character NUL (U+0000): leave it out", key=key)


def _nul_in(value: Any) -> str | None:
    """Return where the first NUL is. The path is put together on the way back: its parts may be long."""
    if isinstance(value, str):
        return "" if "\0" in value else None
    if isinstance(value, dict):
        for name, each in value.items():
            if "\0" in name:
                return f"the name {name!a:.60}"
            if (inner := _nul_in(each)) is not None:
                return f"{name:.60}.{inner}".rstrip(".")
    elif isinstance(value, list):
        for position, each in enumerate(value):
            if (inner := _nul_in(each)) is not None:
                return f"[{position}].{inner}".rstrip(".")
    return None


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


def _decode_yaml(key: str, string: str, largest: int | None) -> Any:
    import yaml

    try:
        _check_growth(key, string, _MAX_EXPANDED if largest is None else largest)
        value = yaml.load(string, Loader=_yaml_loader())  # noqa: S506  # a SafeLoader, made stricter
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}, column {place.column + 1}" if place else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DocumentError(f"malformed YAML: {what}{where}", key=key) from error
    except _NumberError as error:
        raise DocumentError(f"malformed YAML: {error}", key=key) from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # What PyYAML raises where a scalar is not what its tag says (`!!int ""`), and for an int of 5,000 digits. Its
        # message may repeat the value.
        reason = "a value is not of the type that its tag says, or a number has more than 64 bits"
        raise DocumentError(f"malformed YAML: {reason}", key=key) from error
    try:
        # Aliases may contain themselves, 1e999 is a number to YAML, and half a surrogate pair is no text: all refused.
        written = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        value = json.loads(written, parse_int=_integer)
    except (TypeError, ValueError, RecursionError) as error:
        raise DocumentError(f"not expressible in JSON: {error}", key=key) from error
    if b"\\u0000" in written:
        _refuse_nul(key, value)
    return value


def _check_growth(key: str, string: str, most: int) -> None:
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
            if total > most:
                raise DocumentError("its aliases make it too large: write out less by them", key=key)
        if len(opened) + levels > MAX_DEPTH:
            raise DocumentError(_TOO_DEEP, key=key)
        if opened and levels > opened[-1][2]:
            opened[-1] = (*opened[-1][:2], levels)


def _yaml_integer(loader: Any, node: Any) -> Any:
    """Make an integer of a text that may be one: by its tag `1:30:00…` is one, too, and adds up slowly."""
    if len(str(node.value)) > 20:
        raise ValueError("an integer has more than 64 bits")
    return loader.construct_yaml_int(node)


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

    Loader.add_constructor("tag:yaml.org,2002:int", _yaml_integer)
    replaced = {f"tag:yaml.org,2002:{name}" for name in (*_PLAIN, "timestamp", "value")}
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in replaced]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    for name, (pattern, first) in _PLAIN.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"^(?:{pattern})$"), list(first))
    return Loader
