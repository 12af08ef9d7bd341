"""A release as a bundle publishes it: made over what was before, and loaded again from the history."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from dagfactory_consul import edition as editions
from dagfactory_consul.arrangement import Limits
from dagfactory_consul.codebase import Code
from dagfactory_consul.edition import Draft, Edition, Stamp
from dagfactory_consul.errors import VersionGoneError
from dagfactory_consul.history import History
from dagfactory_consul.problems import Problem
from dagfactory_consul.release import ACTIVE, DRAINING, GONE, Placement, Release
from dagfactory_consul.snapshot import Document, Snapshot
from dagfactory_consul.stores.memory import MemoryStore
from tests.making import json_values, snapshot_of
from tests.test_contents import placed

CODE = Code("abc", ("./0/builders",))
SNAPSHOT = snapshot_of({"tenants/acme": {"dags": {"Job": {}}}, "flags/parser": "v1", "tenants/bad": b"{"})

placements = st.builds(
    lambda number, state, since, idle, config: placed(
        f"t{number}__job", state, since, tenant=f"t{number}", config=config
    )._replace(idle=idle, checked="print"),
    st.integers(0, 9),
    st.sampled_from([ACTIVE, DRAINING, GONE]),
    st.floats(0, 1e9),
    st.booleans(),
    st.dictionaries(st.text(max_size=4), json_values("a b"), max_size=2),
)
releases = st.builds(
    lambda dags, problems: Release(
        {each.spec.dag_id: each for each in sorted(dags, key=lambda each: each.spec.dag_id)},
        tuple(problems),
        {"flags/parser": Document("flags/parser", "v1", 7)},
        SNAPSHOT.version,
        "print",
    ),
    st.lists(placements, max_size=8, unique_by=lambda each: each.spec.dag_id),
    st.lists(st.builds(Problem, st.text(max_size=5), st.text(max_size=5), st.none() | st.just("acme"))),
)


def of(*dags: Placement, **fields: Any) -> Release:
    """Return a release with these DAGs."""
    known = {each.spec.dag_id: each._replace(checked="print") for each in dags}
    return Release(known, (), {}, SNAPSHOT.version, "print")._replace(**fields)


def make(
    release: Release, previous: Edition | None = None, snapshot: Snapshot = SNAPSHOT, *, at: float = 5.0, **fields: Any
) -> Draft:
    """Make an edition, with all that these tests do not ask about."""
    given: dict[str, Any] = {
        "stamp": Stamp(1 + (previous.head.sequence if previous else 0), at, "here", "tenants"),
        "limits": Limits(5, 3),
        "code": CODE,
        "archive": b"packed" if previous is None else None,
        "modules": {"Job": ("airflow.a",)},
    }
    return editions.make(release, snapshot, previous, **{**given, **fields})


def history() -> History:
    """Return a history that nothing else is in."""
    return History(lambda: MemoryStore(uuid.uuid4().hex), "tested", None, fill=False)


def publish(into: History, draft: Draft) -> Edition:
    into.put(draft.blobs, draft.edition.version)
    return draft.edition


def as_kept(dags: Mapping[str, Placement]) -> dict[str, Placement]:
    """Return placements without what is not kept, since it changes while the DAG does not."""

    def one(each: Placement) -> Placement:
        if not each.shown:
            return each._replace(checked=None)
        return each._replace(idle=False, since=each.since if each.state == DRAINING else 0.0)

    return {dag_id: one(each) for dag_id, each in dags.items()}


def as_bytes(edition: Edition) -> dict[str, bytes]:
    return {path: contents.to_bytes() for path, contents in edition.files.items()}


@budget(max_examples=50)
@given(releases, releases)
def test_what_is_loaded_is_what_was_made(first: Release, second: Release) -> None:
    """The history gives back an edition that is equal in all that counts, over whatever was before it."""
    kept = history()
    before = publish(kept, make(first))
    made = publish(kept, make(second, before))
    found, code = editions.load(made.head, kept)
    assert as_kept(found.release.dags) == as_kept(second.dags)
    assert found.release._replace(dags={}) == second._replace(dags={})
    assert (found.places, found.version, found.head) == (made.places, made.version, made.head)
    assert as_bytes(found) == as_bytes(made)
    assert (found.snapshot.lines, found.snapshot.version) == (SNAPSHOT.lines, SNAPSHOT.version)
    assert code == CODE


def test_a_held_snapshot_stays_held() -> None:
    """What the guard holds, and why, is part of what was agreed on."""
    held = replace(SNAPSHOT, held={"version": "other", "reason": "half of it is gone", "missing": ["tenants/x"]})
    kept = history()
    made = publish(kept, make(of(placed()), snapshot=held))
    assert editions.load(made.head, kept)[0].snapshot.held == held.held


def test_nothing_new_is_nothing_to_write() -> None:
    """An edition like the one before brings no contents but its state."""
    first = make(of(placed())).edition
    again = make(of(placed()), first)
    assert set(again.blobs) <= {again.edition.head.state, again.edition.head.snapshot}
    assert again.edition.version.name == first.version.name
    assert again.edition.files == first.files


def test_one_change_writes_its_own_file_and_parts() -> None:
    """One of many DAGs that changes costs a few contents, however many there are."""
    names = [f"t{number}" for number in range(300)]
    release = of(*(placed(f"{name}__job", tenant=name) for name in names))
    first = make(release).edition
    changed = of(*release.dags.values(), placed("t7__job", tenant="t7", config={"limit": 9}))
    draft = make(changed, first)
    assert set(draft.edition.files) - set(first.files) == {"tenants/t7.py"}
    assert len(draft.blobs) <= 5
    assert draft.edition.changed_since(first) == ["t7__job"]


def test_an_index_alone_changes_no_file() -> None:
    """A tenant's document that was written again as it was is no reason to write its file."""
    first = make(of(placed())).edition
    later = snapshot_of({"tenants/acme": {"dags": {"Job": {}}}, "flags/parser": "v1", "tenants/bad": b"{"}, index=8)
    assert make(of(placed()), first, later).edition.files == first.files


