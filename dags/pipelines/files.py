"""Reading and writing a run's files. A file is replaced as a whole, so a reader never sees half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

Record = dict[str, Any]


def read_lines(path: Path) -> Iterator[Record]:
    """Yield the records of a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def write_lines(path: Path, records: Iterable[Record]) -> int:
    """Write a file of JSON lines; return how many they are."""
    lines = [json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n" for record in records]
    _replace(path, "".join(lines))
    return len(lines)


def read_json(path: Path) -> Record:
    """Read one JSON document."""
    document: Record = json.loads(path.read_text(encoding="utf-8"))
    return document


def write_json(path: Path, document: Record) -> None:
    """Write one JSON document: sorted keys, so that equal contents are equal bytes."""
    _replace(path, json.dumps(document, ensure_ascii=False, sort_keys=True, indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unique, because a retry may start while the worker of the lost attempt still writes; in the same folder, because
    # only there is a rename atomic.
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        # Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes the JSON escape that it came from.
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(draft, path)  # noqa: PTH105 - the rename is the point here
    finally:
        draft.unlink(missing_ok=True)
