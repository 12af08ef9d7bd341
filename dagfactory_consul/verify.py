"""Whether Airflow will take a DAG. One that it does not take can cost its whole file, or end Airflow's processes."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from .errors import BuildError, near_miss

if TYPE_CHECKING:
    from airflow.sdk import DAG
    from pydantic import BaseModel

    from .spec import DagSpec

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""NUL as JSON writes it, and not a backslash that is followed by these letters."""


def verify_spec(dag: DAG, spec: DagSpec, model: type[BaseModel], *, pools: Collection[str] | None = None) -> None:
    """Verify a DAG that was built from a spec: no text of a document is the name of a file, and Airflow will take it.

    Args:
        dag: just built from the spec.
        spec: what the documents and flags say.
        model: of the builder's configuration.
        pools: as in `verify`.

    Raises:
        BuildError: an operator would load a file that a document names, or render what joined texts of it make; and
            as in `verify`.
    """
    from .template_files import explain, explain_joined

    # First, for Airflow loads the files as it takes the DAG.
    if reason := explain(dag, spec, model) or explain_joined(dag, spec, model):
        raise BuildError(reason)
    verify(dag, pools=pools)


def verify(dag: DAG, *, pools: Collection[str] | None = None) -> None:
    """Do what Airflow will: validate the DAG, find cycles, apply policies, serialise it, send, write and schedule it.

    The policies may change the DAG: give it one that is thrown away.

    Args:
        dag: built.
        pools: the names of all of Airflow's pools; None where they are not known, then nothing is said of them.

    Raises:
        BuildError: Airflow would not take it; the message is Airflow's, or names the value that it cannot hold.
    """
    from airflow.dag_processing.dagbag import DagBag
    from airflow.exceptions import AirflowClusterPolicySkipDag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = DagBag(dag_folder=os.devnull, collect_dags=False)
    try:
        dag.validate()  # type: ignore[no-untyped-call]
        bag.bag_dag(dag)
        data = DagSerialization.to_dict(dag)
        _check(dag, data)
        _check_pools(dag, pools)
    except AirflowClusterPolicySkipDag:
        return  # the cluster's policy leaves it out, without an error
    except BuildError:
        raise
    except Exception as error:  # Airflow's processor catches no less there
        raise BuildError(f"Airflow does not take this DAG: {type(error).__name__}: {error}") from error


def _check(dag: DAG, data: dict[str, Any]) -> None:
    """Check what Airflow does with a serialised DAG: a fault there ends a process, or is shown nowhere."""
    from .columns import unfit
    from .next_run import why_never

    for reason in (unfit(dag, data), _cannot_be_sent(data), why_never(dag, data)):
        if reason is not None:
            raise BuildError(f"Airflow cannot run this DAG: {reason}")


def _cannot_be_sent(data: dict[str, Any]) -> str | None:
    """Say why a parse's result would be lost on its way to the processor, with every DAG of its file, or not written.

    Parses send it by msgpack (`airflow.sdk.execution_time.comms`); Postgres' JSON takes no NUL.
    """
    import json

    import msgspec

    try:
        msgspec.msgpack.encode(data)
        if _NUL.search(json.dumps(data)):
            return "a text in it holds the character NUL, which no database takes"
    except OverflowError:
        return "a number in it takes more than 64 bits"
    except (RecursionError, TypeError, ValueError) as error:
        return f"it cannot be written as a message: {error}"
    return None


def _check_pools(dag: DAG, pools: Collection[str] | None) -> None:
    if pools is None:
        return
    for task in dag.tasks:
        if (pool := getattr(task, "pool", None)) not in pools:
            raise BuildError(
                f"there is no pool {pool!r} (task {task.task_id}){near_miss(str(pool), pools)}: its tasks would never "
                "start. Name another one, or have it made (`airflow pools set`)"
            )
