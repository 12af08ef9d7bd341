"""Where the oldest Python comes from, and what is said where there is none."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import pytest

from demo import debian
from demo.debian import ArchiveError, NoArchiveError
from tests import oldest, programs
from tests.test_consul_program import STANZAS


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Leave these programs alone on the PATH, each a line of shell."""
    folder.mkdir()
    for name, line in programs.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Package sources that name an archive."""
    folder = tmp_path / "apt"
    (folder / "sources.list.d").mkdir(parents=True)
    (folder / "sources.list.d" / "debian.sources").write_text(STANZAS)
    monkeypatch.setattr(debian, "SOURCES", folder)
    monkeypatch.setattr(debian, "_codename", lambda: "bookworm")
    return folder


def test_debians_package_is_a_whole_python(tmp_path: Path) -> None:
    """The Python that Debian's archive gives is 3.11.2, finds its own library, and needs nothing installed."""
    try:
        python = oldest.find_python(path=str(tmp_path), cache=tmp_path)
    except NoArchiveError as error:
        programs.unavailable(f"no Python 3.11.2 to be had: {error}")
    said = subprocess.check_output([python, "-c", "import sys, ssl; print(sys.version, ssl.__file__)"], text=True)
    assert said.startswith("3.11.2 ")
    assert str(tmp_path) in said


def test_an_archive_without_the_package_is_an_error(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the archive answers and does not give the package, the tests do not pass in silence."""
    apt = 'for word; do [ "$word" = update ] && exit 0; done; echo "E: Unable to locate" >&2; exit 100'
    put_on_path(tmp_path / "bin", monkeypatch, apt_get=apt, dpkg_deb="")
    with pytest.raises(ArchiveError, match="E: Unable to locate") as caught:
        oldest.find_python(path=str(sources), cache=tmp_path / "cache")
    assert not isinstance(caught.value, NoArchiveError)


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)], ids=["somebody's machine", "CI"])
def test_a_machine_without_an_archive_says_so(
    ci: str, code: int, sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no archive answers, one line says that no tests ran there and why; in CI that is a failure."""
    put_on_path(sources / "bin", monkeypatch, apt_get='echo "E: no route" >&2; exit 100', dpkg_deb="")
    monkeypatch.setenv("CI", ci)
    find = oldest.find_python
    monkeypatch.setattr(oldest, "find_python", lambda: find(path=str(sources), cache=sources / "cache"))
    monkeypatch.setattr(oldest, "_is_whole", lambda _python: False)
    assert oldest.main([]) == code
    said = capsys.readouterr().err
    assert re.fullmatch("No tests on Debian bookworm's Python 3.11.2: .* not on this machine, .*: E: no route\n", said)


def test_every_file_exists() -> None:
    """The tests that run there are named rightly."""
    assert [name for name in oldest.FILES if not (oldest.ROOT / name).exists()] == []
