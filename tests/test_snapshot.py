from __future__ import annotations

import json
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagfactory_consul import keyed_file, snapshot
from dagfactory_consul.snapshot import Document, Snapshot, from_reading
from dagfactory_consul.stores.base import READY, Entry, Reading
from tests.making import json_values, snapshot_of

TENANTS: list[dict[str, Any]] = [{"id": "acme", "enabled": True}, {"id": "zenith", "dags": {"Job": {"limit": 5}}}]
WRITES_ALTERNATELY = """
import itertools, sys
from pathlib import Path
from dagfactory_consul import snapshot
from dagfactory_consul.stores.base import READY, Entry, Reading
def big(name):
    text = b'{"text": "%s"}' % (name * 1000).encode()
    return snapshot.from_reading(Reading(tuple(Entry(f"tenants/{name}{n}", text) for n in range(3000))), now=0)
for each in itertools.cycle([big("a"), big("b")]):
    snapshot.save(each, Path(sys.argv[1]))
    print(flush=True)
"""
"""About three megabytes, of another name each time."""

KEYS = st.sampled_from(["tenants", "tenants/a", "tenants/b", "tenants/[0]", "flags/f", "defaults", READY, ":"])
TEXTS = st.binary(max_size=8) | json_values("id name a b tenants").map(lambda value: json.dumps(value).encode())
ENTRIES = st.dictionaries(KEYS | st.text(max_size=4), st.tuples(TEXTS, st.integers(0, 3)), max_size=6)


def reading(entries: Mapping[str, tuple[bytes, int]]) -> Reading:
    return Reading(tuple(Entry(key, text, index) for key, (text, index) in sorted(entries.items())), "5", "memory://x")


def contents(found: Snapshot) -> dict[str, Any]:
    return {key: document.value for key, document in found.items()}


@settings(deadline=None)
@given(entries=ENTRIES)
def test_a_reading_is_taken_over_whatever_it_holds(entries: dict[str, tuple[bytes, int]]) -> None:
    """Every entry becomes a document, decoded or with a reason, and nothing that a store holds raises."""
    found = from_reading(reading(entries), now=1.0)
    assert {key for key in entries if key != "tenants"} <= set(found)
    assert all(document.value is None for document in found.values() if document.malformed)
    assert (found.source, found.mark, found.read_at, found.held) == ("memory://x", "5", 1.0, None)


