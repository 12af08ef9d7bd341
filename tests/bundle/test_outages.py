"""Whatever befalls Consul the DAGs stay, runs end, it is said what is wrong, and all goes on by itself afterwards.

That the neighbours' DAGs stay is what the `watch` fixture looks at, several times a second and in every test.
"""

from __future__ import annotations

import pytest

from demo.wait import never, until

from .cluster import PREFIX, Cluster
from .machines import BEYOND_TTLS, PROCESSORS, SOON, Deployment
from .tenant import Tenant, flag

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]


def test_consul_is_stopped(tenant: Tenant, cluster: Cluster) -> None:
    """Consul is away for longer than every TTL: a run ends on a worker that has seen its version."""
    tenant.become(limit=1)
    with tenant.between_two_tasks(then_on="same"):
        cluster.stop(cluster.agents)
        tenant.deployment.problem_about("consul")
        never(tenant.is_gone, "the DAG is gone", seconds=BEYOND_TTLS)
        tenant.deployment.problem_about("consul")
    cluster.start(cluster.agents)
    tenant.become(limit=2)


def test_consul_is_stopped_and_a_worker_has_never_seen_the_version(
    tenant: Tenant, deployment: Deployment, cluster: Cluster
) -> None:
    """A worker that cannot read the history puts the task off: the run ends when Consul is back."""
    tenant.become(limit=1)
    run = tenant.start()
    cluster.stop(cluster.agents)
    with deployment.frozen(deployment.noted(tenant.dag_id, run)["before"]["worker"]):
        deployment.gate(tenant.name, is_open=True)
        until(lambda: tenant.states(run)["after"] == "up_for_reschedule", "the task was put off", seconds=SOON)
        cluster.start(cluster.agents)
        tenant.finish(run)


def test_the_configuration_is_emptied(tenant: Tenant, cluster: Cluster) -> None:
    """When all documents are gone at once they are held; written again, all goes on."""
    tenant.become(limit=1)
    documents = cluster.documents()
    with tenant.between_two_tasks(then_on="other"):
        cluster.empty(PREFIX)
        tenant.deployment.problem_about("held")
    cluster.put_all(documents)
    tenant.become(limit=2)


def test_all_of_consul_is_emptied(tenant: Tenant, cluster: Cluster) -> None:
    """When the history and what the processors agreed on are gone as well, the processors write them again."""
    tenant.become(limit=1)
    documents = cluster.documents()
    with tenant.between_two_tasks(then_on="other"):
        cluster.empty(PREFIX[:-1])
    tenant.deployment.problem_about("held")
    cluster.put_all(documents)
    tenant.become(limit=2)


def test_the_token_is_revoked(tenant: Tenant, cluster: Cluster) -> None:
    """A token that Consul no longer takes costs nothing but news."""
    tenant.become(limit=1)
    with tenant.between_two_tasks(then_on="same"):
        cluster.revoke()
        tenant.deployment.problem_about("403")
    cluster.grant()
    tenant.become(limit=2)
    tenant.deployment.agree()


def test_an_older_snapshot_is_restored(tenant: Tenant, deployment: Deployment, cluster: Cluster) -> None:
    """What an older snapshot says is in force; a run that began later ends as it began all the same."""
    tenant.become(limit=1)
    snapshot = cluster.snapshot()
    tenant.become(limit=2)
    with tenant.between_two_tasks(then_on="other"):
        cluster.restore(snapshot)
    until(lambda: tenant.shows(limit=1), "what the snapshot says is in force", seconds=SOON)
    tenant.become(limit=3)
    deployment.agree()


def test_the_leader_is_lost(tenant: Tenant, deployment: Deployment, cluster: Cluster) -> None:
    """A leader that is lost is followed by the next; while there is none the last good configuration stays."""
    tenant.become(limit=1)
    first = cluster.lead_elsewhere()
    cluster.stop([first])
    tenant.become(limit=2)
    others = [agent for agent in cluster.agents if agent not in (first, cluster.front)]
    cluster.stop(others)
    deployment.problem_about("leader")
    cluster.start([first, *others])
    tenant.become(limit=3)
    deployment.agree()


def test_a_restart_without_consul(tenant: Tenant, deployment: Deployment, cluster: Cluster) -> None:
    """Processors that start while Consul is away go on with what they know, and then with what is new."""
    tenant.become(limit=1)
    cluster.stop(cluster.agents)
    for each in PROCESSORS:
        deployment.kill(each)
        deployment.boot(each)
    deployment.problem_about("consul")
    cluster.start(cluster.agents)
    tenant.become(limit=2)
    deployment.agree()


def test_a_malformed_flag(tenant: Tenant, cluster: Cluster) -> None:
    """A flag that cannot be understood keeps its last good definition, and is said to be wrong."""
    cluster.put("flags/job", flag(off_for=("nobody",)))
    tenant.become(limit=1)
    cluster.put("flags/job", {"state": "ENABLED", "variants": "none"})
    tenant.deployment.problem_about("flags/job")
    tenant.become(limit=2)
