"""A version's manifest: the record of what one version of a bundle consists of, whose name is a hash of it.

Airflow's database keeps the name with each run. So a worker that computes the name again from the record knows that
the record is the one which the DAG processor has published, whoever may write to the history.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from .arrangement import is_file
from .keyed_file import dumps

FORMAT = 2
"""Format 1, of this package before records bore a number, is read: runs that began then are pinned to it."""
NAME_DIGITS = 32
"""Hex digits of a hash that names something: 128 bits."""
_FORMER_DIGITS = 16


class Version(NamedTuple):
    """What one version of a bundle consists of."""

    name: str
    at: float
    """When it was published, in seconds since the epoch: for the retention alone, and no part of the name."""
    files: Mapping[str, str]
    """By path below the bundle, the reference of its contents."""
    places: Mapping[str, str]
    """By part (see `part_of`), the reference of its DAGs' places: DAG id to path."""
    fingerprint: str
    """Of the code with which all of it was verified."""
    gone: str | None = None
    """The reference of the DAGs that were removed lately, since a task of theirs may be just starting; None: none."""
    code: str | None = None
    """The name of the builders' code that belongs to it (see `codebase`); None where they are installed."""
    code_blob: str | None = None
    """The reference of that code; None where an inner bundle brings it."""
    modules: Mapping[str, tuple[str, ...]] = {}
    """By builder, the `airflow.*` modules that it imports."""
    format: int = FORMAT

    @classmethod
    def of_bytes(cls, data: bytes, name: str) -> Version:
        """Read the record that is kept under a name.

        Raises:
            ValueError: it is damaged, its name is another, or it names a file that no version has.
        """
        fields = object_of(data)
        kind = fields.setdefault("format", 1)
        if kind not in (1, FORMAT):
            raise ValueError(f"it is of format {kind!r:.40}, and this package reads 1 and {FORMAT}")
        if kind == 1:
            # In format 1 the DAGs that were removed lately are in the state, which the name does not cover.
            fields = {key: value for key, value in fields.items() if key != "state"} | {"gone": None}
        # Its ValidationError is a ValueError, and says which field is of another type.
        version = msgspec.convert(values_of(fields, cls._fields), cls)
        version.check(name)
        return version

    def to_bytes(self) -> bytes:
        return dumps(self._asdict()).encode()

    def named(self) -> Version:
        """Return it with the name that its contents give it."""
        return self._replace(name=self._computed())

    @property
    def is_former(self) -> bool:
        """Whether it was published by this package before names had 128 bits."""
        return self.format == 1

    def blobs(self) -> set[str]:
        """Return all references."""
        return {*self.files.values(), *self.places.values(), *filter(None, [self.code_blob, self.gone])}

    def _computed(self) -> str:
        inner = f"{self.code}-" if self.code is not None and self.code_blob is None else ""
        if self.is_former:
            named: Any = [self.files, self.places, self.fingerprint, self.code]
            return inner + hashlib.sha256(dumps(named).encode()).hexdigest()[:_FORMER_DIGITS]
        named = {key: value for key, value in self._asdict().items() if key not in ("name", "at")}
        return inner + hashlib.sha256(dumps(named).encode()).hexdigest()[:NAME_DIGITS]

    def check(self, name: str) -> None:
        """Raise ValueError unless this is its name, and all its paths lie below a bundle."""
        if (computed := self._computed()) != name or self.name != name:
            raise ValueError(
                f"its files, places, code or modules are not those that were published: they give the name {computed}"
            )
        if bad := next((path for path in self.files if not is_file(path)), None):
            raise ValueError(f"{bad!a:.100} is no file of a bundle")
        if self.code is not None and not is_plain_name(self.code):
            raise ValueError(f"{self.code!a:.100} is no name of a folder")


def reference(data: bytes) -> str:
    """Return the reference of contents: a hash of them."""
    return hashlib.sha256(data).hexdigest()[:NAME_DIGITS]


def is_archive_of(data: bytes, name: str) -> bool:
    """Say whether an archive of builders' code is the one of this name: in full, or as format 1 has shortened it."""
    return len(name) in (_FORMER_DIGITS, NAME_DIGITS) and reference(data).startswith(name)


def is_plain_name(name: str) -> bool:
    """Say whether it names one file or folder within the folder that it is put into, and nothing outside."""
    return name.isprintable() and not name.startswith(".") and not {"/", "\\"} & {*name} and 0 < len(name) <= 200


def object_of(data: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError: it is none."""
    try:
        fields = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return fields if isinstance(fields, dict) else {}


def values_of(fields: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    """Return an object's values in this order. Raises ValueError: it has not exactly these fields."""
    if fields.keys() != {*names}:
        raise ValueError(f"it has the fields {sorted(fields)!r:.300}, and not {', '.join(names)}")
    return [fields[name] for name in names]
