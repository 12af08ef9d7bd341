"""Where a Consul program comes from: the PATH, or Debian's archive, into a cache folder of this project.

Debian left Consul out after bullseye, so the package is taken from there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .debian import ArchiveError, unpack

RELEASE = "bullseye"
"""The last Debian release that packages Consul (1.8.7)."""


class ConsulNotFoundError(RuntimeError):
    """There is no Consul program here, and none could be brought."""


def find_consul(cache: Path | None = None) -> Path:
    """Return the path of a Consul program: the one on the PATH, else the cached one, else one that apt brings now.

    Args:
        cache: the folder for the program; `$DAGFACTORY_CACHE/consul`, else `.cache/consul` of this project, unless
            given. Several processes may ask at the same time: one fetches, the others wait for it.

    Raises:
        ConsulNotFoundError: says what was tried.
    """
    if on_path := shutil.which("consul"):
        return Path(on_path)
    folder = cache or cache_folder()
    program = folder / "consul"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / ".lock"):
            if not program.exists():
                _fetch(program)
    return program


def cache_folder() -> Path:
    """Return the folder that keeps the program between runs."""
    root = os.environ.get("DAGFACTORY_CACHE") or Path(__file__).resolve().parent.parent / ".cache"
    return Path(root) / "consul"


def _fetch(program: Path) -> None:
    """Bring the package by apt and put its program in place, in one step."""
    with tempfile.TemporaryDirectory(dir=program.parent, prefix=".fetch-") as work:
        try:
            tree = unpack(["consul"], RELEASE, Path(work))
        except ArchiveError as exc:
            raise ConsulNotFoundError(f"no `consul` on the PATH, and {exc}: install Consul") from None
        (tree / "usr" / "bin" / "consul").replace(program)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
