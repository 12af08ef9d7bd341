"""DAGs that Airflow's database, messages or schedules cannot take, and some that they just can."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset


def a_dag(task: dict[str, Any] | None = None, *, dag_id: str = "evil", more: int = 0, **arguments: Any) -> DAG:
    """Return a DAG of one task, and so `more` after it, that is good but for these arguments."""
    good: dict[str, Any] = {"schedule": "@daily", "start_date": datetime(2024, 1, 1, tzinfo=UTC)}
    with DAG(dag_id, auto_register=False, **{**good, **arguments}) as dag:  # noqa: AIR002  # the schedule is among them
        previous = EmptyOperator(**{"task_id": "only", **(task or {})})
        for number in range(more):
            following = EmptyOperator(**{**(task or {}), "task_id": f"more-{number}"})
            previous >> following
            previous = following
    return dag


POISONS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "retries over 32 bits": ({"retries": 3_000_000_000}, {}, "task only: retries is 3000000000, and .* up to 2,147"),
    "a long queue": ({"queue": "q" * 300}, {}, "task only: queue has 300 letters, and Airflow's database takes 256"),
    "a long pool": ({"pool": "p" * 300}, {}, "pool has 300 letters"),
    "slots over 32 bits": ({"pool_slots": 2**40}, {}, "task only: pool_slots is 1099511627776"),
    "a long owner": ({"owner": "o" * 2_100}, {}, "owner has 2,100 letters, and Airflow's database takes 2,000"),
    "an owner that is a list": ({"owner": ["x"]}, {}, "TypeError: unhashable type: 'list'"),
    "a long executor": ({"executor": "e" * 1_100}, {}, "executor"),
    "NUL in a queue": ({"queue": "a\0b"}, {}, "task only: queue holds the character NUL"),
    "NUL in a task's text": ({"doc_md": "a\0b"}, {}, "a text in it holds the character NUL"),
    "NUL in a description": ({}, {"description": "a\0b"}, "description holds the character NUL"),
    "NUL in a tag": ({}, {"tags": ["a\0b"]}, "a tag holds the character NUL"),
    "runs over 32 bits": ({}, {"max_active_runs": 3_000_000_000}, "max_active_runs is 3000000000"),
    "tasks over 32 bits": ({}, {"max_active_tasks": 2**31}, "max_active_tasks is 2147483648"),
    "runs over 64 bits": ({}, {"max_active_runs": 10**30}, "max_active_runs is 1000000"),
    "a number over 64 bits": ({"params": {"n": 10**30}}, {}, "a number in it takes more than 64 bits"),
    "a schedule of 800 letters": (
        {},
        {"schedule": ",".join(["1"] * 400) + " * * * *"},
        "schedule: its description has 1,227 letters, and Airflow's database takes 1,000",
    ),
    "a day that never comes": ({}, {"schedule": "0 0 31 2 *"}, "its schedule gives no run: .*next date"),
    "a start at the end of time": ({}, {"start_date": datetime(9999, 12, 31, tzinfo=UTC)}, "its schedule gives no run"),
    "an end before the start": (
        {},
        {"end_date": datetime(2023, 1, 1, tzinfo=UTC)},
        "no run between its start",
    ),
    "weights that add up to more than 32 bits": (
        {"priority_weight": 2**31 - 1},
        {"more": 1},
        "task only: priority_weight with that of its downstream tasks is 4294967294",
    ),
    "half a surrogate": ({"doc_md": "a\ud800"}, {}, "cannot be written as a message: .*surrogates not allowed"),
    "NUL in an asset": ({"outlets": [Asset("a\0b")]}, {}, "holds the character NUL"),
    "a long link of an owner": (
        {},
        {"owner_links": {"airflow": "https://x/" + "a" * 500}},
        "owner_links: link has 510 letters",
    ),
    "a run a second": ({}, {"schedule": "* * * * * *"}, "runs that follow each other in less than 10 s"),
    "tags that differ in case": ({}, {"tags": ["A", "a"]}, "the tags 'A' and 'a' differ in case alone"),
    "runs that last for ages": ({}, {"dagrun_timeout": timedelta(days=10**8)}, "dagrun_timeout is longer than"),
    "a delay of ages": (
        {"retry_delay": timedelta(days=10**8)},
        {},
        "task only: retry_delay is longer than",
    ),
}

"""By what is wrong: arguments of the task, of the DAG, and what the error says."""

FIT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing special": ({}, {}),
    "the largest values": (
        {"queue": "q" * 256, "retries": 2**31 - 1, "owner": "o" * 500, "pool_slots": 2**31 - 1},
        {"tags": ["t" * 100], "max_active_runs": 2**31 - 1, "max_active_tasks": 2**31 - 1},
    ),
    "weights up to the limit": ({"priority_weight": 2**30 - 1}, {"more": 1}),
    "a number of 64 bits": ({"params": {"n": 2**63}}, {}),
    "no NUL, but how it is written": ({"doc_md": "\\u0000 \\\\u0000"}, {}),
    "a long description": ({}, {"description": "d" * 10_000}),
    "assets": ({"outlets": [Asset("a" * 1_500)]}, {}),
    "29 February": ({}, {"schedule": "0 0 29 2 *"}),
    "no schedule": ({}, {"schedule": None}),
    "an owner's link": ({}, {"owner_links": {"airflow": "https://x/" + "a" * 490}}),
}
