"""Stores on a real Consul, through a proxy that misbehaves as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from dagfactory_consul.stores.consul import ConsulStore
from dagfactory_consul.stores.consul_settings import ConsulSettings, Secret
from demo.consul import ConsulAgent
from tests.proxy import Proxy

OpenConsul = Callable[..., ConsulStore]


@pytest.fixture
def proxy(consul_agent: ConsulAgent) -> Iterator[Proxy]:
    """A proxy before the Consul that lets everybody do everything."""
    with Proxy(("127.0.0.1", consul_agent.port)) as proxy:
        yield proxy


@pytest.fixture
def open_consul(consul_prefix: str) -> Iterator[OpenConsul]:
    """Open stores by port, with a token or none, and close them at the end."""
    opened: list[ConsulStore] = []

    def open_one(port: int, *, token: str = "", timeout: float = 2.0, **settings: object) -> ConsulStore:
        secret = Secret(token) if token else None
        fields = {"port": port, "token": secret, **settings}
        opened.append(ConsulStore(ConsulSettings(**fields), prefix=consul_prefix, timeout=timeout))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def direct(open_consul: OpenConsul, consul_agent: ConsulAgent) -> ConsulStore:
    """A store under this test's prefix that goes to Consul itself."""
    return open_consul(consul_agent.port)
