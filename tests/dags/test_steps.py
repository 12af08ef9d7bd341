from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.files import read_json, write_json
from pipelines.rejects import TooManyRejectsError
from pipelines.steps import PIPELINES, STEPS, run_folder, run_step

from .conftest import DAGS, RunPipeline


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_same_run_again_writes_the_same_bytes(run_pipeline: RunPipeline, pipeline: str) -> None:
    """A run that is repeated under its id leaves the same files, byte for byte, and no others."""
    first = contents(run_pipeline(pipeline, customers=["globex"]))
    again = contents(run_pipeline(pipeline, customers=["globex"]))
    assert first == again
    assert {"result.json", "rejects.jsonl"} <= first.keys()


def test_one_step_can_be_cleared_alone(run_pipeline: RunPipeline, tmp_path: Path) -> None:
    """A step that runs again by itself finds what the step before it wrote."""
    before = contents(folder := run_pipeline("messages", customers=["acme"]))
    (folder / "result.json").unlink()
    place = {"owner": "acme", "name": "messages", "run_id": "run", "output_dir": str(tmp_path)}
    run_step("messages", "report", {"customers": ["acme"]}, **place)
    assert contents(folder) == before


def test_too_many_rejects_fail_the_run_and_stay_to_be_looked_at(run_pipeline: RunPipeline, tmp_path: Path) -> None:
    """Over the allowed share the run fails; the message says how many, and the rejects file is there."""
    with pytest.raises(TooManyRejectsError, match=r"11 of 161 records were rejected, more than the 5%"):
        run_pipeline("messages", customers=["acme"], max_reject_share=0.05)
    folder = tmp_path / "acme" / "messages" / "run"
    assert len((folder / "rejects.jsonl").read_text().splitlines()) == 11
    assert not (folder / "result.json").exists()


def test_each_run_has_a_folder_of_its_own_below_its_dags(tmp_path: Path) -> None:
    """Whatever runs are called, their folders are different ones, each right below the DAG's."""
    run_ids = [
        "..",
        ".",
        "../up",
        ".._up",
        "a/b",
        "a_b",
        "a%2Fb",
        "2024-01-01T00:00:00+00:00",
        "2024-01-01T00_00_00_00_00",
    ]
    folders = {run_folder("acme", "messages", run_id, str(tmp_path)).resolve() for run_id in run_ids}
    assert len(folders) == len(run_ids)
    assert {folder.parent for folder in folders} == {(tmp_path / "acme" / "messages").resolve()}


def test_results_go_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """$DAGFACTORY_EXAMPLE_OUTPUT decides where results go, else $AIRFLOW_HOME, and a given folder before both."""
    monkeypatch.setenv("AIRFLOW_HOME", "/home")
    monkeypatch.delenv("DAGFACTORY_EXAMPLE_OUTPUT", raising=False)
    assert run_folder("acme", "messages", "1") == Path("/home/results/acme/messages/1")
    monkeypatch.setenv("DAGFACTORY_EXAMPLE_OUTPUT", "/out")
    assert run_folder("acme", "messages", "1") == Path("/out/acme/messages/1")
    assert run_folder("acme", "messages", "1", "/mine") == Path("/mine/acme/messages/1")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A file is replaced as a whole or not at all, and no draft stays behind."""
    write_json(tmp_path / "result.json", {"a": 1})
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(OSError, match=r"folder\.json"):
        write_json(tmp_path / "folder.json", {"a": 2})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.json", "result.json"]
    assert read_json(tmp_path / "result.json") == {"a": 1}


def test_only_known_pipelines_are_imported() -> None:
    """The name of a pipeline cannot be used to import something else."""
    with pytest.raises(ValueError, match=r"no pipeline 'files'; known: messages, invoices"):
        run_step("files", "fetch", {}, owner="acme", name="x", run_id="1")


def test_the_command_line_does_the_same_as_a_task(run_pipeline: RunPipeline, tmp_path: Path) -> None:
    """What a pod runs, without Airflow or this package, writes the same bytes as the function that a worker calls."""
    expected = contents(run_pipeline("invoices", customers=["initech"]))
    options = json.dumps({"customers": ["initech"]})
    for step in STEPS:
        where = ["--owner=acme", "--name=invoices", "--run-id=run", f"--output-dir={tmp_path / 'pod'}"]
        command = [sys.executable, "-S", "-m", "pipelines", "invoices", step, *where, f"--options={options}"]
        done = subprocess.run(command, env={"PYTHONPATH": str(DAGS)}, cwd=os.sep, capture_output=True, check=True)
    assert json.loads(done.stdout).items() <= json.loads(expected["result.json"]).items()
    assert contents(tmp_path / "pod" / "acme" / "invoices" / "run") == expected
