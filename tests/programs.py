"""Programs that tests start: this machine's, else Debian's packages, unpacked into `.cache` and not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "debian"


@dataclass(frozen=True)
class Program:
    """How a program is called, and what its environment needs besides."""

    command: list[str]
    env: dict[str, str] = field(default_factory=dict)


def compose() -> Program:
    """Return the compose program: Docker's plugin, one on the PATH, or the one that Debian packages."""
    plugin = ["docker", "compose"]
    if shutil.which("docker") and not subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode:
        return Program(plugin)
    if found := shutil.which("docker-compose"):
        return Program([found])
    root = unpacked("docker-compose")
    script = root / "usr/bin/docker-compose"
    with script.open("rb") as file:
        in_python = b"python3" in file.readline(100)  # 1.29 is a Python script, 2 and later a program of its own
    if not in_python:
        return Program([str(script)])
    python = Path("/usr/bin/python3")  # the one that Debian's modules were made for
    env = {**_libraries(root), "PYTHONPATH": str(root / "usr/lib/python3/dist-packages")}
    return Program([str(python if python.exists() else root / python.relative_to("/")), str(script)], env)


def postgres() -> tuple[Path, dict[str, str]]:
    """Return the folder of Postgres's programs, and what their environment needs."""
    if found := sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        return found[-1].parent, {}
    root = unpacked("postgresql")
    return next(root.glob("usr/lib/postgresql/*/bin")), _libraries(root)


def unpacked(package: str) -> Path:
    """Return a folder with a Debian package and all that it needs and this machine lacks, fetched when first asked for.

    Needs no rights on the machine and changes nothing of it. Where there is no apt-get, or no answer, the test is
    skipped; in CI it fails.
    """
    root = CACHE / package
    if root.exists():
        return root
    if not shutil.which("apt-get"):
        unavailable(f"{package} is not on this machine, nor is apt-get to fetch it: install {package}")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        _download(package, Path(work))
        for archive in Path(work).glob("archives/*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive, Path(work) / "root"], check=True)
        (Path(work) / "root").rename(root)  # at once, so that a broken-off fetch leaves nothing that looks whole
    root.chmod(0o755)
    return root


def unavailable(reason: str) -> NoReturn:
    """End the test for want of a program: skipped on somebody's machine, failed in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _download(package: str, work: Path) -> None:
    """Fetch the archives by the machine's own package lists, else by fresh ones."""
    for folder in ("archives/partial", "lists/partial"):
        (work / folder).mkdir(parents=True)
    own = {"Dir::Cache": work, "Dir::Cache::archives": work / "archives", "Debug::NoLocking": 1}
    own["APT::Sandbox::User"] = "root"  # apt's own user cannot write into our folder
    fresh = {**own, "Dir::State::lists": work / "lists"}
    install = ["install", "--download-only", "--no-install-recommends", "-y", "-qq", package]
    if _apt(own, *install).returncode == 0:
        return
    _apt(fresh, "update", "-qq")  # its answer does not matter: one of several sources may be out of reach
    done = _apt(fresh, *install)
    if done.returncode != 0:
        unavailable(f"{package} is not on this machine, and apt-get does not bring it: {done.stderr.strip()}")


def _apt(options: dict[str, object], *words: str) -> subprocess.CompletedProcess[str]:
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return subprocess.run(["apt-get", *settings, *words], capture_output=True, text=True, check=False)


def _libraries(root: Path) -> dict[str, str]:
    folders = [str(folder) for pattern in ("usr/lib/*-linux-gnu*", "lib/*-linux-gnu*") for folder in root.glob(pattern)]
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders)} if folders else {}
