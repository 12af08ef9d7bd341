"""The bundle: Airflow's way to the tenants' DAGs, with every change versioned, checked, pinned and live in a moment."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion

from .errors import SettingsError
from .folders import own
from .runtime import PARSING_DAG_ID, PARSING_TASK_ID, SYS_PATH

if TYPE_CHECKING:
    from .codebase import Codebase
    from .failure import Failure
    from .processor import Processor
    from .settings import Settings

log = logging.getLogger(__name__)

_OF_AIRFLOW = ("name", "refresh_interval", "version", "view_url_template")
TRY_AGAIN = 15.0
"""Seconds after which a task starts again that found no history."""


class ConsulDagBundle(BaseDagBundle):
    """The DAGs of all tenants, from any store.

    In the DAG processor `refresh` brings the files below `path` to what the store says: a change is read, planned,
    checked in a child process, agreed on with the deployment's other processors, and only then published. In a worker
    `initialize` lays out the one DAG that is asked for, as it was in the version that its run is pinned to.

    Configured by `[dag_processor] dag_bundle_config_list`, and by the settings of `[dagfactory_consul]`:

        [{"name": "tenants", "classpath": "dagfactory_consul.bundle.ConsulDagBundle",
          "kwargs": {"refresh_interval": 0, "store": "consul://", "builders": "/opt/airflow/builders"}}]

    Args:
        conn_id: the Airflow connection to Consul, instead of `store`.
        code: the bundle that brings the builders' code, `{"classpath": …, "kwargs": {…}}`; folders of builders are then
            relative to it, and the version is `<its version>-<ours>`.
        kwargs: Airflow's own (`name`, `refresh_interval`, `version`), and any of the settings, over Airflow's
            configuration: `store`, `prefix`, `environment`, `builders`, `deployment`, `history`, `drain_time`, ….
    """

    supports_versioning = True
    FILES: ClassVar[str] = "dags"
    """The folder with the files of the present version, below the bundle's own."""

    def __init__(self, *, conn_id: str | None = None, code: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**{name: value for name, value in kwargs.items() if name in _OF_AIRFLOW})
        # They are looked at later: this object is made in the API server and the scheduler too.
        self._settings = {name: value for name, value in kwargs.items() if name not in _OF_AIRFLOW}
        if conn_id is not None:
            self._settings["store"] = f"consul://?conn_id={conn_id}"
        self._code = code
        self._path = self.base_dir / self.FILES

    @cached_property
    def settings(self) -> Settings:
        """The settings of this bundle. Raises SettingsError: one of them is unknown, or cannot be understood."""
        from .settings import Settings

        return Settings.read(**self._settings)

    @property
    def path(self) -> Path:
        """The folder with the files: of the present version, or of the one that was laid out by `initialize`.

        Some of Airflow's commands parse them without `initialize`: they find what the builders import, too.
        """
        if not self.is_initialized and self._has_files:
            with suppress(SettingsError, OSError):
                _extend_path(self._codebase.neighbours())
        return self._path

    @property
    def version(self) -> str | None:
        """The version that was asked for; None for the present one.

        For one of Airflow's commands it is the present one's name: a command writes what it has parsed into Airflow's
        database, with this version, and a run that begins afterwards is pinned to it.
        """
        return self._asked or (self._present() if _is_command() else None)

    @version.setter
    def version(self, asked: str | None) -> None:
        self._asked = asked

    def initialize(self) -> None:
        """Lay out what is asked for; in the DAG processor this is up to `refresh`.

        A task gets the one DAG that it needs. One of Airflow's commands parses all files, and writes into Airflow's
        database where it has found DAGs: it gets the files of this machine's DAG processor, or the same ones.

        Raises:
            AirflowRescheduleException: the history does not answer: the task starts again in a moment.
            VersionGoneError: the history has no such version any more.
            SettingsError: a setting cannot be understood.
            FolderError: the bundle's folder could be changed by another user.
        """
        own(self.base_dir)
        dag_id = os.environ.get(PARSING_DAG_ID)
        if self._asked is not None or (dag_id and not (_is_command() and self._has_files)):
            wanted = None if _is_command() else dag_id
            # What was laid out for another task of this DAG is found without a look at anything else.
            found = self.versions_dir / self._asked / wanted if self._asked is not None and wanted else None
            self._path = found if found is not None and found.exists() else self._lay_out(wanted)
            neighbours = (self._path / SYS_PATH).read_text().split("\n")
        else:
            self._path.mkdir(parents=True, exist_ok=True)
            neighbours = self._codebase.neighbours()
        _extend_path(neighbours)
        super().initialize()

    def refresh(self) -> None:
        """Bring the files to what the store says; what cannot be done within a moment is done by a later call.

        A failure is logged once, and shown among Airflow's import errors.

        Raises:
            Exception: nothing is deployed on this machine, and why, while Airflow's list has DAGs of this bundle.
                Airflow then keeps them.
        """
        try:
            self._processor.refresh()
        except Exception as error:
            if not self._failure.tell(error):
                raise
        else:
            self._failure.end()

    def get_current_version(self) -> BundleVersion | None:
        """Return the version that is in force on this machine; None if that is nothing yet."""
        version = self._asked or self._present()
        return BundleVersion(version) if version is not None else None

    def _present(self) -> str | None:
        if "_processor" in self.__dict__ and self._processor.version is not None:
            return self._processor.version
        from .head import Heads
        from .runtime import runtime_store

        applied = Heads(lambda: runtime_store(self.settings), self.settings.deployment_name, self._head_file).applied()
        return applied.version if applied is not None else None

    @property
    def _has_files(self) -> bool:
        """Whether the present files are on this machine: a DAG processor has written them here."""
        return (self._path / ".airflowignore").exists()

    def _lay_out(self, dag_id: str | None) -> Path:
        from airflow.sdk.exceptions import AirflowRescheduleException

        from .errors import StoreError, StoreRejected
        from .worker import Worker

        worker = Worker(self.name, self.base_dir, self.versions_dir, self.settings, self._codebase)
        try:
            version = self._asked or worker.current()
            folder = worker.lay_out(version, dag_id)
        except StoreRejected:
            raise  # it would be no other the next time
        except StoreError as error:
            log.warning("%s. The task starts again in %.0f s", error, TRY_AGAIN)
            later = datetime.now(UTC) + timedelta(seconds=TRY_AGAIN)
            raise AirflowRescheduleException(later) from error  # type: ignore[no-untyped-call]
        else:
            if dag_id is None:
                self._asked = version
            return folder
        finally:
            worker.close()

    @cached_property
    def _processor(self) -> Processor:
        from airflow.configuration import conf

        from . import cron, generated, occupancy  # noqa: F401  # the parses that are forked from here need it
        from .advice import advise
        from .processor import Processor
        from .quiet import hush

        for line in advise(self.refresh_interval):
            log.warning("%s", line)
        cron.keep()
        hush(self.name)
        return Processor(
            self.name,
            self.base_dir,
            self._path,
            self.settings,
            self._codebase,
            occupancy=occupancy,
            stale_after=conf.getint("dag_processor", "stale_dag_threshold"),
        )

    @cached_property
    def _failure(self) -> Failure:
        from . import occupancy
        from .failure import Failure

        return Failure(self.name, occupancy)

    @cached_property
    def _codebase(self) -> Codebase:
        from .codebase import Codebase

        return Codebase(self.settings.builders, self._code, name=self.name)

    @property
    def _head_file(self) -> Path:
        return self.base_dir / "head.json"


def _extend_path(folders: Iterable[str]) -> None:
    sys.path.extend(folder for folder in folders if folder and folder not in sys.path)


def _is_command() -> bool:
    """Say whether one of Airflow's commands parses DAGs here: it names a DAG, and no task that is about to start."""
    return bool(os.environ.get(PARSING_DAG_ID)) and not os.environ.get(PARSING_TASK_ID)
