"""One real Airflow on Postgres with three places that tenants' documents are kept in, each read in another way.

`consul` is read by the bundle, `folder` by a second bundle, and `loader`, a prefix of the same Consul, by the plain
loader, which has a DAG processor of its own since it wants other settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
import yaml

from demo.airflow import Airflow
from demo.consul import ConsulAgent
from demo.stack import LOCAL
from demo.wait import until
from tests.bundle.machines import FAST
from tests.bundle.postgres import Postgres
from tests.bundle.watch import Watch
from tests.proxy import Proxy

BUILDERS = Path(__file__).parent / "builders"
LOADER = Path(__file__).parents[2] / "dags" / "loader"
SOON = 60.0
"""Seconds within which a change shows. It takes one or two, and what is tried beside it may take its whole limit."""
NEIGHBOURS = 6
"""Tenants in each place that nobody touches."""
BUILD_TIMEOUT = 3


class Place:
    """Where one loader finds its documents, and what Airflow makes of them.

    Args:
        name: of the place, and of the bundle that brings its DAGs.
        site: that it belongs to.
        write: writes a document; None for its value removes it.
    """

    def __init__(self, name: str, site: Site, write: Callable[[str, bytes | None], None]) -> None:
        self.name = name
        self.write = write
        self.evil = f"{name}-evil"
        """The tenant whose documents mean harm."""
        self.near = f"{name}-near"
        """The tenant whose changes have to arrive all the while."""
        self.neighbours = [f"{name}-{number}__job" for number in range(NEIGHBOURS)]
        self._site = site
        self._limit = 1

    def begin(self) -> None:
        """Write a good document for each tenant."""
        for tenant in (self.evil, self.near, *(each.removesuffix("__job") for each in self.neighbours)):
            self.put(f"tenants/{tenant}", {"dags": {"Job": {"limit": 1}}})
        self.put("defaults", {})
        self.put("_ready", {})

    def put(self, key: str, value: Any) -> None:
        """Write a document as JSON, or bytes as they are."""
        self.write(key, value if isinstance(value, bytes) else json.dumps(value).encode())

    def change(self) -> None:
        """Change the one neighbour's document."""
        self._limit += 1
        self.put(f"tenants/{self.near}", {"dags": {"Job": {"limit": self._limit}}})

    def has_changed(self) -> bool:
        """Tell whether Airflow shows that neighbour's last change. Raises AssertionError with what it shows instead."""
        page = str(self._site.api.dag(f"{self.near}__job")["doc_md"])
        shown = yaml.safe_load(page.split("```yaml")[1].split("```", maxsplit=1)[0])
        assert shown["limit"] == self._limit, f"{self.name}: limit is {shown['limit']}, not {self._limit}"
        return True

    def problems(self) -> str:
        """Return what Airflow shows as this bundle's import errors."""
        return "\n".join(self._site.api.import_errors(bundle=self.name).values())

    def says(self, *words: str) -> bool:
        """Return that a problem has these words; else raise AssertionError with what Airflow shows."""
        shown = self.problems()
        assert all(word.lower() in shown.lower() for word in words), f"{self.name} shows {shown[:3000]!r}"
        return True

    def is_well(self) -> bool:
        """Return that nothing is wrong; else raise AssertionError with what Airflow shows."""
        assert not (shown := self.problems()), f"{self.name} shows {shown[:3000]!r}"
        return True

    def runs(self) -> bool:
        """Start a run of the neighbour that is changed, and tell whether it succeeds."""
        dag_id = f"{self.near}__job"
        run = self._site.api.trigger(dag_id)
        until(lambda: self._site.api.run(dag_id, run)["state"] in {"success", "failed"}, f"{run} ends", seconds=SOON)
        return str(self._site.api.run(dag_id, run)["state"]) == "success"


