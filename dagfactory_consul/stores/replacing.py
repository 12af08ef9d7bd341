"""Putting a file in the place of another in one step."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MODE = 0o644
"""Of documents: one user writes them, and often another one reads them."""
PREFIX, SUFFIX = ".", ".tmp"
"""How the name of a file begins and ends that is being written."""


def replace_file(
    path: Path, value: bytes, *, modified_ns: int | None = None, durable: bool = True, mode: int = MODE
) -> None:
    """Write a file, and its folders where they are missing: a reader finds the old one or the new one.

    Args:
        path: of the file; where it is a link, what that leads to.
        value: all that the file is to hold.
        modified_ns: the time of modification that it is to bear; the present one unless given.
        durable: after a crash of the machine, too, it is the old one or the new one. Takes a wait for the disk.
        mode: who may read and write it.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    path = Path(os.path.realpath(path))  # a link stays, and what it leads to is written
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PREFIX, suffix=SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(value)
            file.flush()
            os.fchmod(handle, mode)
            if durable:
                os.fsync(handle)
        if modified_ns is not None:
            os.utime(name, ns=(modified_ns, modified_ns))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if durable:
        _sync(path.parent)


def _sync(folder: Path) -> None:
    """Have the system write a folder's list of names to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
