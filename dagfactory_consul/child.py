"""A child process that was forked from Airflow's DAG processor: what it must not do in its parent's name."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def cut_loose(parent: int) -> None:
    """Keep what this process has inherited from acting here. To be called first of all, with signals blocked."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    sys.excepthook = sys.__excepthook__
    os.setpgid(0, 0)  # so that what a builder starts can be ended with it
    follow(parent)
    with contextlib.suppress(OSError):  # where memory runs out this process goes, and not the processor
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
    # As Airflow's own parsers have it: no database, and no rights of the processor's.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "client"
    from airflow.sdk.execution_time.supervisor import block_orm_access

    block_orm_access()  # type: ignore[no-untyped-call]
    gc.freeze()  # what was inherited is not looked through, which would copy all of it
    importlib.invalidate_caches()  # the code may be younger than what the processor knows of its folder


def follow(parent: int) -> None:
    """End with the parent, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(0)  # it died before it could take us with it


def limit_memory(mebibytes: int) -> None:
    """Let this process and its forks take so much memory more than they have now; 0 for no limit.

    The limit is on data (RLIMIT_DATA), which is memory that is written to. The address space (RLIMIT_AS) also has
    libraries and reserved arenas in it, by the gigabyte, however little of them is used.
    """
    with contextlib.suppress(OSError, ValueError, StopIteration):  # on a system without these
        status = Path("/proc/self/status").read_text().splitlines()
        now = next(int(line.split()[1]) for line in status if line.startswith("VmData:")) * 1024
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = now + mebibytes * 2**20
        if mebibytes and (hard == resource.RLIM_INFINITY or wanted < hard):
            resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def flush() -> None:
    """Write out what was printed: two processes would write it both, or none of them."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or never there
            stream.flush()
