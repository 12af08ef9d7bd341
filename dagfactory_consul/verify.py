"""Whether Airflow will take a DAG. One that it does not take would cost its whole file, and with it every tenant."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .errors import BuildError

if TYPE_CHECKING:
    from airflow.sdk import DAG


def verify(dag: DAG) -> None:
    """Do what Airflow's processor will: validate the DAG, find cycles, apply the cluster's policies, serialise it.

    The policies may change the DAG: give it one that is thrown away.

    Raises:
        BuildError: Airflow would not take it; the message is Airflow's.
    """
    from airflow.dag_processing.dagbag import DagBag
    from airflow.exceptions import AirflowClusterPolicySkipDag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = DagBag(dag_folder=os.devnull, collect_dags=False)
    try:
        dag.validate()  # type: ignore[no-untyped-call]
        bag.bag_dag(dag)
        DagSerialization.to_dict(dag)
    except AirflowClusterPolicySkipDag:
        return  # the cluster's policy leaves it out, without an error
    except Exception as error:  # Airflow's processor catches no less there
        raise BuildError(f"Airflow does not take this DAG: {type(error).__name__}: {error}") from error
