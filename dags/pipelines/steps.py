"""Running one step of a pipeline, and where its files stand.

A pipeline is a module with `Options`, a dataclass, and `STEPS`: functions of `(options, folder)` that read what the
step before wrote in the run's folder, write their own files there, and return a short summary. Steps hand over in
files, so a step can be cleared and run again alone, and each may run on another machine that sees the same folder.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

PIPELINES = ("messages", "invoices")
STEPS = ("fetch", "validate", "process", "report")
"""The steps of every pipeline, in their order."""


def run_folder(owner: str, name: str, run_id: str, output_dir: str | None = None) -> Path:
    """Return `<output_dir>/<owner>/<name>/<run_id>`, the folder of one run.

    Args:
        owner: a tenant or a project.
        name: of the DAG, or of the task group under a project's DAG.
        run_id: Airflow's; what a file's name must not hold is percent-encoded, so two runs never share a folder.
        output_dir: unless given, `$DAGFACTORY_EXAMPLE_OUTPUT`, else `$AIRFLOW_HOME/results`. Read here, on the machine
            that runs the step, which need not be the one that parsed the DAG.
    """
    home = os.environ.get("AIRFLOW_HOME", "~/airflow")
    root = output_dir or os.environ.get("DAGFACTORY_EXAMPLE_OUTPUT") or f"{home}/results"
    return Path(root).expanduser().joinpath(*map(_file_name, (owner, name, run_id)))


def run_step(
    pipeline: str,
    step: str,
    options: dict[str, Any],
    *,
    owner: str,
    name: str,
    run_id: str,
    output_dir: str | None = None,
) -> dict[str, Any]:
    """Run one step of one run and return its summary. The same step again writes the same bytes."""
    if pipeline not in PIPELINES:  # the name arrives from outside: it must not import just anything
        raise ValueError(f"no pipeline {pipeline!r}; known: {', '.join(PIPELINES)}")
    module = import_module(f"pipelines.{pipeline}")
    summary: dict[str, Any] = module.STEPS[step](module.Options(**options), run_folder(owner, name, run_id, output_dir))
    return summary


def _file_name(text: str) -> str:
    name = quote(text, safe="")
    return "%2E" + name[1:] if name.startswith(".") else name  # neither `..` nor hidden
