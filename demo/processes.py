"""Child processes that end when they are told to, when this process ends, and when this process is killed.

Airflow's components fork: parsers, executor's workers, tasks in process groups of their own. A signal to a group does
not reach them all, so each process is marked by an environment variable that its children inherit, and is found by it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "DAGFACTORY_DEMO_HOME"
"""The environment variable whose value says to which folder a process belongs."""

_PR_SET_PDEATHSIG = 1


def start(command: Sequence[str], *, home: Path, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command whose output goes to the end of the file `log`, marked as belonging to `home`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=home,
            # setproctitle would write its title over the environment, in which the mark stands
            env={**env, MARK: str(home), "SPT_NOENV": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us alone: we stop the others, in order
            preexec_fn=_follow_parent(),  # noqa: PLW1509 - only a system call; started from a main thread
        )


def marked(home: Path) -> list[psutil.Process]:
    """Find the living processes that belong to `home` or to a folder in it, whoever started them."""
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK)
            if mark and Path(mark).is_relative_to(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):  # it has ended, or is another user's
            continue
    return [process for process in found if process.pid != os.getpid()]


def stop(processes: Sequence[subprocess.Popen[bytes]], *, home: Path, patience: float = 8.0) -> int:
    """End the given processes and all that belongs to `home`: asked first, killed after `patience` seconds.

    Returns:
        how many had to be killed.
    """
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + patience
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    killed = kill(home)
    for process in processes:
        process.wait()
    return killed


def kill(home: Path) -> int:
    """End all that belongs to `home` without asking, and wait until it is gone. Returns how many there were.

    Raises:
        RuntimeError: something cannot be ended.
    """
    count = 0
    deadline = time.monotonic() + 30
    while found := marked(home):  # again, for what was forked in between
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes that cannot be ended: {', '.join(str(each.pid) for each in found)}")
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                count += 1
        time.sleep(0.05)
    return count


def _follow_parent() -> Callable[[], None] | None:
    """Return what makes a child get SIGTERM when this process dies, however it dies; None where nothing can."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # loaded before the fork: a child of a fork should do as little as it can

    def follow() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))

    return follow
