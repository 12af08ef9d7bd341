"""Putting a file in the place of another in one step."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MODE = 0o644
PREFIX, SUFFIX = ".", ".tmp"
"""How the name of a file begins and ends that is being written."""


def replace_file(path: Path, value: bytes) -> None:
    """Write a file, and its folders where they are missing: a reader, and a crash, find the old one or the new one."""
    path = Path(os.path.realpath(path))  # a link stays, and what it leads to is written
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PREFIX, suffix=SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(value)
            file.flush()
            os.fchmod(handle, MODE)
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Have the system write a folder's list of names to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
