"""One of fsspec's filesystems: opened at its first use, asked within a time-out, with our errors for its own."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from importlib.util import find_spec
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..errors import SettingsError, StoreDenied, StoreError, StoreRejected, StoreUnreachable
from ..problems import printable

T = TypeVar("T")

MOST_OVERDUE = 4
"""How many threads may wait for an answer that is overdue: who asks on while none comes would pile them up."""
SHOWN = 200
"""How many characters of a driver's error an error shows."""


class Filesystem:
    """The filesystem that a URL names, and the path on it.

    The credentials are the environment's own, as the driver finds them, or an Airflow connection's, whose id then
    stands before the bucket: `s3://aws_default@bucket/folder`. It is fsspec's own filesystem and not Airflow's
    ObjectStoragePath, which takes one object at a time, keeps its filesystems across a fork, where most of them do not
    work, and passes over a connection that cannot be had.

    Args:
        url: of the folder, without credentials.
        timeout: seconds for one answer.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        parts = urlsplit(url)
        self.url = url
        self.timeout = timeout
        self.scheme = parts.scheme
        self.conn_id, _, bucket = parts.netloc.rpartition("@")
        self._place = f"{parts.scheme}://{bucket}{parts.path}"
        self._opened: Any = None
        self._root = ""
        self._process = 0
        self._overdue: list[threading.Thread] = []

    def ask(self, act: Callable[[Any, str], T]) -> T:
        """Have something done with the filesystem and the folder's path on it.

        It is done in a thread of its own, since few drivers can be told how long they may take in all.

        Raises:
            StoreUnreachable: there is no answer in time, or an error; what was to be done may have been done.
            StoreDenied: the credentials do not allow it.
            StoreRejected: a driver is missing, or broken.
        """
        # The one place where the drivers' errors become ours.
        try:
            self._open()
            return self._in_time(act)
        except StoreError:
            raise
        except PermissionError as exc:
            raise StoreDenied(_said(exc), store=self.url) from exc
        except TimeoutError as exc:
            raise StoreUnreachable(f"did not answer within {self.timeout:g} s", store=self.url) from exc
        except ImportError as exc:
            raise StoreRejected(_said(exc), store=self.url) from exc
        except Exception as exc:
            # Each driver has errors of its own; whatever they are, they are no answer.
            raise StoreUnreachable(_said(exc), store=self.url) from exc

    def close(self) -> None:
        """Let go of it. Its connections are fsspec's, which keeps one filesystem for all that ask for the same."""
        self._opened = None

    def _in_time(self, act: Callable[[Any, str], T]) -> T:
        answer: Future[T] = Future()
        opened, root = self._opened, self._root

        def run() -> None:
            try:
                answer.set_result(act(opened, root))
            except BaseException as exc:  # noqa: BLE001  # who waits for the answer raises it
                answer.set_exception(exc)

        self._overdue = [thread for thread in self._overdue if thread.is_alive()]
        if len(self._overdue) >= MOST_OVERDUE:
            raise StoreUnreachable(f"has left {MOST_OVERDUE} requests without an answer", store=self.url)
        thread = threading.Thread(target=run, name=f"ask {self.scheme}", daemon=True)
        thread.start()
        try:
            return answer.result(self.timeout)
        except TimeoutError:
            if not answer.done():  # else it is the driver's own
                self._overdue.append(thread)
            raise

    def _open(self) -> None:
        """Have the filesystem, made at the first use in this process: most of them do not work after a fork."""
        if self._opened is None or self._process != os.getpid():
            opened = self._of_airflow() if self.conn_id else self._of_environment()
            # Public nowhere, and every driver's way to tell a path from its URL.
            self._root = opened._strip_protocol(self._place).rstrip("/")  # noqa: SLF001
            self._opened, self._process, self._overdue = opened, os.getpid(), []

    def _of_environment(self) -> Any:
        from fsspec.core import url_to_fs

        return url_to_fs(self._place)[0]

    def _of_airflow(self) -> Any:
        from airflow.sdk.io import get_fs, has_fs

        if not has_fs(self.scheme):
            raise ImportError(
                f"no Airflow provider for {self.scheme}:// is installed, which a connection's id before the bucket "
                "needs: apache-airflow-providers-amazon[s3fs], -google or -microsoft-azure"
            )
        return get_fs(self.scheme, self.conn_id)


def is_known(scheme: str) -> bool:
    """Return whether fsspec has a filesystem for it. A Consul's http:// address is no place for objects."""
    from fsspec import available_protocols

    return scheme in available_protocols() and scheme not in {"http", "https"}


def require_driver(scheme: str) -> None:
    """Refuse a scheme whose driver is not installed, without importing it.

    Raises:
        SettingsError: says what to install.
    """
    from fsspec.registry import known_implementations

    known = known_implementations.get(scheme, {})
    if known and find_spec(known["class"].partition(".")[0]) is None:
        raise SettingsError(f"{scheme}:// cannot be opened: {known.get('err', 'its driver is not installed')}")


def _said(exc: BaseException) -> str:
    """Return what a driver said, on one line, and without what stands in a URL after its path: signatures do."""
    text = re.sub(r"(://[^?#\s]*)[?#]\S*", r"\1?…", " ".join(str(exc).split()))
    return f"{type(exc).__name__}: {printable(text, SHOWN) or 'no reason given'}"