def test_a_tenant_without_a_document_keeps_its_index() -> None:
    """What drains after its document is gone shows the index that it was made from."""
    first = make(of(placed(), placed("zenith__job", tenant="zenith"))).edition
    assert first.files["tenants/acme.py"].indexes == {"acme": 7}
    without = snapshot_of({"flags/parser": "v1"})
    later = make(of(placed(state=DRAINING)), first, without).edition
    assert later.files["tenants/acme.py"].indexes == {"acme": 7}


@pytest.mark.parametrize(
    "other",
    [
        {"release": of(placed(config={"limit": 9}))},
        {"release": of(placed(state=DRAINING))},
        {"release": of()},
        {"release": of(placed(), fingerprint="other")},
        {"release": of(placed()), "limits": Limits(0, 3)},
        {"release": of(placed()), "code": Code("other", ())},
        {"release": of(placed()), "archive": b"other"},
        {"release": of(placed()), "modules": {"Job": ("airflow.b",)}},
        {"release": of(placed(), placed("old__job", GONE, 3.0))},
    ],
)
def test_whatever_may_change_a_run_changes_the_version(other: dict[str, Any]) -> None:
    """Other DAGs, other states, other code, other files: no two versions that differ in anything share a name."""
    release = other.pop("release")
    assert make(release, **other).edition.version.name != make(of(placed())).edition.version.name


def test_what_changes_no_run_changes_no_version() -> None:
    """Problems, and the time of it all, are no part of a version's name."""
    release = of(placed(), problems=(Problem("tenants/x", "bad"),))
    later = make(release, stamp=Stamp(9, 99.0, "there", "tenants"))
    assert later.edition.version.name == make(of(placed())).edition.version.name


def test_an_inner_bundles_version_comes_first() -> None:
    """Where a bundle brings the code, both are in the name: `<code>-<configuration>`."""
    draft = make(of(placed()), code=Code("0a1b2c", ("./builders",), "0a1b2c"), archive=None)
    assert draft.edition.version.name.startswith("0a1b2c-")
    assert draft.edition.version.code_blob is None


def test_code_that_stays_is_referred_to() -> None:
    """The code's archive is written with the version that brings it, and shared by all that have it."""
    first = make(of(placed()))
    second = make(of(placed(config={"limit": 9})), first.edition)
    assert second.edition.version.code_blob == first.edition.version.code_blob
    assert first.edition.version.code_blob in first.blobs


def test_an_edition_that_is_not_complete() -> None:
    """A head whose version, or a part of it, is missing is gone, and never half an edition."""
    kept = history()
    draft = make(of(placed()))
    with pytest.raises(VersionGoneError, match=draft.edition.version.name):
        editions.load(draft.edition.head, kept)
    publish(kept, draft)
    head, version = draft.edition.head, draft.edition.version
    for ref in (head.state, head.snapshot, *head.documents.values(), *version.files.values()):
        kept.drop([], [ref])
        with pytest.raises(VersionGoneError):
            editions.load(head, kept)
        kept.put({ref: draft.blobs[ref]})


def test_what_drains_and_what_may_come_back() -> None:
    """An edition says which of its DAGs drain, and which have gone for want of runs."""
    idle = placed("i__job", GONE, 3.0)._replace(idle=True)
    draft = make(of(placed(), placed("d__job", DRAINING, 2.0), placed("g__job", GONE, 3.0), idle)).edition
    assert [each.spec.dag_id for each in draft.draining()] == ["d__job"]
    assert draft.idle_and_gone() == ["i__job"]
