"""`python -m demo`: tenants' DAGs from Consul on a real Airflow, in one command. `--check` takes the tour by itself."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dagfactory_consul.errors import DagFactoryError

from . import processes, tour
from .airflow import USER
from .folder import Folder, FolderError
from .say import Say
from .source import choose
from .stack import ROOT, Stack

STOPPED = 130
"""The exit code of a command that Ctrl-C ended."""


def main(argv: list[str] | None = None) -> int:
    """Run the demonstration, and return its exit code: 0, 1 where something failed, 130 where it was stopped early."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--check", action="store_true", help="take the tour, and fail where a step does")
    parser.add_argument("--dir", type=Path, default=ROOT / ".demo", help="the folder of its own (default: .demo)")
    arguments = parser.parse_args(argv)
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a shell has its background jobs ignore SIGINT
        signal.signal(name, _interrupt)
    say = Say()
    try:
        with Folder(arguments.dir) as folder:
            os.environ[processes.MARK] = str(folder)  # whatever is started from here on belongs to this folder
            return _demonstrate(folder, say, check=arguments.check)
    except FolderError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before anything was started
        return STOPPED


def _demonstrate(folder: Path, say: Say, *, check: bool) -> int:
    code = 1
    stack: Stack | None = None
    try:
        stack = Stack(folder, choose(folder), triggerer=not check)
        stack.start(say)
        code = _tour(stack, say) if check else _show(stack, say)
    except KeyboardInterrupt:
        say.line("stopped")
        code = STOPPED
    except (AssertionError, RuntimeError, DagFactoryError) as error:
        say.line(f"\n{error}\n\nThe logs are below {folder}.")
    finally:
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave half of it running
        if stack is not None:
            with say.step("all is stopped"):
                stack.stop()
    return code


def _tour(stack: Stack, say: Say) -> int:
    """Take all steps, also after one that failed; return the exit code."""
    failed = 0
    for step in tour.STEPS:
        try:
            with say.step(step.__name__.replace("_", " ")) as notes:
                notes.append(step(stack))
        except (AssertionError, DagFactoryError) as error:
            say.line(f"        {error}")
            failed += 1
    done = len(tour.STEPS) - failed
    say.line(f"\n{done} of {len(tour.STEPS)} steps succeeded, in {say.seconds:.0f} s.")
    return 1 if failed else 0


def _show(stack: Stack, say: Say) -> int:
    """Say what is to be seen, and stay until Ctrl-C."""
    with say.step("the tenants' DAGs are there") as notes:
        notes.append(tour.three_tenants_have_dags(stack))
    airflow, source = stack.airflow, stack.source
    say.line(f"""
Airflow      {airflow.url}
log in as    {USER}, password {airflow.password}
the data     {source.about}

Try, in another terminal, and watch Airflow: the first line switches the DAGs of one builder off, for all tenants.
About a second later they drain, and go after some more, as they have no runs. The second line brings them back.

  {source.how_to_put("flags/process-messages", "false")}
  {source.how_to_put("flags/process-messages", "true")}

Ctrl-C stops all of it.""")
    try:
        while True:
            airflow.check_running()
            threading.Event().wait(1)
    except KeyboardInterrupt:
        say.line()
        return 0


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Make each of these signals end the demonstration as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
