"""Cron expressions, kept: Airflow's processor reads and describes that of each DAG about ten times a parse.

It makes the DAG's timetable anew wherever it asks for it. Each time croniter reads the expression, and cron-descriptor
its translations from the disk: together a third of what the processor's one thread spends on a DAG (Airflow 3.3.2,
croniter 7.0.0, cron-descriptor 2.2.1). An expression in a timezone comes out alike each time.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from datetime import tzinfo
from typing import Any

KEPT = 1024
"""How many expressions are kept."""


def keep() -> None:
    """Have this process, and those forked from it, work out each expression once.

    This replaces the constructor of a mixin in a private module of Airflow: in Airflow's own timetables the new one
    copies what it has made before. Where another Airflow makes something else there nothing is changed, and a DAG
    costs what it would.
    """
    from airflow.timetables import _cron

    mixin: Any = getattr(_cron, "CronMixin", None)
    make = getattr(mixin, "__init__", None)
    if not inspect.isfunction(make) or hasattr(make, "__wrapped__"):  # it is gone, or replaced already
        return
    if list(inspect.signature(make).parameters) != ["self", "cron", "timezone"]:
        return

    @functools.lru_cache(KEPT)
    def made(cron: Any, timezone: Any) -> dict[str, Any] | None:
        """Return what the constructor sets; None where timetables may not have it in common."""
        blank = object.__new__(mixin)
        make(blank, cron, timezone)
        return vars(blank) if all(isinstance(each, str | tzinfo) for each in vars(blank).values()) else None

    @functools.wraps(make)
    def copy(self: Any, cron: Any, timezone: Any) -> None:
        values = None
        if type(self).__module__.startswith("airflow.timetables."):  # others may make something else of it
            with contextlib.suppress(TypeError):  # what cannot be a key
                values = made(cron, timezone)
        if values is None:
            make(self, cron, timezone)
        else:
            vars(self).update(values)

    mixin.__init__ = copy
