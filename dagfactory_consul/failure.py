"""Failures: what Airflow's log and import errors say of refreshes that fail before anything is deployed here.

Airflow logs a traceback for each refresh that raises, about once a second, and shows nothing in its UI.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

from .errors import DagFactoryError, NotYetError
from .import_errors import PROBLEMS

log = logging.getLogger(__name__)


class Shown(Protocol):
    """What Airflow's database says, and is told (see `occupancy`)."""

    def has_dags(self, bundle: str) -> bool: ...
    def import_errors(self, bundle: str) -> Mapping[str, str]: ...
    def show_import_error(self, bundle: str, file: str, text: str) -> None: ...
    def forget_import_errors(self, bundle: str, files: list[str]) -> None: ...


class Failure:
    """Tells of a bundle's refreshes that fail: once in the log, and among Airflow's import errors.

    The import error is written for the file of problems, which replaces it by its own as soon as there is such a file.

    Args:
        bundle: the bundle's name.
        shown: Airflow's database.
        clock: seconds, from any moment on.
    """

    AGAIN: ClassVar[float] = 600.0
    """Seconds after which the same failure is logged again."""
    INTERVAL: ClassVar[float] = 10.0
    """Seconds between two looks whether Airflow shows it: other processes remove what they do not know."""

    def __init__(self, bundle: str, shown: Shown, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.bundle = bundle
        self.clock = clock
        self._shown = shown
        self._logged: dict[str, float] = {}
        self._text = ""
        """The import error that Airflow has been given; empty if it was given none."""
        self._looked = float("-inf")

    def tell(self, error: Exception) -> bool:
        """Tell of a refresh that failed; say whether Airflow may take it for a refresh without a change.

        It may not while its list has DAGs of the bundle: after its first refresh it would miss their files here, and
        take them off the list.
        """
        text = str(error) if isinstance(error, DagFactoryError) else f"{type(error).__name__}: {error}"
        self._log(text, error)
        try:
            if not isinstance(error, NotYetError):
                self._show(f"no DAG of this bundle can be read, or brought up to date: {text}")
            return not self._shown.has_dags(self.bundle)
        except Exception as second:  # noqa: BLE001  # whatever the database says: the log has the failure
            self._log(f"the failure cannot be shown among Airflow's import errors: {second}", error=None)
            return False

    def end(self) -> None:
        """Take back what Airflow was given, after a refresh that did not fail."""
        if not self._text:
            return
        try:
            self._shown.forget_import_errors(self.bundle, [PROBLEMS])
        except Exception as error:  # noqa: BLE001  # it is tried again with the next refresh
            self._log(f"an import error that is over cannot be removed: {error}", error=None)
        else:
            self._text = ""

    def _log(self, text: str, error: Exception | None) -> None:
        now = self.clock()
        if now - self._logged.get(text, float("-inf")) < self.AGAIN:
            return
        self._logged = {each: at for each, at in self._logged.items() if now - at < self.AGAIN}
        self._logged[text] = now
        if isinstance(error, NotYetError):
            log.info("%s", text)
        else:
            # A fault that nobody has thought of is found by its traceback alone.
            log.error("%s", text, exc_info=error if error and not isinstance(error, DagFactoryError) else None)

    def _show(self, text: str) -> None:
        now = self.clock()
        if text == self._text and now - self._looked < self.INTERVAL:
            return
        self._looked = now
        if self._shown.import_errors(self.bundle).get(PROBLEMS) != text:
            self._shown.show_import_error(self.bundle, PROBLEMS, text)
        self._text = text
