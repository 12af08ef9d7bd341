"""A small client of Airflow's REST API: what the demonstration and its tests ask of a running Airflow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx

PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Seconds between one question and the same once more, while Airflow answers with an error of its own."""


class AirflowApi:
    """Speaks to one API server as one user. Raises AssertionError, with the answer, where Airflow refuses.

    The API server has a deadlock of its own on SQLite: it writes its audit log in its event loop, and waits there for
    the lock of another request's write, whose commit waits for the event loop. Tasks under way write through the same
    server, so several questions in a row can meet one. SQLite ends each after 5 s: one of the two writes is answered
    with 500, and nothing was done. So each question may be repeated, and is, with pauses in which the others finish.

    Args:
        url: of the server.
        user: by whom it is asked.
        password: of that user.
        transport: another one than HTTP.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str,
        password: str,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._login = {"username": user, "password": password}
        # No proxy stands before loopback.
        self._http = httpx.Client(base_url=url, timeout=15, trust_env=False, transport=transport)

    def healthy(self) -> dict[str, str | None]:
        """Return each component's status as Airflow sees it; empty while nobody answers."""
        try:
            answer = self._http.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return {}
        return {name: part.get("status") for name, part in answer.json().items()} if answer.is_success else {}

    def dags(self) -> dict[str, dict[str, Any]]:
        """Return the active DAGs by id: the stale ones are those that Airflow has retired."""
        listed = self._all("/api/v2/dags", "dags", exclude_stale=True)
        return {dag["dag_id"]: dag for dag in listed}

    def dag(self, dag_id: str) -> dict[str, Any]:
        """Return all that Airflow knows of one DAG, be it stale or not."""
        return self._ask("GET", f"/api/v2/dags/{dag_id}/details")

    def tasks(self, dag_id: str) -> dict[str, dict[str, Any]]:
        """Return the tasks of one DAG by id, as serialised."""
        return {task["task_id"]: task for task in self._ask("GET", f"/api/v2/dags/{dag_id}/tasks")["tasks"]}

    def import_errors(self, *, bundle: str | None = None) -> dict[str, str]:
        """Return the import errors, of one bundle or of all: file name to text."""
        found = self._all("/api/v2/importErrors", "import_errors")
        return {each["filename"]: each["stack_trace"] for each in found if bundle in (None, each["bundle_name"])}

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run, and return its id, which makes asking again safe."""
        run_id = f"demo__{uuid4().hex}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
        answer = self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        if answer.is_success or answer.status_code == httpx.codes.CONFLICT:
            return run_id
        raise AssertionError(f"{dag_id} cannot be started: {answer.status_code} {answer.text[:500]}")

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return one run; its `state` is queued, running, success or failed."""
        return self._ask("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of one DAG."""
        return self._all(f"/api/v2/dags/{dag_id}/dagRuns", "dag_runs")

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Return the state of each task of a run; None before it is scheduled."""
        listed = self._all(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances")
        return {task["task_id"]: task["state"] for task in listed}

    def log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the log of a task's first try."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1"
        content = self._ask("GET", path, params={"full_content": True})["content"]
        return "\n".join(line["event"] if isinstance(line, dict) else str(line) for line in content)

    def close(self) -> None:
        """Give back the connections."""
        self._http.close()

    def _all(self, path: str, name: str, **params: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._ask("GET", path, params={**params, "limit": 100, "offset": len(found)})
            found += page[name]
            if not page[name] or len(found) >= page["total_entries"]:
                return found

    def _ask(self, method: str, path: str, **rest: Any) -> dict[str, Any]:
        answer = self._send(method, path, **rest)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        found: dict[str, Any] = answer.json()
        return found

    def _send(self, method: str, path: str, **rest: Any) -> httpx.Response:
        """Ask, again and again while Airflow's database is locked, and return the answer, or the last error."""
        pauses = iter(PAUSES)
        while True:
            answer = self._once(method, path, **rest)
            pause = next(pauses, None)
            if answer.status_code != httpx.codes.INTERNAL_SERVER_ERROR or pause is None:
                return answer
            self._sleep(pause)

    def _once(self, method: str, path: str, **rest: Any) -> httpx.Response:
        try:
            if "Authorization" not in self._http.headers:
                self._log_in()
            return self._http.request(method, path, **rest)
        except httpx.TransportError as error:
            raise AssertionError(f"{method} {path}: Airflow does not answer: {error}") from error

    def _log_in(self) -> None:
        answer = self._http.post("/auth/token", json=self._login)
        assert answer.is_success, f"log-in: {answer.status_code} {answer.text[:500]}"
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
