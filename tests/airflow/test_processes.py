"""The demonstration's processes and its folder: nothing stays behind, and nobody else is harmed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from demo import processes
from demo.folder import LOCK, Folder, FolderError
from demo.wait import TooLateError, UnexpectedError, never, until

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]


def start(command: list[str], home: Path) -> subprocess.Popen[bytes]:
    return processes.start(command, home=home, env=dict(os.environ), log=home / "log")


def test_what_a_child_forked_ends_with_it(tmp_path: Path) -> None:
    """A stop ends the child, and what it forked into other process groups."""
    child = start(["sh", "-c", f"setsid '{sys.executable}' -c 'import time; time.sleep(600)' & sleep 600"], tmp_path)
    until(lambda: len(processes.marked(tmp_path)) == 3, "all three run", seconds=10)
    processes.stop([child], home=tmp_path)
    assert processes.marked(tmp_path) == []


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    """A process that ignores SIGTERM is killed when the patience is over, and counted."""
    child = start(DEAF, tmp_path)
    until(lambda: psutil.Process(child.pid).cmdline()[-1] == DEAF[-1], "it runs", seconds=10)
    until(lambda: _ignores_sigterm(child.pid), "it ignores SIGTERM", seconds=10)
    assert processes.stop([child], home=tmp_path, patience=0.2) == 1
    assert processes.marked(tmp_path) == []


def test_a_stop_harms_no_other_folder(tmp_path: Path) -> None:
    """Processes of a folder whose name only begins alike go on."""
    child = start(SLEEPS, tmp_path / "demo")
    other = start(SLEEPS, tmp_path / "demo2")
    try:
        processes.stop([child], home=tmp_path / "demo")
        assert other.poll() is None
    finally:
        processes.stop([other], home=tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_children_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    """A child ends even when the process that started it is killed and can stop nothing any more."""
    text = (
        "import os, sys, time; from pathlib import Path; from demo import processes;"
        f"home = Path({str(tmp_path)!r});"
        f"processes.start({SLEEPS!r}, home=home, env=dict(os.environ), log=home / 'log');"
        "time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", text])
    until(lambda: processes.marked(tmp_path), "the child runs", seconds=20)
    starter.kill()
    starter.wait()
    until(lambda: not processes.marked(tmp_path), "the child has ended", seconds=10)


def test_a_second_demonstration_in_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder is one demonstration's at a time; the message names the process that holds it."""
    with Folder(tmp_path / "demo"), pytest.raises(FolderError, match=f"process {os.getpid()}"):
        Folder(tmp_path / "demo").__enter__()
    with Folder(tmp_path / "demo"):
        pass


def test_what_a_killed_demonstration_left_is_cleared(tmp_path: Path) -> None:
    """Its processes are ended and its files removed, though its lock's file is still there."""
    home = tmp_path / "demo"
    (home / "airflow").mkdir(parents=True)
    (home / LOCK).write_text("12345")
    left = start(SLEEPS, home / "airflow")
    with Folder(home) as path:
        assert [each.name for each in path.iterdir()] == [LOCK]
        assert left.wait(5) == -signal.SIGKILL


def test_a_folder_of_somebody_else_is_not_cleared(tmp_path: Path) -> None:
    """A folder with files that no demonstration made is refused, and keeps them."""
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(FolderError, match="not a demonstration's"):
        Folder(tmp_path).__enter__()
    assert (tmp_path / "thesis.txt").exists()


def test_waiting_ends_with_what_was_seen_last() -> None:
    """A wait that runs out of time says what it waited for and what it saw."""
    with pytest.raises(TooLateError, match="still waiting until it is there; last seen: 0"):
        until(lambda: 0, "it is there", seconds=0.1, every=0.01)


def test_watching_ends_as_soon_as_it_is_no_longer_so() -> None:
    """A watch fails at the first look that sees what must not be, not at its end, and says what it saw."""
    looks = iter([[], [], ["a DAG"]])
    began = time.monotonic()
    with pytest.raises(UnexpectedError, match=r"something is missing: \['a DAG'\]"):
        never(lambda: next(looks), "something is missing", seconds=30, every=0.01)
    assert time.monotonic() - began < 10


def _ignores_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(mask, 16) & (1 << (signal.SIGTERM - 1)))
