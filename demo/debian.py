"""Packages of another Debian release, fetched and unpacked into a folder.

The entry for the release is made at run time from the machine's own package sources, and lives in a private folder.
Nothing of the system's package state is touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

DOWNLOAD_SECONDS = 300
SOURCES = Path("/etc/apt")


class ArchiveError(RuntimeError):
    """The packages could not be fetched; the message says what apt said."""


class NoArchiveError(ArchiveError):
    """This machine has no apt, or none of its package sources is a Debian archive that answers."""


def unpack(packages: Sequence[str], release: str, work: Path) -> Path:
    """Fetch packages of a release by apt, without what they depend on, and return the folder they are unpacked into.

    Args:
        packages: their names.
        release: the release to take them from, whichever the machine runs.
        work: an empty folder, which also takes the lists and the archives.

    Raises:
        NoArchiveError: there is no archive to ask, or it does not answer.
        ArchiveError: the archive answers, and does not give the packages.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise NoArchiveError(f"no {tool} to bring one")
    entries = earlier_release(SOURCES, _codename(), release)
    if not entries:
        raise NoArchiveError("no Debian archive among this machine's package sources")
    _download(packages, entries, work)
    for archive in sorted(work.glob("*.deb")):
        done = _run(["dpkg-deb", "-x", str(archive), str(work / "tree")], work)
        if done.returncode:
            raise ArchiveError(f"{archive.name} cannot be unpacked: {_said(done)}")
    return work / "tree"


def earlier_release(sources: Path, codename: str, release: str) -> dict[str, str]:
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


def _download(packages: Sequence[str], entries: dict[str, str], work: Path) -> None:
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
        "APT::Update::Error-Mode=any",
        "Acquire::Languages=none",
        "Acquire::Retries=2",
    ]
    options = [word for each in private for word in ("-o", each)]
    updated = _run(["apt-get", "-qq", *options, "update"], work)
    done = _run(["apt-get", "-qq", *options, "download", *packages], work)
    if done.returncode and updated.returncode:
        raise NoArchiveError(f"the Debian archive does not answer: {_said(updated)}")
    if done.returncode:
        raise ArchiveError(f"`apt-get` could not bring {' '.join(packages)}: {_said(done)}")


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise NoArchiveError(f"`{command[0]}` took more than {DOWNLOAD_SECONDS} s") from None


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr or done.stdout).strip()


def _codename() -> str:
    """Return the name of the release that this machine runs, empty where it has none."""
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r'^VERSION_CODENAME="?(\w+)', text, re.MULTILINE)
    return found[1] if found else ""
