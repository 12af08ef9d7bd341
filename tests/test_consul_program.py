"""Where the tests' and the demonstration's Consul comes from, where there is none on the PATH."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from demo import consul_binary
from demo.consul import ConsulAgent, ConsulNotFoundError, find_consul
from demo.debian import earlier_release

STANZAS = """\
Types: deb deb-src
# http://older.example/debian
URIs: http://archive.example/debian http://second.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://security.example/debian
Suites: bookworm-security
Components: main

Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main
Enabled: no
"""

LINES = """\
# deb http://commented.example/debian bookworm main
deb [signed-by=/usr/share/keyrings/a.gpg arch=amd64] http://archive.example/debian bookworm contrib main
deb-src http://archive.example/debian bookworm main
deb http://archive.example/debian bookworm-updates main
deb http://vendor.example/apt nodistro main
deb http://archive.example/debian bookworm non-free
"""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder like /etc/apt."""
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_stanzas(sources: Path) -> None:
    """An entry for the machine's own release becomes one for the earlier; key and mirrors stay, the rest goes."""
    (sources / "sources.list.d" / "debian.sources").write_text(STANZAS)
    made = earlier_release(sources, "bookworm", "bullseye")
    assert list(made) == ["debian.sources"]
    assert made["debian.sources"].splitlines() == [
        "Types: deb",
        "URIs: http://archive.example/debian http://second.example/debian",
        "Suites: bullseye",
        "Components: main",
        "Signed-By:",
        " -----BEGIN PGP PUBLIC KEY BLOCK-----",
        " .",
        " abc",
        " -----END PGP PUBLIC KEY BLOCK-----",
    ]


def test_lines(sources: Path) -> None:
    """The one-line style does the same: options stay, comments, sources and others go."""
    (sources / "sources.list").write_text(LINES)
    line = "deb [signed-by=/usr/share/keyrings/a.gpg arch=amd64] http://archive.example/debian bullseye main\n"
    assert earlier_release(sources, "bookworm", "bullseye") == {"sources.list": line}


def test_files_that_apt_does_not_read(sources: Path) -> None:
    """A file that apt does not read, by its name, counts for nothing."""
    for name in ("debian.sources.disabled", "old.list.save", "README"):
        (sources / "sources.list.d" / name).write_text(LINES + "\n\n" + STANZAS)
    assert earlier_release(sources, "bookworm", "bullseye") == {}


def test_other_distributions(sources: Path) -> None:
    """A machine whose sources have no entry for its own release gives none for another."""
    (sources / "sources.list").write_text(LINES)
    assert earlier_release(sources, "noble", "bullseye") == {}


def test_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Consul and without apt, the error says what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConsulNotFoundError, match="no apt-get to bring one: install Consul"):
        find_consul(tmp_path / "cache")


def test_path_comes_first_and_then_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program on the PATH is taken, else the one that the cache holds."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for folder in ("cache", "bin"):
        program = tmp_path / folder / "consul"
        program.parent.mkdir()
        program.touch(stat.S_IRWXU)
        assert find_consul(tmp_path / "cache") == program


def test_no_host_is_named() -> None:
    """No archive is written into the programs: it is the machine's own."""
    for name in ("consul_binary.py", "debian.py"):
        text = Path(consul_binary.__file__).with_name(name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|\w\.(org|com|net|io)\b", text)


def test_agent_that_cannot_start(consul_program: Path, consul_agent: ConsulAgent) -> None:
    """An agent that stops at once is an error with its log, not a wait until the deadline."""
    twin = ConsulAgent(consul_program, http_port=consul_agent.port)
    with pytest.raises(RuntimeError, match=r"(?s)stopped: .*address already in use"), twin:
        pytest.fail("it started")
    assert not twin.folder.exists()
