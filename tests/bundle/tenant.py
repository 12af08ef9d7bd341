"""One tenant of a test's own, with one DAG: written to Consul, looked at through Airflow's API, run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from demo.wait import until

from .machines import SOON, WORKERS, Deployment

DRAINING = "draining"


class Tenant:
    """A tenant with the one DAG `<name>__job`.

    Args:
        deployment: where it is to run.
        name: its id.
        gated: its runs wait between their two tasks until they are told to go on.
    """

    def __init__(self, deployment: Deployment, name: str, *, gated: bool = False, builder: str = "Job") -> None:
        self.deployment = deployment
        self.name = name
        self.dag_id = f"{name}__{builder.lower()}"
        self.gated = gated
        self.builder = builder
        self._has_pool = False

    def write(self, **config: Any) -> None:
        """Write its document; the pool that its tasks wait for is made before."""
        if self.gated and not self._has_pool:
            self.deployment.gate(self.name, is_open=True)
            self._has_pool = True
        config = {"results": str(self.deployment.results), "gated": self.gated, **config}
        self.deployment.cluster.put(f"tenants/{self.name}", {"dags": {self.builder: config}})

    def become(self, **config: Any) -> None:
        """Write its document, and wait until Airflow shows a DAG that was built with it."""
        self.write(**config)
        until(lambda: self.shows(**config), f"{self.dag_id} shows {config}", seconds=SOON, every=0.1)

    def delete(self) -> None:
        """Remove its document."""
        self.deployment.cluster.delete(f"tenants/{self.name}")

    def disable(self) -> None:
        """Switch it off by its own document: that is no accident, and nothing holds it."""
        self.deployment.cluster.put(f"tenants/{self.name}", {"enabled": False})

    def shows(self, **config: Any) -> bool:
        """Tell whether Airflow shows an active DAG that was built with these values."""
        shown = self.shown()
        assert shown is not None, f"{self.dag_id} is not there"
        assert {name: shown.get(name) for name in config} == config, shown
        return DRAINING not in self.tags()

    def shown(self) -> dict[str, Any] | None:
        """Return what the DAG's page says that it was built with; None if there is no active DAG."""
        if self.dag_id not in self.deployment.api.dags():
            return None
        page = str(self.deployment.api.dag(self.dag_id)["doc_md"])
        return dict(yaml.safe_load(page.split("```yaml")[1].split("```", maxsplit=1)[0]))

    def tags(self) -> set[str]:
        """Return the tags of the active DAG."""
        return {tag["name"] for tag in self.deployment.api.dags().get(self.dag_id, {}).get("tags", ())}

    def drains(self) -> bool:
        """Tell whether the DAG is there and has no new runs."""
        return DRAINING in self.tags()

    def is_gone(self) -> bool:
        """Tell whether Airflow shows no such DAG."""
        return self.dag_id not in self.deployment.api.dags()

    def start(self) -> str:
        """Start a run; where the tenant is gated, return when it stands between its two tasks."""
        if self.gated:
            self.deployment.gate(self.name, is_open=False)
        run = self.deployment.api.trigger(self.dag_id)
        if self.gated:
            until(lambda: self.states(run).get("before") == "success", f"{run} has begun", seconds=SOON)
        return run

    def finish(self, run: str) -> dict[str, dict[str, Any]]:
        """Let a run go on, wait for its good end, and return what its tasks have noted."""
        if self.gated:
            self.deployment.gate(self.name, is_open=True)
        api = self.deployment.api
        until(lambda: api.run(self.dag_id, run)["state"] in {"success", "failed"}, f"{run} has ended", seconds=SOON)
        assert api.run(self.dag_id, run)["state"] == "success", self.states(run)
        return self.deployment.noted(self.dag_id, run)

    def has_code(self, word: str) -> bool:
        """Tell whether the active DAG was built by that version of the builder's code."""
        return f"code-{word}" in self.tags()

    def states(self, run: str) -> dict[str, str | None]:
        """Return the states of a run's tasks."""
        return self.deployment.api.task_states(self.dag_id, run)

    @contextmanager
    def between_two_tasks(self, *, then_on: str) -> Iterator[str]:
        """Hold a run between its two tasks while the body lasts; then it has to end as it began.

        Args:
            then_on: "same" or "other": the worker that has to run the second task.
        """
        run = self.start()
        before = self.deployment.noted(self.dag_id, run)["before"]
        yield run
        idle = next(each for each in WORKERS if (each == before["worker"]) == (then_on == "other"))
        with self.deployment.frozen(idle):
            after = self.finish(run)["after"]
        assert (after["worker"] == before["worker"]) == (then_on == "same")
        told = ("limit", "parser", "code")
        assert [after.get(each) for each in told] == [before.get(each) for each in told]


def flag(*, off_for: tuple[str, ...] = (), on: bool = True) -> dict[str, Any]:
    """Return a flag's document that is on, but for some tenants."""
    rule = {"if": [{"in": [{"var": "tenant"}, list(off_for)]}, "off", "on"]}
    return {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "on" if on else "off",
        **({"targeting": rule} if off_for else {}),
    }
