"""Which of Airflow's settings slow bundle mode or break it, and what to set instead."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108  # not used: warned of


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


def _of_storage() -> Iterator[str]:
    from airflow.dag_processing.bundles.base import get_bundle_storage_root_path

    path = get_bundle_storage_root_path()  # type: ignore[no-untyped-call]  # Airflow's own, untyped
    if any(path.resolve().is_relative_to(Path(folder).resolve()) for folder in {*_TEMPORARY, tempfile.gettempdir()}):
        yield (
            f"[dag_processor] dag_bundle_storage_path is {path}: below a folder for temporary files, which every user "
            "of the machine may fill, and systems tidy up. Set AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH to a "
            "folder of Airflow's user, /var/lib/airflow/bundles for example"
        )


def _of_key() -> Iterator[str]:
    from airflow.configuration import conf

    if not conf.get("core", "fernet_key", fallback=""):
        yield (
            "[core] fernet_key is empty, so what is deployed is not signed: whoever may write beside the prefix in the "
            "store may run code here. Set AIRFLOW__CORE__FERNET_KEY, the same for all components"
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
    yield from _of_storage()
    yield from _of_key()
    if refresh_interval > 1:
        yield (
            f"the bundle's refresh_interval is {refresh_interval:g} s, and changes wait for it: set "
            '"refresh_interval": 0 among its kwargs in [dag_processor] dag_bundle_config_list'
        )
