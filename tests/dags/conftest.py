from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags"

# As Airflow does with the folder of DAGs.
sys.path.insert(0, str(DAGS))

RunPipeline = Callable[..., Path]


@pytest.fixture
def run_pipeline(tmp_path: Path) -> RunPipeline:
    """Run all steps of a pipeline on the sample data, or on `source`, and return the run's folder."""
    from pipelines.steps import STEPS, run_folder, run_step

    def run(pipeline: str, *, run_id: str = "run", source: bytes | None = None, **options: Any) -> Path:
        place = {"owner": "acme", "name": pipeline, "run_id": run_id, "output_dir": str(tmp_path)}
        if source is not None:
            (tmp_path / "source").write_bytes(source)
            options["source"] = str(tmp_path / "source")
        for step in STEPS:
            run_step(pipeline, step, options, **place)
        return run_folder(**place)

    return run
