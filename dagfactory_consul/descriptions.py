"""Descriptions of cron expressions, kept: Airflow's processor asks for that of each DAG about five times a parse.

Each time cron-descriptor reads its translations from the disk, which is a quarter of what the processor's one thread
spends on a DAG (Airflow 3.3.2, cron-descriptor 2.2.1). An expression is described alike each time.
"""

from __future__ import annotations

import functools

KEPT = 1024
"""Of so many expressions the descriptions are kept."""
_NAME = "ExpressionDescriptor"


def keep() -> None:
    """Have this process, and those forked from it, work out each description once.

    This replaces a name in a private module of Airflow. Where another Airflow does not have that name nothing is
    changed, and a DAG costs what it would.
    """
    from airflow.timetables import _cron

    if isinstance(descriptor := vars(_cron).get(_NAME), type):  # else it is gone, or replaced already
        setattr(_cron, _NAME, functools.lru_cache(KEPT)(descriptor))
