"""Which of Airflow's settings slow bundle mode or break it, and what to set instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple


class _Rule(NamedTuple):
    section: str
    option: str
    is_good: Callable[[str], bool]
    wanted: str
    why: str


_RULES = (
    _Rule(
        "core",
        "min_serialized_dag_update_interval",
        lambda value: float(value) == 0,
        "0",
        "a second change of a DAG within that time is lost: a run would mix new code with an old structure",
    ),
    _Rule(
        "dag_processor",
        "file_parsing_sort_mode",
        lambda value: value == "modified_time",
        "modified_time",
        "a changed file waits for min_file_process_interval in every other mode",
    ),
    _Rule(
        "dag_processor",
        "bundle_refresh_check_interval",
        lambda value: float(value) <= 1,
        "0",
        "the bundle is looked at no more often than that, in seconds",
    ),
    _Rule(
        "dag_processor",
        "min_file_process_interval",
        lambda value: float(value) >= 600,
        "3600",
        "files that have not changed are parsed again after that many seconds, for nothing",
    ),
    _Rule(
        "dag_processor",
        "disable_bundle_versioning",
        lambda value: value.lower() in ("false", "f", "0"),
        "False",
        "runs are not pinned to the configuration that they began with",
    ),
)


def advise(refresh_interval: float) -> Iterator[str]:
    """Yield a line for each setting that should be another one.

    Args:
        refresh_interval: of the bundle, in seconds.
    """
    from airflow.configuration import conf

    for rule in _RULES:
        value = str(conf.get(rule.section, rule.option, fallback=rule.wanted))
        try:
            good = rule.is_good(value)
        except ValueError:
            good = False
        if not good:
            name = f"AIRFLOW__{rule.section}__{rule.option}".upper()
            yield f"[{rule.section}] {rule.option} is {value}: {rule.why}. Set {name}={rule.wanted}"
    if refresh_interval > 1:
        yield (
            f"the bundle's refresh_interval is {refresh_interval:g} s, and changes wait for it: set "
            '"refresh_interval": 0 among its kwargs in [dag_processor] dag_bundle_config_list'
        )
