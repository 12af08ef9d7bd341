"""The tour: what the demonstration shows, as steps that check themselves. The tests on a real Airflow run the same.

A step takes the stack, leaves the configuration as it was, and returns what it saw, in a few words. It raises an
AssertionError where something is not as it should be.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from .look import (
    SOON,
    active,
    become,
    between_two_tasks,
    dags_of_all,
    edited,
    finish_run,
    problem,
    samples,
    settled,
    start_run,
    stay,
    switched_off,
)
from .results import check_invoices, check_messages, check_report, newest, parser_of
from .source import MORE, sample
from .stack import Stack
from .wait import until

MESSAGES, INVOICES = "process_messages", "process_invoices"
PROJECT = "flywheel"
OFTEN = 0.15
"""Seconds from one look to the next, where it is measured how long something takes."""
V1_FOR_ALL = {"state": "ENABLED", "variants": {"v1": "v1", "v2": "v2"}, "defaultVariant": "v1"}
"""The flag `message-parser` without the rule that gives gold tenants the newer parser."""


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


def the_store_tells_what_is_in_force(stack: Stack) -> str:
    """What the DAG processor writes beside the configuration tells what Airflow shows."""
    dags = settled(stack)

    def tells() -> dict[str, Any]:
        status = stack.source.status()
        assert status.get("dags") == len(dags), f"{len(dags)} DAGs are active, and the status says {status}"
        return status

    status = until(tells, "the status says what is in force", seconds=SOON)
    assert (status["held"], status["problems"], status["draining"]) == (None, [], []), status
    return f"version {status['version']}, {status['dags']} DAGs, no problem"


def a_flag_flip_removes_dags_and_brings_them_back(stack: Stack) -> str:
    """A flag that goes off lets its DAGs drain and go, and no others; on again, they are back."""
    before = settled(stack)
    gone = {dag_id for dag_id in before if dag_id.endswith(MESSAGES)}
    began = time.monotonic()
    with edited(stack, "flags/process-messages", "false"):
        until(lambda: gone <= switched_off(stack, before), "the flip has arrived", seconds=SOON, every=OFTEN)
        off = time.monotonic() - began
        become(stack, before - gone, keep=before - gone)
        went = time.monotonic() - began
    began = time.monotonic()
    become(stack, before, keep=before - gone)
    on = time.monotonic() - began
    return f"{len(gone)} DAGs off: {off:.1f} s, gone: {went:.1f} s, on again: {on:.1f} s"


def a_run_keeps_the_configuration_it_began_with(stack: Stack) -> str:
    """A flip between two tasks of a run is not for that run: it ends as it began, and the next one is new."""
    dag_id = f"acme__{MESSAGES}"
    results = stack.airflow.home / "results" / "acme" / MESSAGES
    with ExitStack() as flip:
        with between_two_tasks(stack, dag_id) as run_id:
            began = time.monotonic()
            flip.enter_context(edited(stack, "flags/message-parser", json.dumps(V1_FOR_ALL)))
            until(
                lambda: '"v1"' in stack.airflow.api.dag(dag_id)["doc_md"], "it has arrived", seconds=SOON, every=OFTEN
            )
            arrived = time.monotonic() - began
        finish_run(stack, dag_id, run_id)
        parsers = [parser_of(newest(results)), parser_of(_run(stack, dag_id))]
    assert parsers == ["v2", "v1"], f"the parsers of the run that was under way and of the next one: {parsers}"
    return f"it arrived after {arrived:.1f} s; this run ended with v2, the next had v1"


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
    stack.source.go_away()
    try:
        until(stack.airflow.api.import_errors, "Airflow shows that the store is away", seconds=SOON)
        stay(stack, before)
        _run(stack, f"acme__{INVOICES}")
    finally:
        stack.source.come_back()
    began = time.monotonic()
    changed = yaml.safe_load(sample("tenants/acme"))
    changed.setdefault("airflow", {}).setdefault("tags", []).append("after-the-outage")
    with edited(stack, "tenants/acme", yaml.safe_dump(changed)):
        until(lambda: "after-the-outage" in active(stack)[f"acme__{INVOICES}"], "a change has arrived", seconds=SOON)
    arrived = time.monotonic() - began
    return f"{stack.source.fallible}: {len(before)} DAGs stayed; a change after it: {arrived:.1f} s"


STEPS: list[Callable[[Stack], str]] = [
    three_tenants_have_dags,
    a_run_of_messages_succeeds,
    a_run_of_invoices_succeeds,
    a_project_composes_both,
    the_store_tells_what_is_in_force,
    a_flag_flip_removes_dags_and_brings_them_back,
    a_run_keeps_the_configuration_it_began_with,
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
