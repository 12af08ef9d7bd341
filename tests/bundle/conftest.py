"""One deployment for all tests here: three Consul servers, Postgres, two workers and two processors, on own disks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.wait import until

from .cluster import Cluster
from .machines import SOON, Deployment
from .postgres import Postgres
from .tenant import Tenant
from .watch import Watch

NEIGHBOURS = [f"neighbour-{number}" for number in range(12)]
"""Tenants that no test touches unless it says so. Most of them share a file with others."""


@pytest.fixture(scope="session")
def cluster(consul_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three Consul servers that let nobody in without a token."""
    with Cluster(tmp_path_factory.mktemp("cluster"), consul_program) as started:
        yield started


@pytest.fixture(scope="session")
def shared_deployment(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The Airflow that all tests here share, with the neighbours' DAGs."""
    folder = tmp_path_factory.mktemp("deployment")
    with Postgres() as postgres:
        deployment = Deployment(folder, cluster, postgres, bundle={"own_files": 4, "shards": 2})
        for name in NEIGHBOURS:
            Tenant(deployment, name).write(limit=1)
        with deployment:
            yield deployment


@pytest.fixture
def deployment(shared_deployment: Deployment) -> Iterator[Deployment]:
    """The deployment, as every test finds it: what a test has written or broken is put back when it is over."""
    _is_well(shared_deployment)
    documents = shared_deployment.cluster.documents()
    yield shared_deployment
    shared_deployment.heal(documents)
    _is_well(shared_deployment)


@pytest.fixture
def neighbours(deployment: Deployment) -> list[Tenant]:
    """The tenants that the test shares the deployment with."""
    return [Tenant(deployment, name) for name in NEIGHBOURS]


@pytest.fixture(autouse=True)
def watch(deployment: Deployment, neighbours: list[Tenant]) -> Iterator[Watch]:
    """Nothing that a test does to its own tenants may be seen by their neighbours."""
    with Watch(deployment.database, [each.dag_id for each in neighbours]) as watching:
        yield watching
    assert watching.looks
    assert watching.seen == [], "\n".join(deployment.last_difference(dag_id) for dag_id in watching.changed)


@pytest.fixture
def tenant(deployment: Deployment, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    """A tenant of the test's own, whose runs wait between two tasks."""
    yield from _waiting_for_nobody_in_the_end(Tenant(deployment, _name(request), gated=True))


@pytest.fixture
def pair(deployment: Deployment, tenant: Tenant) -> Iterator[list[Tenant]]:
    """Two such tenants."""
    for second in _waiting_for_nobody_in_the_end(Tenant(deployment, f"{tenant.name}-2", gated=True)):
        yield [tenant, second]


@pytest.fixture
def other(deployment: Deployment, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    """A tenant of the builder whose code tests change."""
    yield from _waiting_for_nobody_in_the_end(
        Tenant(deployment, f"{_name(request)}-other", gated=True, builder="Other")
    )


@pytest.fixture
def other_pair(deployment: Deployment, other: Tenant) -> Iterator[list[Tenant]]:
    """Two such tenants."""
    for second in _waiting_for_nobody_in_the_end(Tenant(deployment, f"{other.name}-2", gated=True, builder="Other")):
        yield [other, second]


def _name(request: pytest.FixtureRequest) -> str:
    return f"tenant-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"


def _waiting_for_nobody_in_the_end(tenant: Tenant) -> Iterator[Tenant]:
    yield tenant
    tenant.deployment.gate(tenant.name, is_open=True)


def _is_well(deployment: Deployment) -> None:
    deployment.check_running()
    dag_ids = {Tenant(deployment, name).dag_id for name in NEIGHBOURS}
    until(lambda: dag_ids <= deployment.api.dags().keys(), "the neighbours' DAGs are there", seconds=SOON)

    def nothing_is_wrong() -> bool:
        assert not (shown := deployment.problems()), shown
        return True

    until(nothing_is_wrong, "nothing is wrong", seconds=SOON)
