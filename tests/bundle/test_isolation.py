"""What is wrong with one tenant, or with one builder's new code, is nobody else's affair.

That the neighbours' DAGs stay, those in the same file first of all, is what the `watch` fixture looks at.
"""

from __future__ import annotations

import os
import shutil
import time

import pytest
import sqlalchemy

from dagfactory_consul.import_errors import ImportErrors
from demo.wait import until

from .machines import PROCESSORS, SOON, Deployment
from .tenant import Tenant
from .watch import Watch

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(180)]

MOODS = {"raising": "no such region", "cycle": "cycle", "exit": "ended", "endless": "longer"}
"""What a builder is told to do, and what Airflow then says of it."""


def test_edits_break_tenants_of_a_shard(neighbours: list[Tenant], deployment: Deployment) -> None:
    """Tenants whose new configuration breaks their builder keep their last good DAGs, and so does their whole file."""
    good, *found = of_one_shard(deployment, neighbours)
    bad = dict(zip(MOODS, found, strict=False))
    for mood, each in bad.items():
        each.write(limit=99, mood=mood)
    for mood, each in bad.items():
        deployment.problem_about(each.name, MOODS[mood])
    assert len(bad) == len(MOODS)
    assert all(each.shows(limit=1) for each in bad.values())
    assert [each["limit"] for each in good.finish(good.start()).values()] == [1, 1]
    for each in bad.values():
        each.write(limit=1)


def test_a_change_arrives_beside_a_broken_tenant(tenant: Tenant, deployment: Deployment) -> None:
    """Others' changes arrive while new tenants crash the builder, hang it and make it raise."""
    broken = {mood: Tenant(deployment, f"broken-{mood}") for mood in MOODS}
    for mood, each in broken.items():
        each.write(mood=mood)
    tenant.become(limit=1)
    for mood, each in broken.items():
        deployment.problem_about(each.name, MOODS[mood])
    tenant.become(limit=2)
    assert all(each.is_gone() for each in broken.values())
    for each in broken.values():
        each.disable()


CODES = {
    "import error": ("import no_such_module", "no_such_module"),
    "crash": ("import os; os._exit(3)", "others"),
    "endless loop": ("while True: pass", "others"),
}


@pytest.mark.parametrize(("line", "said"), CODES.values(), ids=list(CODES))
def test_new_code_of_a_builder_is_broken(
    deployment: Deployment, tenant: Tenant, other: Tenant, line: str, said: str
) -> None:
    """Code that cannot be imported keeps its builder's last good DAGs; mended it comes into force by itself."""
    other.become(limit=1)
    tenant.become(limit=1)
    deployment.deploy("others.py", lambda text: text.replace("\n\n\n@builder", f"\n{line}\n\n\n@builder"))
    deployment.problem_about(said)
    assert other.shows(limit=1)
    tenant.become(limit=2)
    assert [each["limit"] for each in other.finish(other.start()).values()] == [1, 1]
    deployment.deploy("others.py")
    until(lambda: not deployment.problems(), "nothing is wrong", seconds=SOON)
    other.become(limit=2)


def of_one_shard(deployment: Deployment, tenants: list[Tenant]) -> list[Tenant]:
    """Return the tenants whose DAGs stand in the file that most of them share."""
    by_file: dict[str, list[Tenant]] = {}
    for each in tenants:
        by_file.setdefault(str(deployment.api.dag(each.dag_id)["relative_fileloc"]), []).append(each)
    return max(by_file.values(), key=len)


def test_parses_fail_in_passing(tenant: Tenant, neighbours: list[Tenant], deployment: Deployment, watch: Watch) -> None:
    """What could not be parsed for a moment is parsed again: its DAGs come back by themselves."""
    tenant.become(limit=1)
    watch.allow(*(each.dag_id for each in neighbours))  # they need that code as well
    deployment.agree()
    # Not the folder of a version as a whole: a processor writes again what is gone.
    insides = [inside for folder in deployment.layouts() for inside in folder.glob("code/*/*")]
    file = deployment.layouts()[0] / deployment.api.dag(tenant.dag_id)["relative_fileloc"]

    def fails() -> bool:
        os.utime(file)  # again and again: a touch is lost on a parse that is under way
        return deployment.shows("came from", "builders/jobs.py instead of")  # the originals are on the path

    try:
        for inside in insides:
            inside.rename(inside.with_suffix(".away"))
        until(fails, "a parse has failed", seconds=SOON, every=2)
        assert tenant.is_gone()
    finally:
        for inside in insides:
            if inside.with_suffix(".away").exists():
                inside.with_suffix(".away").rename(inside)
    until(lambda: all(each.shows(limit=1) for each in (tenant, *neighbours)), "the DAGs are back", seconds=SOON)


def test_files_are_tidied_up(tenant: Tenant, neighbours: list[Tenant], deployment: Deployment) -> None:
    """What somebody deletes on a processor's disk is there again, before Airflow could miss it."""
    tenant.become(limit=1)
    deployment.agree()
    deployment.have_listed()  # or Airflow would list a folder that it was just told of, and find nothing there
    before = [deployment.files(each) for each in PROCESSORS]
    for folder in deployment.layouts():
        gone = folder.rename(folder.with_name("gone"))  # at once: it is written to meanwhile
        shutil.rmtree(gone)
    until(lambda: [deployment.files(each) for each in PROCESSORS] == before, "all is there again", seconds=SOON)
    tenant.become(limit=2)
    assert all(each.shows(limit=1) for each in neighbours)
    until(lambda: not deployment.problems(), "nothing is wrong", seconds=SOON)


def test_a_dag_is_taken_for_stale(tenant: Tenant, deployment: Deployment) -> None:
    """A DAG of which Airflow has lost sight, as after a parse that was killed, comes back by itself."""
    tenant.become(limit=1)
    deployment.agree()
    long_ago = time.time() - 2 * ImportErrors.SETTLED
    for folder in deployment.layouts():
        os.utime(folder / deployment.api.dag(tenant.dag_id)["relative_fileloc"], (long_ago, long_ago))
    with deployment.database.begin() as connection:
        lose = sqlalchemy.text("update dag set is_stale = true where dag_id = :dag_id")
        assert connection.execute(lose, {"dag_id": tenant.dag_id}).rowcount == 1
    until(lambda: tenant.shows(limit=1), "the DAG is back", seconds=SOON)


@pytest.mark.parametrize("had_dags", [False, True], ids=["new", "changed"])
def test_a_parse_is_killed(
    tenant: Tenant, neighbours: list[Tenant], deployment: Deployment, watch: Watch, *, had_dags: bool
) -> None:
    """A file that Airflow parses without getting its DAG, and without an error, is a problem within a minute."""
    watch.allow(*(each.dag_id for each in neighbours))  # who shares a file with the tenant is lost with it
    if had_dags:
        tenant.become(limit=1)
    tenant.write(limit=2, mood="killed")
    until(
        lambda: deployment.shows("DAG file ", tenant.dag_id, "in it nor an error"),
        "the file is a problem",
        seconds=60 + SOON,
    )
    tenant.become(limit=3)
    until(lambda: not deployment.problems(), "nothing is wrong", seconds=SOON)
