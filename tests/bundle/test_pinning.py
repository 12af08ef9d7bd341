"""A run ends as it began, on any worker, whatever becomes of its configuration, its DAG or the processors meanwhile.

Each test holds two runs between two tasks: the second task of one then runs on the worker that ran the first one, that
of the other one on a worker that shares no disk with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from demo.wait import until

from .machines import PROCESSORS, SOON, Deployment
from .tenant import Tenant, flag

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]


@contextmanager
def between_two_tasks(pair: list[Tenant]) -> Iterator[None]:
    """Hold a run of each of two tenants between its two tasks while the body lasts; they have to end as they began."""
    for each in pair:
        each.become(limit=1)
    with ExitStack() as held:
        for each, worker in zip(pair, ("same", "other"), strict=True):
            held.enter_context(each.between_two_tasks(then_on=worker))
        yield


def ran_with(tenant: Tenant, name: str) -> list[object]:
    """Return what each task of a new run was built with."""
    return [each[name] for each in tenant.finish(tenant.start()).values()]


def test_a_flip_between_two_tasks(pair: list[Tenant]) -> None:
    """A run ends with the configuration that it began with; the next one has the new."""
    with between_two_tasks(pair):
        for each in pair:
            each.become(limit=2)
    assert [ran_with(each, "limit") for each in pair] == [[2, 2], [2, 2]]


def test_a_flag_goes_off_between_two_tasks(pair: list[Tenant], deployment: Deployment) -> None:
    """A run ends although its flag has gone off: the DAG drains, and goes when nothing needs it any more."""
    with between_two_tasks(pair):
        deployment.cluster.put("flags/job", flag(off_for=tuple(each.name for each in pair)))
        until(lambda: all(each.drains() for each in pair), "the DAGs are draining", seconds=SOON)
    until(lambda: all(each.is_gone() for each in pair), "the DAGs are gone", seconds=SOON)


def test_a_value_of_a_flag_changes_between_two_tasks(pair: list[Tenant], deployment: Deployment) -> None:
    """A run keeps the values of the flags that it began with; the next one has the new."""
    with between_two_tasks(pair):
        rule = {"if": [{"in": [{"var": "tenant"}, [each.name for each in pair]]}, "v2", "v1"]}
        variants = {"v1": "v1", "v2": "v2"}
        document = {"state": "ENABLED", "variants": variants, "defaultVariant": "v1", "targeting": rule}
        deployment.cluster.put("flags/parser", document)
        for each in pair:
            until(lambda one=each: one.shows(flags={"parser": "v2"}), "the new value is shown", seconds=SOON)  # type: ignore[misc]
    assert ran_with(pair[0], "parser") == ["v2", "v2"]


def test_a_tenant_is_deleted_between_two_tasks(pair: list[Tenant]) -> None:
    """A run ends although its tenant's document is gone."""
    with between_two_tasks(pair):
        for each in pair:
            each.delete()
        until(lambda: all(each.drains() for each in pair), "the DAGs are draining", seconds=SOON)
    until(lambda: all(each.is_gone() for each in pair), "the DAGs are gone", seconds=SOON)


def test_the_processors_lose_their_disks_between_two_tasks(pair: list[Tenant], deployment: Deployment) -> None:
    """A run ends while no processor is there, nor the disk of any; new ones go on with what the last ones agreed on."""
    with between_two_tasks(pair):
        for each in pair:
            each.become(limit=2)
        for name in PROCESSORS:
            deployment.kill(name, wipe=True)
    first, second = PROCESSORS
    deployment.boot(first)
    pair[0].become(limit=3)
    assert ran_with(pair[0], "limit") == [3, 3]
    deployment.boot(second)
    deployment.agree()


def test_the_code_changes_between_two_tasks(other_pair: list[Tenant], deployment: Deployment) -> None:
    """A run ends with the builders' code that it began with; the next one has the new."""
    with between_two_tasks(other_pair):
        deployment.deploy("others.py", lambda text: text.replace('CODE = "one"', 'CODE = "two"'))
        until(lambda: all(each.has_code("two") for each in other_pair), "the new code is in force", seconds=SOON)
    assert ran_with(other_pair[0], "code") == ["two", "two"]
