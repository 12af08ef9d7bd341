"""What Airflow's schedulers and workers load before they fork tasks."""

from __future__ import annotations

import json
import subprocess
import sys

LOADED = """
import json, sys
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
models = sys.modules.get("dagfactory_consul.models")
compiled = models is not None and models.AirflowSettings.__pydantic_complete__
print(json.dumps([compiled, "dagfactory_consul.generated" in sys.modules, "dagfactory_consul.bundle" in sys.modules]))
"""


def test_a_task_finds_what_it_needs_compiled_and_imported() -> None:
    """A process that has loaded Airflow's plugins has what a task's start needs, which its forks inherit."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout.splitlines()[-1]) == [True, True, True]
