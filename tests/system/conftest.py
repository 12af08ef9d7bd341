"""The site that all tests here share; each finds it well and leaves it well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.consul import ConsulAgent
from demo.wait import until
from tests.bundle.postgres import Postgres

from .site import SOON, Site


@pytest.fixture(scope="session")
def shared_site(consul_agent: ConsulAgent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An Airflow with two bundles and the plain loader, all on good documents."""
    with Postgres() as postgres, Site(tmp_path_factory.mktemp("site"), consul_agent, postgres) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The site while nobody's DAG vanishes, drains or changes but those of the tenants that take part."""
    for place in shared_site.places:
        until(place.is_well, "nothing is wrong", seconds=SOON)
    with shared_site.watch() as watch:
        yield shared_site
        assert shared_site.goes_on()
    assert watch.looks
    assert watch.seen == []
