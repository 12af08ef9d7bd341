"""Looking at a stack and changing its configuration: what steps and tests are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .source import SAMPLES, sample
from .stack import Stack
from .wait import UnexpectedError, never, until

SOON = 60.0
"""Seconds that a change may take to show. It takes a few; a machine under load gets the rest."""

WATCH = 12.0
"""Seconds for which nothing may vanish: many refreshes, and several times what makes Airflow retire a DAG."""

SLOTS = 128
"""Of Airflow's default pool, as Airflow makes it."""

DRAINING = "draining"
"""The tag of a DAG that is switched off and still has runs."""


@contextmanager
def edited(stack: Stack, key: str, text: str) -> Iterator[None]:
    """Write one document, and in the end put back the sample that was there, or remove it."""
    stack.source.put(key, text)
    try:
        yield
    finally:
        if any(SAMPLES.glob(f"{key}.*")):
            stack.source.put(key, sample(key))
        else:
            stack.source.delete(key)


def start_run(stack: Stack, dag_id: str) -> str:
    """Start a run as soon as the DAG is there, and return its id."""
    until(lambda: dag_id in stack.airflow.api.dags(), f"{dag_id} is there", seconds=SOON)
    return stack.airflow.api.trigger(dag_id)


def finish_run(stack: Stack, dag_id: str, run_id: str) -> None:
    """Wait until a run has ended, and check that it succeeded."""
    api = stack.airflow.api

    def ended() -> str | None:
        state = str(api.run(dag_id, run_id)["state"])
        return state if state in {"success", "failed"} else None

    state = until(ended, f"{dag_id} {run_id} has ended", seconds=2 * SOON)
    assert state == "success", f"{dag_id} {run_id}: {state}; tasks: {api.task_states(dag_id, run_id)}"


@contextmanager
def between_two_tasks(stack: Stack, dag_id: str) -> Iterator[str]:
    """Start a run, and hold it where some of its tasks have succeeded and none is under way."""
    api = stack.airflow.api
    run_id = start_run(stack, dag_id)
    until(lambda: any(api.task_states(dag_id, run_id).values()), "its first task is on its way", seconds=SOON)
    try:
        stack.airflow.open_pool(0)

        def held() -> bool:
            states = list(api.task_states(dag_id, run_id).values())
            assert set(states) <= {None, "scheduled", "success"}, states
            return "success" in states

        until(held, "it is between two tasks", seconds=SOON)
        states = api.task_states(dag_id, run_id)
        assert set(states.values()) != {"success"}, f"{dag_id} {run_id} had ended before it could be held: {states}"
        yield run_id
    finally:
        stack.airflow.open_pool(SLOTS)


def settled(stack: Stack) -> set[str]:
    """Return the ids of the active DAGs, once the samples' are all there and none is on its way out."""
    tenants = samples()
    until(lambda: dags_of_all(stack, tenants), f"{', '.join(tenants)} have DAGs", seconds=SOON)
    return until(
        lambda: all(DRAINING not in tags for tags in active(stack).values()) and set(active(stack)),
        "no DAG is draining",
        seconds=SOON,
    )


def active(stack: Stack) -> dict[str, set[str]]:
    """Return the tags of each active DAG of a tenant."""
    dags = stack.airflow.api.dags()
    return {dag_id: {tag["name"] for tag in dag["tags"]} for dag_id, dag in dags.items() if "__" in dag_id}


def switched_off(stack: Stack, dag_ids: set[str]) -> set[str]:
    """Return those of the DAGs that get no new runs: they drain, or are gone."""
    seen = active(stack)
    return {dag_id for dag_id in dag_ids if DRAINING in seen.get(dag_id, {DRAINING})}


def samples() -> list[str]:
    """Return the ids of the sample tenants."""
    return sorted(path.stem for path in (SAMPLES / "tenants").glob("*.yaml"))


def dags_of(stack: Stack, tenant: str) -> list[str]:
    """Return the active DAGs of one tenant."""
    return [dag_id for dag_id in active(stack) if dag_id.startswith(f"{tenant}__")]


def dags_of_all(stack: Stack, tenants: list[str]) -> list[str]:
    """Return the DAGs of all these tenants; none while one of them still lacks its own."""
    found = [dags_of(stack, tenant) for tenant in tenants]
    return [dag_id for each in found for dag_id in each] if all(found) else []


def become(stack: Stack, wanted: set[str], *, keep: set[str]) -> None:
    """Wait until the active DAGs are the wanted ones, and fail as soon as one of those to keep is missing."""

    def look() -> bool:
        seen = set(active(stack))
        if missing := keep - seen:
            raise UnexpectedError(f"while the DAGs change, others are missing: {sorted(missing)}")
        return seen == wanted

    until(look, f"the DAGs are {sorted(wanted)}", seconds=SOON)


def stay(stack: Stack, dag_ids: set[str]) -> None:
    """Watch that these DAGs stay active for as long as it would take several refreshes to lose them."""
    never(lambda: dag_ids - set(active(stack)), "DAGs are missing", seconds=WATCH)


def problem(stack: Stack, key: str) -> str | None:
    """Return the line of Airflow's import errors that speaks of a document."""
    lines = "\n".join(stack.airflow.api.import_errors().values()).splitlines()
    return next((line.strip() for line in lines if key in line), None)
