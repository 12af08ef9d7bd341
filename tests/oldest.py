"""`make test-oldest`: the tests of what leans on Python's own library, on the oldest Python that the project runs on.

Python 3.11.0 to 3.11.3 lack what later releases of 3.11 brought, and Debian bookworm's own Python is 3.11.2. An
environment for it is made in `.cache`, exactly from the lock. Where neither this machine nor Debian's archive has such
a Python, one line says so; in CI that is a failure.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from demo.debian import NoArchiveError, unpack

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "oldest"
RELEASE = "bookworm"
PACKAGES = ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib")
WHOLE = "import bz2, ctypes, lzma, sqlite3, ssl, sys, uuid, zlib; sys.exit(sys.version_info >= (3, 11, 4))"
"""Passes on a Python that is old enough and not a part of one."""
NAMES = """
    attempt bundle codebase edition failure folders generated head history import_errors keyed_file layout loader
    preflight processor retention snapshot template_files time_limit worker
"""
FILES = tuple(f"tests/test_{name}.py" for name in NAMES.split())
"""The tests of files, archives, child processes and locks."""


def find_python(path: str = os.defpath, cache: Path = CACHE) -> Path:
    """Return such a Python: the system's, else the cached one, else one that apt brings now.

    Raises:
        NoArchiveError: this machine has none, nor an archive to fetch it from.
        ArchiveError: the archive answers, and does not bring a whole one.
    """
    if (own := shutil.which("python3.11", path=path)) and _is_whole(Path(own)):
        return Path(own)
    python = cache / "python" / "usr" / "bin" / "python3.11"
    if not python.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as work:
            unpack(PACKAGES, RELEASE, Path(work)).rename(cache / "python")
    if not _is_whole(python):
        raise RuntimeError(f"{python} is not a whole Python 3.11.0 to 3.11.3: remove {cache}, or install python3.11")
    return python


def environment(python: Path, cache: Path = CACHE) -> Path:
    """Return the Python of an environment that holds what the lock says and the project, made where it is not yet."""
    cache.mkdir(parents=True, exist_ok=True)
    made, venv = cache / "made-from", cache / "venv"
    files = [(ROOT / name).read_bytes() for name in ("requirements.lock", "pyproject.toml")]
    wanted = hashlib.sha256(b"\0".join([*files, os.fsencode(ROOT), os.fsencode(python)])).hexdigest()
    if not made.exists() or made.read_text() != wanted:
        made.unlink(missing_ok=True)
        _uv("venv", "--clear", "--python", str(python), str(venv))
        into = ("--python", str(venv / "bin" / "python"))
        _uv("pip", "sync", *into, "--require-hashes", "requirements.lock")
        _uv("pip", "install", *into, "--no-deps", "--no-build-isolation", "--editable", ".")
        made.write_text(wanted)
    return venv / "bin" / "python"


def main(words: list[str]) -> int:
    """Run the tests, with further words for pytest, and return its exit code."""
    if _is_whole(Path(sys.executable)):
        sys.stdout.write(f"All tests run on Python {sys.version.split()[0]} already.\n")
        return 0
    try:
        python = find_python()
    except NoArchiveError as error:
        sys.stderr.write(f"No tests on Debian {RELEASE}'s Python 3.11.2: it is not on this machine, and {error}\n")
        return 1 if os.environ.get("CI") else 0
    command = [str(environment(python)), "-m", "pytest", "-p", "no:cacheprovider", *(words or FILES)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _is_whole(python: Path) -> bool:
    return subprocess.run([python, "-c", WHOLE], capture_output=True, check=False).returncode == 0


def _uv(*words: str) -> None:
    program = Path(sys.executable).with_name("uv")
    subprocess.run([program, "--quiet", "--system-certs", *words], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