@settings(deadline=None)
@given(before=ENTRIES, after=ENTRIES)
@example(before={"tenants": (b"[]", 0)}, after={"tenants/a": (b"1", 0)})
@example(before={"tenants": (b'[{"id":"a"}]', 1)}, after={"tenants/a": (b"{}", 1)})
@example(before={":": (b"1", 0), "flags/f": (b"true", 0)}, after={":": (b"1", 0), "flags/f": (b"false", 0)})
def test_what_was_known_before_makes_no_difference(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Taking over what has not changed gives the same as decoding all of it anew."""
    previous = from_reading(reading(before), now=1.0)
    anew, reused = from_reading(reading(after), now=2.0), from_reading(reading(after), now=2.0, previous=previous)
    assert (reused.documents, reused.lines, reused.version) == (anew.documents, anew.lines, anew.version)


@settings(deadline=None, max_examples=50)  # a disk may take its time
@given(entries=ENTRIES)
def test_a_snapshot_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, entries: Any) -> None:
    """The file gives back all that the snapshot held: documents, indexes, reasons, and where it came from."""
    path = tmp_path_factory.mktemp("state") / "snapshot"
    written = from_reading(reading(entries), now=1.5)
    snapshot.save(written, path)
    read = snapshot.load(path)
    assert read.documents == written.documents
    assert (read.version, read.source, read.mark, read.read_at) == (written.version, "memory://x", "5", 1.5)
    assert {key: snapshot.load_one(path, key) for key in written} == written.documents


def test_a_key_that_is_not_there_is_none(tmp_path: Path) -> None:
    """One document that a snapshot does not hold is known to be missing."""
    snapshot.save(snapshot_of({"tenants/acme": {}}), tmp_path / "snapshot")
    assert snapshot.load_one(tmp_path / "snapshot", "tenants/acm") is None


def test_what_is_held_is_kept_in_the_file(tmp_path: Path) -> None:
    """Another process sees what the guard holds back."""
    held = {"version": "abc", "reason": "the store is empty", "missing": ["tenants/acme"]}
    made = snapshot_of({"tenants/acme": {}})
    snapshot.save(snapshot.of_lines(made.lines, source="", mark=None, read_at=0, held=held), tmp_path / "snapshot")
    assert snapshot.load(tmp_path / "snapshot").held == held


def test_its_file_is_private(tmp_path: Path) -> None:
    """Only this user reads what customers have configured."""
    snapshot.save(snapshot_of({"tenants/acme": {}}), tmp_path / "snapshot")
    assert stat.S_IMODE((tmp_path / "snapshot").stat().st_mode) == 0o600


def test_the_version_is_of_the_contents() -> None:
    """Equal contents have equal versions, from wherever, whenever, in whatever layout and at whatever index read."""
    here = {"tenants/acme": (b'{"a":1,"b":2}', 1), "flags/f": (b"true", 2)}
    there = (Entry("flags/f", b" true\n", 9), Entry("tenants/acme", b"b: 2\na: 1", 8))
    moved = Reading(there, mark="99", source="consul://y")
    assert from_reading(reading(here), now=1.0).version == from_reading(moved, now=2.0).version


@pytest.mark.parametrize(
    "other",
    [
        {"tenants/acme": b"[]"},
        {"tenants/acm": b"{}"},
        {"tenants/acme": b"{}", "tenants/b": b"{}"},
        {},
        {"tenants/acme": b"{"},
    ],
)
def test_other_contents_have_another_version(other: dict[str, bytes]) -> None:
    """A change of a value or of a key, one key more or less: each is another version."""
    assert snapshot_of({"tenants/acme": b"{}"}).version != snapshot_of(other).version


def test_a_malformed_document_is_marked_alone() -> None:
    """A document that cannot be decoded has a reason and its index, and its neighbours are as they should be."""
    found = snapshot_of({"tenants/acme": b'{"enabled": tru', "tenants/zenith": {"enabled": True}}, index=4)
    broken = found["tenants/acme"]
    assert (broken.value, broken.index) == (None, 4)
    assert (broken.malformed or "").startswith("malformed JSON: Expecting value: line 1")
    assert found["tenants/zenith"] == Document("tenants/zenith", {"enabled": True}, 4)


@pytest.mark.parametrize("text", [b"", b"true", b"{", b"\xff"])
def test_the_marker_says_all_by_being_there(text: bytes) -> None:
    """What the marker's value is does not matter, and is never malformed."""
    assert snapshot_of({READY: text})[READY] == Document(READY, value=True, index=7)


def test_documents_come_by_folder_and_sorted() -> None:
    """`under` gives a folder's documents by key, and none of a folder whose name only begins like it."""
    found = snapshot_of({"tenants/b": {}, "tenants/a": {}, "tenants-old/c": {}, "flags/f": True})
    assert [document.key for document in found.under("tenants")] == ["tenants/a", "tenants/b"]


def test_the_age_is_never_below_zero() -> None:
    """The age counts from the read; a clock that was set back makes it no negative number."""
    found = from_reading(Reading(()), now=100.0)
    assert (found.age(130.0), found.age(40.0)) == (30.0, 0.0)


def test_a_list_of_tenants_is_as_good_as_keys() -> None:
    """One key `tenants` with a list gives the documents that a key for each would give."""
    keys = {f"tenants/{each['id']}": {name: each[name] for name in each if name != "id"} for each in TENANTS}
    assert contents(snapshot_of({"tenants": TENANTS})) == contents(snapshot_of(keys))


@pytest.mark.parametrize(
    "form",
    [
        [{"name": "acme", "enabled": True}, {"name": "zenith", "dags": {"Job": {"limit": 5}}}],
        {"acme": {"enabled": True}, "zenith": {"dags": {"Job": {"limit": 5}}}},
        b"- id: acme\n  enabled: true\n- id: zenith\n  dags: {Job: {limit: 5}}\n",
        b"acme: {enabled: true}\nzenith: {dags: {Job: {limit: 5}}}\n",
    ],
    ids=["by name", "mapping", "YAML list", "YAML mapping"],
)
def test_a_list_may_be_a_mapping_and_an_id_a_name(form: Any) -> None:
    """A mapping by id, entries with `name`, and YAML mean the same as the list with ids."""
    assert contents(snapshot_of({"tenants": form})) == contents(snapshot_of({"tenants": TENANTS}))


def test_list_and_keys_go_together() -> None:
    """A tenant in a key of its own stands beside those of the list, and each knows where it came from."""
    found = snapshot_of({"tenants": TENANTS[:1], "tenants/zenith": {}})
    assert {key: document.origin for key, document in found.items()} == {
        "tenants/acme": "tenants",
        "tenants/zenith": None,
    }


@pytest.mark.parametrize("form", [{"tenants": [*TENANTS, *TENANTS[:1]]}, {"tenants": TENANTS, "tenants/acme": {}}])
def test_two_documents_of_one_id_are_neither(form: Any) -> None:
    """Which of two would win is left to nobody's guess: that tenant is malformed, the others are not."""
    found = snapshot_of(form)
    assert "two documents of this id" in (found["tenants/acme"].malformed or "")
    assert found["tenants/zenith"].malformed is None


@pytest.mark.parametrize("entry", [{"enabled": True}, {"id": 7}, "acme", None, [], {"id": None}])
def test_an_entry_without_an_id_is_marked_alone(entry: Any) -> None:
    """An entry of the list that names no tenant is malformed at its place, and the others are not."""
    found = snapshot_of({"tenants": [entry, *TENANTS]})
    assert found["tenants/[0]"].malformed == "a tenant in the list `tenants` needs an `id`"
    assert [key for key in found if not found[key].malformed] == ["tenants/acme", "tenants/zenith"]


@pytest.mark.parametrize("form", [5, "acme", None, True, b"[{"])
def test_a_list_that_is_none_stays_and_is_malformed(form: Any) -> None:
    """What cannot be a list of tenants says nothing about tenants: it is marked, and no tenant is made of it."""
    found = snapshot_of({"tenants": form, "tenants/acme": {}})
    assert sorted(found) == ["tenants", "tenants/acme"]
    assert found["tenants"].malformed


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """Whenever a process is killed that writes snapshots, the file is the one it wrote last or the one before."""
    path, chance, interrupted = tmp_path / "snapshot", random.Random(), 0  # noqa: S311  # no secret
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", WRITES_ALTERNATELY, path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()  # it is in its loop
            threading.Event().wait(chance.uniform(0, 0.03))
            writer.kill()
        interrupted += len(list(tmp_path.glob(".*.new"))) > 0
        found = snapshot.load(path)
        name = next(iter(found))[len("tenants/")]
        assert contents(found) == {f"tenants/{name}{number}": {"text": name * 1000} for number in range(3000)}
        keyed_file.remove_leftovers(tmp_path)
        assert [each.name for each in tmp_path.iterdir()] == ["snapshot"]
    assert interrupted > 0  # else no kill has come while it wrote, and nothing was tested


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b'{"a":', "malformed JSON"),
        (b"[1]", "expected an object"),
        (b'{"password": "hunter2"}', "password looks like a secret"),
    ],
)
def test_a_project_keeps_its_last_good_contents(broken: bytes, reason: str) -> None:
    """A project's document that cannot be used is marked, and holds what it held before."""
    before = from_reading(reading({"projects/flywheel": (b'{"size": 1}', 1)}), now=0)
    first = from_reading(reading({"projects/flywheel": (broken, 2)}), now=0, previous=before)
    later = from_reading(reading({"projects/flywheel": (broken, 2)}), now=0, previous=first)
    for found in (first["projects/flywheel"], later["projects/flywheel"]):
        assert found.value == {"size": 1}
        assert reason in (found.malformed or "")