class Site:
    """The Airflow and its places. Used as a context, it ends all that it started.

    Args:
        folder: of its own.
        agent: a Consul that is running.
        postgres: started.
    """

    def __init__(self, folder: Path, agent: ConsulAgent, postgres: Postgres) -> None:
        self.folder = folder
        self.files = folder / "files"
        self.proxy = Proxy(("127.0.0.1", agent.port))
        """Stands between the bundle and Consul."""
        self.database = postgres.connect()
        self._http = httpx.Client(base_url=f"http://{agent.address}/v1/kv/", trust_env=False, timeout=10)
        self.consul = Place("consul", self, self._writes_kv("consul/"))
        self.loader = Place("loader", self, self._writes_kv("loader/"))
        self.store = Place("folder", self, self._write_file)
        self.places = (self.consul, self.loader, self.store)
        settings = self._settings(agent, postgres)
        self.front = Airflow(
            folder / "front",
            folder / "dags",
            {**settings, **FAST},
            components=("api-server", "scheduler", "dag-processor -B consul -B folder"),
        )
        shared = ("SECRET_KEY", "JWT_SECRET", "EXECUTION_API_SERVER_URL", "FERNET_KEY")
        secrets = {name: text for name, text in self.front.env.items() if name.endswith(shared)}
        components = ("dag-processor -B loader",)
        self.second = Airflow(folder / "second", folder / "dags", {**settings, **secrets}, components=components)
        self.api = self.front.api

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.second.stop()
        self.front.stop()
        self.proxy.close()
        self._http.close()
        self.database.dispose()

    def goes_on(self) -> bool:
        """Return that every process of Airflow's does; else raise RuntimeError with the end of its log."""
        self.front.check_running()
        self.second.check_running()
        return True

    def watch(self) -> Watch:
        """Return a watch on the DAGs that nobody touches."""
        return Watch(self.database, [dag_id for place in self.places for dag_id in place.neighbours])

    def is_shown(self, *dag_ids: str) -> bool:
        """Return that Airflow shows these DAGs; else raise AssertionError with those that it does not."""
        missing = set(dag_ids) - self.api.dags().keys()
        assert not missing, f"not there: {sorted(missing)}"
        return True

    def _start(self) -> None:
        for place in self.places:
            place.begin()
        self.front.prepare()
        self.front.start()
        self.front.wait_healthy()
        self.second.start()
        wanted = [f"{tenant}__job" for place in self.places for tenant in (place.evil, place.near)]
        wanted += [dag_id for place in self.places for dag_id in place.neighbours]
        until(lambda: self.goes_on() and self.is_shown(*wanted), "all tenants' DAGs are there", seconds=120)

    def _settings(self, agent: ConsulAgent, postgres: Postgres) -> dict[str, str]:
        def bundle(place: Place, **more: Any) -> dict[str, Any]:
            kwargs = {"refresh_interval": 0, "deployment": place.name, **more}
            return {"name": place.name, "classpath": "dagfactory_consul.bundle.ConsulDagBundle", "kwargs": kwargs}

        home = self.folder
        bundles = [
            bundle(self.consul, store=self.proxy.url, prefix="consul/", state_dir=str(home / "state-consul")),
            bundle(self.store, store=str(self.files), state_dir=str(home / "state-folder")),
            {"name": "loader", "classpath": LOCAL, "kwargs": {"path": str(LOADER), "refresh_interval": 1}},
        ]
        connection = postgres.address
        own: Mapping[str, object] = {
            "STORE": agent.url,
            "PREFIX": "loader/",
            "STATE_DIR": home / "state-loader",
            "BUILDERS": BUILDERS,
            "BUILD_TIMEOUT": BUILD_TIMEOUT,
            "TTL": 1,
        }
        return {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{connection}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{connection}",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
            **{f"AIRFLOW__DAGFACTORY_CONSUL__{name}": str(value) for name, value in own.items()},
        }

    def _writes_kv(self, prefix: str) -> Callable[[str, bytes | None], None]:
        def write(key: str, value: bytes | None) -> None:
            path = prefix + quote(key)
            if value is None:
                self._http.delete(path).raise_for_status()
            else:
                self._http.put(path, content=value).raise_for_status()

        return write

    def _write_file(self, key: str, value: bytes | None) -> None:
        path = self.files / (key if key.startswith("_") else f"{key}.yaml")
        if value is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_bytes(value)
        os.replace(new, path)  # noqa: PTH105  # as an editor does it
