"""Two processors on two machines agree without a leader: on versions, on what drains, on what is held."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from demo.wait import never, until

from .cluster import Cluster
from .machines import HEAD, PROCESSORS, SOON, Deployment
from .tenant import Tenant, flag
from .watch import Watch

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(180)]

QUIET = 5.0
"""Seconds for which nothing may change: several refreshes of each processor."""


def test_both_lay_out_the_same_files(tenant: Tenant, deployment: Deployment) -> None:
    """After each of some changes both machines have the same files, and then neither head nor files change any more."""
    for limit in (1, 2, 3):
        tenant.become(limit=limit)
    deployment.agree()
    before = (deployment.head(), deployment.files(PROCESSORS[0]))
    never(lambda: (deployment.head(), deployment.files(PROCESSORS[0])) != before, "something changed", seconds=QUIET)
    deployment.agree()


def test_one_change_makes_one_version(tenant: Tenant, deployment: Deployment) -> None:
    """A change makes one new version of its DAG, though two processors parse it, and none of any other DAG."""
    tenant.become(limit=1)
    tenant.finish(tenant.start())  # a version without runs would be rewritten in place
    assert deployment.dag_versions(tenant.dag_id) == 1, deployment.last_difference(tenant.dag_id)
    tenant.become(limit=2)
    never(lambda: deployment.dag_versions(tenant.dag_id) - 2, "there are more or fewer versions", seconds=QUIET)
    deployment.agree()


def test_one_is_killed_and_the_other_goes_on(tenant: Tenant, deployment: Deployment) -> None:
    """Changes arrive while only one processor is left; the other one, on a new disk, takes over what was agreed on."""
    tenant.become(limit=1)
    deployment.kill(PROCESSORS[0], wipe=True)
    tenant.become(limit=2)
    head = deployment.head()
    deployment.boot(PROCESSORS[0])
    deployment.agree()
    same = ("snapshot", "documents", "by")  # a tenant of another test may still be on its way out
    assert [deployment.head()[each] for each in same] == [head[each] for each in same]
    tenant.become(limit=3)


def test_a_drain_survives_the_processors(tenant: Tenant, deployment: Deployment, cluster: Cluster) -> None:
    """A DAG that drains goes on draining on new machines, and is simply active when it is switched on again."""
    tenant.become(limit=1)
    with tenant.between_two_tasks(then_on="other"):
        cluster.put("flags/job", flag(off_for=(tenant.name,)))
        until(tenant.drains, "the DAG is draining", seconds=SOON)
        for each in PROCESSORS:
            deployment.kill(each, wipe=True)
            deployment.boot(each)
        deployment.agree()
        assert tenant.drains()
        cluster.put("flags/job", flag())
        until(lambda: tenant.shows(limit=1), "the DAG is active again", seconds=SOON)
    assert [each["limit"] for each in tenant.finish(tenant.start()).values()] == [1, 1]


def test_what_is_held_is_held_by_all_and_accepted_for_all(
    tenant: Tenant, deployment: Deployment, cluster: Cluster, neighbours: list[Tenant], watch: Watch
) -> None:
    """Both processors hold what would drop too much, a new one does too; one acceptance lifts it for all.

    A tenant that was removed before is not brought back by what is held.
    """
    tenant.become(limit=1)
    tenant.delete()
    until(tenant.is_gone, "the tenant is gone", seconds=SOON)
    documents = cluster.documents()
    dropped = neighbours[:6]
    cluster.delete_at_once([f"tenants/{each.name}" for each in dropped])
    # The problem is shown as soon as it is seen; what is agreed on outlives who has seen it.
    until(lambda: deployment.status().get("held"), "the processors have agreed on what is held", seconds=SOON)
    for each in PROCESSORS:
        deployment.problem_about("held")
        deployment.kill(each, wipe=True)
        deployment.boot(each)
    deployment.agree()
    assert tenant.is_gone()
    held = deployment.status()["held"]
    watch.allow(*(each.dag_id for each in dropped))
    command = str(Path(sys.executable).with_name("dagfactory-consul"))
    deployment.run(PROCESSORS[0], command, "accept", held["version"])
    until(lambda: all(each.is_gone() for each in dropped), "what was held is gone", seconds=SOON)
    deployment.agree()
    cluster.put_all(documents)
    until(lambda: all(each.shows(limit=1) for each in dropped), "the neighbours are back", seconds=SOON)


def test_two_machines_get_new_code_one_after_the_other(other: Tenant, deployment: Deployment) -> None:
    """While the code is rolled out the newer one is in force, and nothing goes back to the older one."""
    other.become(limit=1)
    change = lambda text: text.replace('CODE = "one"', 'CODE = "two"')  # noqa: E731
    deployment.deploy("others.py", change, to=PROCESSORS[:1])
    until(lambda: other.has_code("two"), "the new code is in force", seconds=SOON)
    never(lambda: not other.has_code("two"), "the old code is in force again", seconds=QUIET)
    deployment.deploy("others.py", change, to=PROCESSORS[1:])
    never(lambda: not other.has_code("two"), "the old code is in force again", seconds=QUIET)
    deployment.agree()


def test_a_forged_head_changes_nothing(tenant: Tenant, deployment: Deployment, cluster: Cluster) -> None:
    """A head that no processor of this Airflow has signed is not deployed, is a problem, and is written over."""
    tenant.become(limit=1)
    former = deployment.head()
    assert former["signature"]
    tenant.become(limit=2)
    forged = {**former, "sequence": deployment.head()["sequence"] + 1}
    cluster.write(HEAD, json.dumps(forged).encode())
    deployment.problem_about("not signed", former["version"])
    assert tenant.shows(limit=2)
    until(lambda: deployment.head()["version"] != former["version"], "the forged head is written over", seconds=60)
    deployment.agree()
    assert tenant.shows(limit=2)
