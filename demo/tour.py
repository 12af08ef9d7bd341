"""The tour: what the demonstration shows, as steps that check themselves. The tests on a real Airflow run the same.

A step takes the stack, leaves the configuration as it was, and returns what it saw, in a few words. It raises an
AssertionError where something is not as it should be.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import yaml

from .look import (
    SOON,
    active,
    become,
    dags_of_all,
    edited,
    finish_run,
    last_parsed,
    problem,
    samples,
    settled,
    start_run,
    stay,
)
from .results import check_invoices, check_messages, check_report, newest
from .source import MORE, sample
from .stack import Stack
from .wait import until

MESSAGES, INVOICES = "process_messages", "process_invoices"
PROJECT = "flywheel"


def three_tenants_have_dags(stack: Stack) -> str:
    """The DAGs of three tenants appear, though no file names them."""
    tenants = samples()
    dags = until(lambda: dags_of_all(stack, tenants), f"{', '.join(tenants)} have DAGs", seconds=SOON)
    assert len(tenants) >= 3, tenants
    return f"{len(dags)} DAGs of {', '.join(tenants)}"


def a_run_of_messages_succeeds(stack: Stack) -> str:
    """A run of ProcessMessages succeeds, and its result agrees with the sample data."""
    return check_messages(_run(stack, f"acme__{MESSAGES}"))


def a_run_of_invoices_succeeds(stack: Stack) -> str:
    """A run of ProcessInvoices succeeds, and its result agrees with the sample data."""
    return check_invoices(_run(stack, f"acme__{INVOICES}"))


def a_project_composes_both(stack: Stack) -> str:
    """A project's own DAG, written by hand, runs both builders as groups under one parent, with its settings."""
    run_id = start_run(stack, PROJECT)
    finish_run(stack, PROJECT, run_id)
    groups = {task_id.partition(".")[0] for task_id in stack.airflow.api.task_states(PROJECT, run_id)}
    assert groups == {MESSAGES, INVOICES, "report"}, groups
    return check_report(newest(stack.airflow.home / "results" / PROJECT / "report"), samples())


def a_flag_flip_removes_dags_and_brings_them_back(stack: Stack) -> str:
    """A flag that goes off lets its DAGs drain and go, and no others; on again, they are back."""
    before = settled(stack)
    gone = {dag_id for dag_id in before if dag_id.endswith(MESSAGES)}
    began = time.monotonic()
    with edited(stack, "flags/process-messages", "false"):
        become(stack, before - gone, keep=before - gone)
        went = time.monotonic() - began
    become(stack, before, keep=before - gone)
    return f"{len(gone)} DAGs gone after {went:.1f} s, back {time.monotonic() - began - went:.1f} s later"


def a_new_tenant_appears(stack: Stack) -> str:
    """A tenant that is written to the configuration gets its DAGs; one that is removed loses them."""
    before = settled(stack)
    began = time.monotonic()
    with edited(stack, "tenants/umbrella", sample("tenants/umbrella", folder=MORE)):
        become(stack, before | {f"umbrella__{MESSAGES}", f"umbrella__{INVOICES}"}, keep=before)
        came = time.monotonic() - began
    become(stack, before, keep=before)
    return f"its DAGs came after {came:.1f} s, and went {time.monotonic() - began - came:.1f} s later"


def a_bad_tenant_shows_its_error(stack: Stack) -> str:
    """A tenant that cannot be used shows among Airflow's import errors; the others stay, and run."""
    before = settled(stack)
    with edited(stack, "tenants/broken", sample("tenants/broken", folder=MORE)):
        error = until(lambda: problem(stack, "tenants/broken"), "the error is shown", seconds=SOON)
        _run(stack, f"globex__{MESSAGES}")
        assert set(active(stack)) == before
    until(lambda: not stack.airflow.api.import_errors(), "the error is gone", seconds=SOON)
    return f"Airflow shows: {error}"


def a_bad_edit_keeps_the_dags(stack: Stack) -> str:
    """A tenant whose document is broken by an edit keeps the DAGs that it had, and the error is shown."""
    before = settled(stack)
    with edited(stack, "tenants/globex", "enabled: true\ndags: {ProcessMesages: {schedule: '@hourly'}}\n"):
        error = until(lambda: problem(stack, "tenants/globex"), "the error is shown", seconds=SOON)
        stay(stack, before)
    until(lambda: not stack.airflow.api.import_errors(), "the error is gone", seconds=SOON)
    return f"its DAGs stayed; Airflow shows: {error}"


def nothing_vanishes_while_the_store_is_away(stack: Stack) -> str:
    """While the store is away nothing vanishes and runs succeed; when it is back, a change arrives."""
    if stack.source.fallible is None:
        return "left out: this Consul is somebody else's"
    before = settled(stack)
    parsed = last_parsed(stack)
    stack.source.go_away()
    try:
        stay(stack, before)
        assert last_parsed(stack) > parsed, "the DAGs stayed, but nothing was parsed meanwhile"
        _run(stack, f"acme__{INVOICES}")
    finally:
        stack.source.come_back()
    began = time.monotonic()
    changed = yaml.safe_load(sample("tenants/acme"))
    changed.setdefault("airflow", {}).setdefault("tags", []).append("after-the-outage")
    with edited(stack, "tenants/acme", yaml.safe_dump(changed)):
        until(lambda: "after-the-outage" in active(stack)[f"acme__{INVOICES}"], "a change has arrived", seconds=SOON)
    return (
        f"{stack.source.fallible}: {len(before)} DAGs stayed; then a change came after {time.monotonic() - began:.1f} s"
    )


STEPS: list[Callable[[Stack], str]] = [
    three_tenants_have_dags,
    a_run_of_messages_succeeds,
    a_run_of_invoices_succeeds,
    a_project_composes_both,
    a_flag_flip_removes_dags_and_brings_them_back,
    a_new_tenant_appears,
    a_bad_tenant_shows_its_error,
    a_bad_edit_keeps_the_dags,
    nothing_vanishes_while_the_store_is_away,
]


def _run(stack: Stack, dag_id: str) -> Path:
    """Run a DAG to its good end, and return the folder of its results."""
    run_id = start_run(stack, dag_id)
    finish_run(stack, dag_id, run_id)
    tenant, _, name = dag_id.partition("__")
    return newest(stack.airflow.home / "results" / tenant / name)
