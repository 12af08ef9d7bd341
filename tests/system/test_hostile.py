"""Documents, flags, files and answers that mean harm: nobody but whoever wrote them loses anything.

While each is there a neighbour's change arrives, every process of Airflow goes on, every DAG stays, and Airflow shows
in few words what is wrong. The site's watch looks at the DAGs that nobody touches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.wait import until
from tests.proxy import passes

from .hostile import ANSWERS, DOCUMENTS, EVIL, FILES, TENANT, UNDERSTOOD, Hostile
from .site import SOON, Place, Site

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

LINE = 600
"""Letters of a problem's line, at most: 500 of its own and where it is."""
LONG = 240.0
"""Seconds within which what sixty hostile documents at once hold up shows: each of a dozen takes its whole limit."""
SHOWN = 15_000
"""Letters that Airflow shows of all problems, at most."""


@pytest.mark.timeout(1200)
def test_all_hostile_documents_at_once(site: Site) -> None:
    """However many tenants mean harm together, each of them keeps the DAG that it had, and reads what is wrong."""
    crowd = [
        (place, f"{place.name}-x{number}", hostile)
        for place in (site.consul, site.loader)
        for number, hostile in enumerate(DOCUMENTS.values())
        if hostile.key == TENANT
    ]
    dag_ids = [f"{tenant}__job" for _, tenant, _ in crowd]
    be_good(crowd)
    until(lambda: site.is_shown(*dag_ids), "all tenants' DAGs are there", seconds=LONG)
    try:
        for place, tenant, hostile in crowd:
            place.put(f"tenants/{tenant}", hostile.text)
        arrives(site, site.consul, site.loader, seconds=LONG)
        for place, tenant, hostile in crowd:
            if place is site.consul or hostile.in_loader:
                said = [word.replace(EVIL, tenant) for word in hostile.said]
                until(lambda: place.says(*said), f"{place.name} says {said}", seconds=LONG)  # noqa: B023  # ends before
        arrives(site, site.consul, site.loader, seconds=LONG)
        assert site.is_shown(*dag_ids)
    finally:
        be_good(crowd)
    for place in site.places:
        until(place.is_well, "nothing is wrong", seconds=LONG)


@pytest.mark.hostile
@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_hostile_document(site: Site, case: str) -> None:
    """It costs its own tenant no more than the change that it would have been, in a bundle and in the plain loader."""
    hostile = DOCUMENTS[case]
    with written(hostile, site.consul, site.loader):
        arrives(site, site.consul, site.loader)
        for place in (site.consul, site.loader) if hostile.in_loader else (site.consul,):
            said = [word.replace(EVIL, place.evil) for word in hostile.said]
            until(lambda: place.says(*said), f"{place.name} says {said}", seconds=SOON)  # noqa: B023  # ends before
            is_said_in_few_words(place)
            assert site.is_shown(f"{place.evil}__job")


@pytest.mark.hostile
@pytest.mark.parametrize("case", FILES)
def test_a_hostile_file(site: Site, case: str) -> None:
    """One file of a folder is one document's problem, whatever its name, kind and content."""
    make, said = FILES[case]
    before = set(site.files.rglob("*"))
    make(site.files)
    try:
        arrives(site, site.store)
        until(lambda: site.store.says(*said), f"the problem of {said} is shown", seconds=SOON)
        is_said_in_few_words(site.store)
        assert site.is_shown(f"{site.store.evil}__job")
    finally:
        clear(set(site.files.rglob("*")) - before)


@pytest.mark.hostile
@pytest.mark.parametrize("case", ANSWERS)
def test_a_hostile_answer(site: Site, case: str) -> None:
    """An answer that makes no sense changes nothing, is shown, and is over when it is over."""
    site.proxy.behaviour = ANSWERS[case]
    site.consul.change()  # while nothing has changed little of an answer is looked at
    try:
        arrives(site, site.store)  # another bundle of the same processor
        if case in UNDERSTOOD:
            arrives(site, site.consul)
        else:
            until(lambda: site.consul.says("consul"), "the problem is shown", seconds=SOON)
        is_said_in_few_words(site.consul)
    finally:
        site.proxy.behaviour = passes
    arrives(site, site.consul)


def test_runs_succeed_after_all_that(site: Site) -> None:
    """Airflow's scheduler and executor work as before."""
    assert all(place.runs() for place in site.places)


def be_good(crowd: Iterable[tuple[Place, str, Hostile]]) -> None:
    """Write a good document for each of these tenants."""
    for place, tenant, _ in crowd:
        place.put(f"tenants/{tenant}", {"dags": {"Job": {"limit": 1}}})


@contextmanager
def written(hostile: Hostile, *places: Place) -> Iterator[None]:
    """Write a document, and put back what was there."""
    key = hostile.key
    try:
        for place in places:
            place.put(key.replace(EVIL, place.evil), hostile.text)
        yield
    finally:
        for place in places:
            if key == f"tenants/{EVIL}":
                place.put(key.replace(EVIL, place.evil), {"dags": {"Job": {"limit": 1}}})
            elif key == "defaults":
                place.put(key, {})
            else:
                place.write(key, None)


def arrives(site: Site, *places: Place, seconds: float = SOON) -> None:
    """Change a neighbour's document in each place, and wait until Airflow shows the change; all processes go on."""
    for place in places:
        place.change()
    until(lambda: site.goes_on() and all(place.has_changed() for place in places), "it arrives", seconds=seconds)


def is_said_in_few_words(place: Place) -> None:
    """Nobody has to read for long, and nothing that is shown moves a terminal's cursor or repeats a secret."""
    shown = place.problems()
    assert len(shown) < SHOWN, shown[:5000]
    assert all(len(line) < LINE for line in shown.splitlines()), max(shown.splitlines(), key=len)[:2000]
    assert all(letter.isprintable() or letter == "\n" for letter in shown), ascii(shown)
    assert "hunter2" not in shown


def clear(paths: Iterable[Path]) -> None:
    """Remove files, folders and links, the deepest first."""
    for path in sorted(paths, key=str, reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
