"""Where a Consul program comes from: the PATH, or Debian's archive, into a cache folder of this project.

Debian left Consul out after bullseye, so the package is taken from there: the entry for it is made at run time from the
machine's own package sources, and lives in a private folder. Nothing of the system's package state is touched.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RELEASE = "bullseye"
"""The last Debian release that packages Consul (1.8.7)."""
DOWNLOAD_SECONDS = 300
SOURCES = Path("/etc/apt")


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


def earlier_release(sources: Path, codename: str, release: str = RELEASE) -> dict[str, str]:
    """Return apt source files (name → text) for another release, made from a machine's own.

    Args:
        sources: a folder laid out like `/etc/apt`.
        codename: the release that the machine runs; entries of any other suite are left aside.
        release: the release to ask for instead, `main` only. `Signed-By` and all other options stay as they are.
    """
    files = [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]
    made: dict[str, str] = {}
    for file in files:
        if file.suffix not in {".list", ".sources"} or not file.is_file():
            continue
        rewrite = _rewrite_stanzas if file.suffix == ".sources" else _rewrite_lines
        if entries := rewrite(file.read_text(encoding="utf-8"), codename, release):
            made[f"{file.stem}{file.suffix}"] = "\n\n".join(entries) + "\n"
    return made


def _rewrite_lines(text: str, codename: str, release: str) -> list[str]:
    """Rewrite the one-line style: `deb [options] address suite component…`."""
    line = re.compile(
        rf"^\s*deb\s+((?:\[[^\]]*\]\s+)?)(\S+)\s+{re.escape(codename)}/?\s+(?:\S+\s+)*?main\b", re.MULTILINE
    )
    return [f"deb {match[1]}{match[2]} {release} main" for match in line.finditer(text)]


def _rewrite_stanzas(text: str, codename: str, release: str) -> list[str]:
    """Rewrite the stanzas of the deb822 style."""
    made = []
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", uncommented.strip()):
        # A field's value goes on in the lines that begin with a space, as an inline key in Signed-By does.
        fields = {
            name.lower(): (name, value)
            for name, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        }
        words = {name: value.split() for name, (_, value) in fields.items()}
        usable = (
            "deb" in words.get("types", [])
            and codename in words.get("suites", [])
            and "main" in words.get("components", [])
            and words.get("enabled", ["yes"])[0].lower() not in {"no", "false", "0"}
        )
        if usable:
            fields |= {
                "types": ("Types", " deb"),
                "suites": ("Suites", f" {release}"),
                "components": ("Components", " main"),
            }
            made.append("\n".join(f"{name}:{value}" for name, value in fields.values()))
    return made


def _fetch(program: Path) -> None:
    """Bring the package by apt and put its program in place, in one step."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise ConsulNotFoundError(f"no `consul` on the PATH, and no {tool} to bring one: install Consul")
    entries = earlier_release(SOURCES, _codename())
    if not entries:
        raise ConsulNotFoundError("no `consul` on the PATH, and no Debian archive among this machine's package sources")
    with tempfile.TemporaryDirectory(dir=program.parent, prefix=".fetch-") as name:
        work = Path(name)
        parts = work / "sources"
        for folder in (parts, work / "lists" / "partial", work / "cache" / "archives" / "partial"):
            folder.mkdir(parents=True)
        for file, text in entries.items():
            (parts / file).write_text(text, encoding="utf-8")
        private = [
            f"Dir::Etc::sourcelist={os.devnull}",
            f"Dir::Etc::sourceparts={parts}",
            f"Dir::State::lists={work / 'lists'}",
            f"Dir::Cache={work / 'cache'}",
            "APT::Sandbox::User=root",  # the private folder is not open to apt's own user
            "Acquire::Languages=none",
            "Acquire::Retries=2",
        ]
        options = [word for each in private for word in ("-o", each)]
        _run(["apt-get", "-qq", *options, "update"], work)
        _run(["apt-get", "-qq", *options, "download", "consul"], work)
        (package,) = work.glob("consul_*.deb")
        _run(["dpkg-deb", "-x", str(package), str(work / "tree")], work)
        (work / "tree" / "usr" / "bin" / "consul").replace(program)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise ConsulNotFoundError(f"`{command[0]}` took more than {DOWNLOAD_SECONDS} s to bring Consul") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ConsulNotFoundError(f"`{command[0]}` could not bring Consul (exit code {done.returncode}): {said}")


def _codename() -> str:
    """Return the name of the release that this machine runs, empty where it has none."""
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r'^VERSION_CODENAME="?(\w+)', text, re.MULTILINE)
    return found[1] if found else ""


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