def test_another_version_of_this_package_decodes_anew() -> None:
    """What one version could not decode the next one may: nothing that another has decoded is taken over."""
    entries = reading({"tenants/a": (b"{}", 1)})
    body = keyed_file.body_of({"tenants/a": '[1,2745614147,null,"an old fault"]'})
    for version, malformed in (("0.0.0", None), (snapshot.DECODER, "an old fault")):
        old = Snapshot(body, "x", decoded_by=version)
        assert from_reading(entries, now=0, previous=old)["tenants/a"].malformed == malformed


SECRET = "hunter2-hunter2"  # noqa: S105  # nobody's
WITH_SECRET = {"dags": {"Job": {"password": SECRET}}}


@pytest.mark.parametrize("key", ["tenants/acme", "defaults", "nobodys/key", "projects/billing"])
def test_a_refused_secret_is_kept_nowhere(key: str) -> None:
    """A snapshot is written to disks and into the history: of a document with a secret it has a checksum only."""
    found = snapshot_of({key: WITH_SECRET})
    assert SECRET.encode() not in found.body
    assert "looks like a secret" in (found[key].malformed or "")


def test_a_secret_in_the_list_of_tenants_is_its_own_tenants() -> None:
    """Only the tenant with the secret is refused, and its text is not kept."""
    found = snapshot_of({"tenants": [{"id": "acme", **WITH_SECRET}, {"id": "good", "dags": {"Job": {}}}]})
    assert SECRET.encode() not in found.body
    assert found["tenants/acme"].malformed
    assert found["tenants/good"].value == {"dags": {"Job": {}}}


def test_a_secret_that_replaces_a_good_document_is_not_kept() -> None:
    """The former contents stay with what is deployed; the snapshot keeps neither them nor the new text."""
    good = snapshot_of({"tenants/acme": {"dags": {"Job": {}}}})
    reading = Reading((Entry("tenants/acme", json.dumps(WITH_SECRET).encode(), 8),), source="memory://test")
    found = snapshot.from_reading(reading, now=1.0, previous=good)
    assert SECRET.encode() not in found.body
    assert found.version != good.version
