from __future__ import annotations

from dagfactory_consul.crashes import BROKEN, CRASHES, SHARE, Crashes


def crashes(tenants: int, *, good: bool) -> Crashes:
    """Return the crashes of one builder for so many tenants."""
    found = Crashes(["Job"] if good else [])
    for number in range(tenants):
        found.add("Job", f"t{number}", f"t{number}__job")
    return found


def test_a_tenant_is_to_blame_where_others_are_built() -> None:
    """A builder that has built a DAG with this code is tried for every other tenant."""
    assert crashes(BROKEN, good=True).why_not_tried("Job", "acme") == []


def test_a_builder_is_to_blame_where_nobody_is() -> None:
    """A builder that has built nothing is given up after some tenants, and the DAGs are named."""
    assert crashes(BROKEN - 1, good=False).why_not_tried("Job", "acme") == []
    assert len(crashes(BROKEN, good=False).why_not_tried("Job", "acme")) == BROKEN


def test_one_success_clears_a_builder() -> None:
    """A DAG that is built shows that the code works."""
    found = crashes(BROKEN, good=False)
    found.succeeded("Job")
    assert found.why_not_tried("Job", "acme") == []


def test_one_tenant_is_given_up() -> None:
    """After some crashes of one tenant's DAGs the tenant's others are not tried, and everybody else's are."""
    found = Crashes(["Job"])
    for number in range(CRASHES):
        found.add("Job", "evil", f"evil__{number}")
    assert found.why_not_tried("Job", "evil") == ["evil__0", "evil__1", "evil__2"]
    assert found.why_not_tried("Job", "acme") == []


def test_the_others_get_less_time() -> None:
    """Where a builder hangs for some tenants, the others together do not wait long for the next that hangs."""
    assert crashes(CRASHES - 1, good=True).limit("Job", 5.0) == 5.0
    assert crashes(CRASHES, good=True).limit("Job", 5.0) == 5.0 / SHARE
    assert crashes(CRASHES, good=True).limit("Other", 5.0) == 5.0
