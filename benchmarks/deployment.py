"""Tenants in a real Consul, their builders, and the ways in which a processor can be made to read them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dagfactory_consul.stores import open_store
from dagfactory_consul.stores.base import Store
from demo.consul import ConsulAgent

from .database import Database, PostgresServer, Sqlite
from .processor import BUNDLE, DEFAULTS, PATIENT, Bundle, Processor
from .workload import LOOP, documents

WAVES = 5
"""Of so many tenants one is in the wave that a flag is turned for."""

FLAGS = ("daily-format", "weekly-format")
"""The flags that shape DAGs: each of them one of a tenant's two."""

BUILDERS = '''
from airflow.providers.standard.operators.bash import BashOperator
from dagfactory_consul import DagBuilder, DagConfig, builder


class ReportConfig(DagConfig):
    command: str


class Report(DagBuilder[ReportConfig]):
    """A report for a client."""

    def tasks(self) -> None:
        (format_,) = self.flags.values()
        command = f"{self.config.command} --format {format_}"
        first, second, third = (
            BashOperator(task_id=task, bash_command=f"{command} {task}") for task in ("fetch", "make", "send")
        )
        first >> second >> third


@builder("Daily", flag="daily", flags={"daily-format": "plain"})
class Daily(Report): ...


@builder("Weekly", flag="weekly", flags={"weekly-format": "plain"})
class Weekly(Report): ...
'''

FAST_LOADER = {
    **DEFAULTS,
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "0",
    "AIRFLOW__DAGFACTORY_CONSUL__TTL": "0",
}
"""The plain loader as fast as settings make it: it parses all the time."""


@dataclass(frozen=True)
class Deployment:
    """A folder, and a Consul with the tenants in it."""

    folder: Path
    agent: ConsulAgent
    store: Store
    tenants: Mapping[str, dict[str, object]]
    new_database: Callable[[Path], Database]

    @property
    def wave(self) -> list[str]:
        """The tenants whose DAGs `put_format` changes."""
        return list(self.tenants)[::WAVES]

    def put(self, tenant: str, command: str | None = None) -> None:
        """Write one tenant's document, with another command of its daily report if given."""
        document = json.loads(json.dumps(self.tenants[tenant]))
        if command is not None:
            document["dags"]["Daily"]["command"] = command
        self.store.put(f"tenants/{tenant}", json.dumps(document).encode())

    def put_format(self, value: str, flags: Sequence[str]) -> None:
        """Turn flags, at once, for the tenants in the wave."""
        flag = {
            "state": "ENABLED",
            "variants": {"plain": "plain", "other": value},
            "defaultVariant": "plain",
            "targeting": {"if": [{"==": [{"var": "wave"}, 0]}, "other", "plain"]},
        }
        self.store.put_many([(f"flags/{each}", json.dumps(flag).encode()) for each in flags])

    def bundle(self, name: str, *, url: str | None = None) -> Processor:
        """Return a processor with the bundle, which reads from `url` instead of Consul itself if given."""
        return self.processor(name, {"tenants": self.tenants_bundle(url)}, BUNDLE)

    def loader(self, name: str, settings: Mapping[str, str]) -> Processor:
        """Return a processor with the plain loader in a DAG file."""
        ours = {
            "AIRFLOW__DAGFACTORY_CONSUL__STORE": self.agent.url,
            "AIRFLOW__DAGFACTORY_CONSUL__BUILDERS": str(self.folder / "builders"),
        }
        text = "# An Airflow DAG file\nfrom dagfactory_consul import load_dags\n\nload_dags(globals())\n"
        return self.processor(name, {"tenants": self.local_bundle(name, text)}, {**settings, **ours})

    def plain(self, name: str, *tenants: str) -> Processor:
        """Return a processor with one plain file that makes the same DAGs in a loop, of all tenants or of these."""
        return self.processor(name, {"plain": self.plain_bundle(name, *tenants)}, {**BUNDLE, **PATIENT})

    def tenants_bundle(self, url: str | None = None) -> Bundle:
        """Describe the bundle."""
        kwargs = {"refresh_interval": 0, "store": url or self.agent.url, "builders": str(self.folder / "builders")}
        return "dagfactory_consul.bundle.ConsulDagBundle", kwargs

    def plain_bundle(self, name: str, *tenants: str) -> Bundle:
        """Describe a local bundle of one plain file, which does not know `get_parsing_context`."""
        data = self.folder / f"{name}.json"
        data.write_text(json.dumps({each: self.tenants[each] for each in tenants or self.tenants}))
        return self.local_bundle(name, LOOP.format(tenants=str(data), imports="", skip=""))

    def local_bundle(self, name: str, text: str) -> Bundle:
        """Describe a local bundle of one file."""
        dags = self.folder / name / "dags"
        dags.mkdir(parents=True)
        (dags / "dags.py").write_text(text)
        return "airflow.dag_processing.bundles.local.LocalDagBundle", {"path": str(dags)}

    def processor(
        self, name: str, bundles: Mapping[str, Bundle], settings: Mapping[str, str], others: Sequence[str] = ()
    ) -> Processor:
        """Return a processor in a folder of that name, with an empty database."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        return Processor(home, self.new_database(home), bundles, settings, others)


@contextmanager
def deployment(tenants: int, kind: str) -> Iterator[Deployment]:
    """Give a deployment of so many tenants, whose processors work on one kind of database."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        agent = stack.enter_context(ConsulAgent())
        server = stack.enter_context(PostgresServer()) if kind == "postgres" else None
        content = _documents(tenants)
        (folder / "builders").mkdir()
        (folder / "builders" / "report.py").write_text(BUILDERS)
        store = open_store(agent.url, timeout=30)
        items = [(f"tenants/{name}", json.dumps(each).encode()) for name, each in content.items()]
        store.put_many([*items, ("_ready", b"")])
        yield Deployment(folder, agent, store, content, lambda home: server.database() if server else Sqlite(home))


def _documents(count: int) -> dict[str, dict[str, object]]:
    found = documents(count)
    for number, document in enumerate(found.values()):
        document["attributes"] = {**document["attributes"], "wave": number % WAVES}  # type: ignore[dict-item]
    return found
