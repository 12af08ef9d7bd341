"""The demonstration as a program: it ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from demo.__main__ import STOPPED
from demo.stack import ROOT
from demo.wait import until

IGNORING = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
"""Starts a program as a script's shell starts a background job: with SIGINT ignored."""


def test_sigint_ends_a_demonstration_in_the_background(tmp_path: Path, consul_program: Path) -> None:
    """SIGINT ends it although the shell that started it has its background jobs ignore that signal."""
    assert consul_program
    command = [*IGNORING, sys.executable, "-m", "demo", "--dir", str(tmp_path / "demo")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        try:
            until(lambda: any((tmp_path / "demo").glob("*")), "it has begun", seconds=60)
            demo.send_signal(signal.SIGINT)
            assert demo.wait(50) == STOPPED
        finally:
            if demo.poll() is None:
                demo.terminate()
