"""A refresh of 1,000 tenants from a real Consul, against a raw recursive read by httpx. Wall seconds, in one process.

First with a new connection for each, as a parse in its fresh process has it (`httpx.get`), then with both connections
held open. `unchanged` is a refresh that the index probe ends.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx

from dagfactory_consul.client import ConfigClient
from dagfactory_consul.stores import open_store
from demo.consul import ConsulAgent

from .workload import documents, ratios, report


def main(tenants: int, rounds: int) -> None:
    """Measure both in turn; before each refresh one document changes."""
    with tempfile.TemporaryDirectory() as folder, ConsulAgent() as agent:
        store = open_store(f"consul://{agent.address}", timeout=30)
        items = [(f"tenants/{name}", json.dumps(each).encode()) for name, each in documents(tenants).items()]
        store.put_many([*items, ("_ready", b"")])
        client = ConfigClient(lambda: store, Path(folder) / "state", timeout=30)
        _refresh(client)
        url = f"http://{agent.address}/v1/kv/dagfactory/?recurse=1&stale=1"
        with httpx.Client() as held:
            for connection, read in (("new", httpx.get), ("held", held.get)):
                ours, theirs, unchanged = [], [], []
                for number in range(rounds):
                    document = {"enabled": True, "attributes": {connection: number}}
                    store.put("tenants/client-00000", json.dumps(document).encode())
                    theirs.append(_measure(partial(_read, read, url)))
                    if connection == "new":
                        store.close()
                    ours.append(_measure(partial(_refresh, client)))
                    unchanged.append(_measure(partial(_refresh, client)))
                quiet = round(sorted(unchanged)[rounds // 2], 5)
                report("refresh", connection=connection, tenants=tenants, **ratios(ours, theirs), unchanged=quiet)


def _read(get: Callable[[str], httpx.Response], url: str) -> None:
    get(url).json()


def _refresh(client: ConfigClient) -> None:
    with client.turn(forced=True):
        client.refresh()


def _measure(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main(1000, rounds=15)
