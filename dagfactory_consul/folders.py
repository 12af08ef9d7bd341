"""Folders and files of this process: for its user and group, and refused where another user could change them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from .errors import FolderError

FILE = 0o640
FOLDER = 0o750
"""The group reads: a task under `run_as_user` is started from what Airflow's own user has written."""


def own(folder: Path) -> None:
    """Make a folder for this user and its group, or check the one that is there, and take rights from all others.

    Raises:
        FolderError: it belongs to another user, or every user may write it.
        OSError: it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(FOLDER)  # less, where the umask says so
    except FileExistsError:
        check(folder)
        mode = folder.stat().st_mode
        if mode & stat.S_IRWXO and folder.stat().st_uid == os.geteuid():  # made by a former version
            folder.chmod(stat.S_IMODE(mode) & ~stat.S_IRWXO)


def check(folder: Path) -> None:
    """Raise FolderError if a folder, or a link in its place, is another user's, or if every user may write there."""
    for found in (folder.lstat, folder.stat):
        try:
            status = found()
        except OSError:  # there is none, or none that this process may use
            return
        if status.st_uid not in _trusted():
            raise FolderError(_belongs_to_another(folder, status))
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & stat.S_IWOTH:
            raise FolderError(
                f"{folder} may be written by every user of this machine (mode {stat.S_IMODE(status.st_mode):04o}), so "
                f"each of them could change what runs here. See that all files below it are yours, then: "
                f"chmod o-rwx {folder}"
            )


def write_file(path: Path, text: str) -> None:
    """Write a file for this user and its group. Raises OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE), "w") as file:
        file.write(text)


def new_file(path: Path) -> BinaryIO:
    """Open a new file for this user and its group. Raises FileExistsError, OSError."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE), "wb")


def _trusted() -> set[int]:
    """Return the users whose folders are used: this one, root, and Airflow's own in a task under `run_as_user`."""
    by = os.environ.get("SUDO_UID", "")
    return {os.geteuid(), 0, *([int(by)] if by.isdecimal() else [])}


def _belongs_to_another(folder: Path, status: os.stat_result) -> str:
    own, group = _user(os.geteuid()), os.getegid()
    return (
        f"{folder} belongs to the user {_user(status.st_uid)}, and this process runs as {own}: its owner could change "
        f"what runs here. Run as its owner; or, if {own} is the right one, remove the folder, which is then written "
        f"anew, or see that all files in it are good, then: chown -R {os.geteuid()}:{group} {folder}"
    )


def _user(uid: int) -> str:
    import pwd  # only an error needs it

    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return str(uid)
