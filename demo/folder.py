"""The demonstration's own folder: held by one demonstration at a time, cleared of what a killed one left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType

from . import processes

LOCK = "demo.lock"


class FolderError(Exception):
    """The folder cannot be used for a demonstration."""


class Folder:
    """A folder for one demonstration, used as a context: `with Folder(path) as path:`.

    The lock is the kernel's: it ends with the process that holds it, however that ends, so a left-over file says
    nothing. The process id in it is for the message alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock = -1

    def __enter__(self) -> Path:
        """Take the folder, end what a killed demonstration left running there, and remove its files.

        Raises:
            FolderError: another demonstration holds it, or it holds files that are not a demonstration's.
        """
        lock = self.path / LOCK
        if self.path.exists() and not lock.exists() and any(self.path.iterdir()):
            raise FolderError(f"{self.path} holds files that are not a demonstration's: name another folder (--dir)")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = lock.read_text().strip() or "unknown"
            os.close(self._lock)
            raise FolderError(
                f"a demonstration already runs in {self.path} (process {holder}): "
                "stop it, or name another folder (--dir)"
            ) from None
        os.truncate(self._lock, 0)
        os.write(self._lock, str(os.getpid()).encode())
        processes.kill(self.path)
        for each in self.path.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            elif each.name != LOCK:
                each.unlink()
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        processes.kill(self.path)
        os.close(self._lock)
