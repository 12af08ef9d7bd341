"""The signature of a deployment's head: the right to write into the store is no right to say what is deployed."""

from __future__ import annotations

import hmac
import json
from pathlib import Path

import pytest

from dagfactory_consul.errors import PointerRefusedError, SettingsError, StoreUnreachable
from dagfactory_consul.head import Head, Heads
from dagfactory_consul.signature import Signer, signer_of
from dagfactory_consul.stores.memory import MemoryStore
from tests.bundles import DEPLOYMENT, DatabaseDown, Machine, Site
from tests.test_head import HEAD
from tests.test_worker import worker

KEYS = {name: f"{name * 43}=" for name in "abc"}
"""Of Airflow's form, nobody's."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A deployment with one tenant, whose Airflow has a fernet key."""
    use(monkeypatch, "a")
    site = Site(tmp_path)
    site.tenant("acme")
    return site


def use(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Give these fernet keys to the processors that start from now on."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", ",".join(KEYS[name] for name in names))


def stored(site: Site) -> bytes:
    """Return the store's head."""
    entry = site.store("runtime").get(f"{DEPLOYMENT}/head")
    assert entry is not None
    return entry.value


def store(site: Site, value: bytes) -> None:
    """Write the store's head, as somebody who has that right."""
    site.store("runtime").put(f"{DEPLOYMENT}/head", value)


def strip(site: Site, **fields: object) -> bytes:
    """Write the store's head as a version of this package without signatures would, with other fields."""
    known = {**json.loads(stored(site)), **fields, "format": 1}
    known.pop("signature", None)
    store(site, json.dumps(known).encode())
    return stored(site)


def is_signed(site: Site, name: str = "a") -> bool:
    """Say whether the store's head is signed with a key."""
    heads = Heads(lambda: site.store("runtime"), DEPLOYMENT, Path(), lambda: signer_of(KEYS[name]))
    entry = heads.read()
    assert entry is not None
    return heads.is_signed(entry, Head.of_bytes(entry.value))


def said(machine: Machine) -> list[str]:
    """Return the problems after one look that does not write the store's head again."""
    machine.processor.agreement.RESTORE_AFTER = 1_000.0  # type: ignore[misc]
    found = machine.refresh().processor.problems()
    machine.processor.agreement.RESTORE_AFTER = 0.0  # type: ignore[misc]
    return found


def knows(machine: Machine, version: str) -> Machine:
    """Have Airflow's database say which version of the bundle it has."""
    machine.runs.version = version
    return machine


def test_the_first_key_signs_and_any_verifies() -> None:
    """A fernet key is changed as Airflow documents it: the new one before the old one, until all have both."""
    old, both, new = signer_of(KEYS["a"]), signer_of(f"{KEYS['b']}, {KEYS['a']},"), signer_of(KEYS["b"])
    assert both.is_good(b"data", old.sign(b"data"))
    assert new.is_good(b"data", both.sign(b"data"))
    assert not old.is_good(b"data", both.sign(b"data"))


def test_the_key_is_derived() -> None:
    """The key is derived as RFC 5869 says (HKDF-SHA256), so that another release derives the same one."""
    extracted = hmac.digest(bytes(32), KEYS["a"].encode(), "sha256")
    assert signer_of(KEYS["a"]).keys == (hmac.digest(extracted, b"dagfactory-consul head\x01", "sha256"),)


@pytest.mark.parametrize("signature", [None, "", "00", 5, ["x"], "é" * 64, "\ud800"])
def test_nothing_but_a_signature_is_good(signature: object) -> None:
    """Any other value in the place of a signature is refused, without an error."""
    assert not signer_of(KEYS["a"]).is_good(b"data", signature)
    assert Signer().is_good(b"data", signature)


def test_a_signature_is_good_for_one_deployment(tmp_path: Path) -> None:
    """The head of one deployment under another one's key is not signed."""
    beside = MemoryStore(tmp_path.name)
    one, other = (Heads(lambda: beside, name, tmp_path, lambda: signer_of(KEYS["a"])) for name in ("one", "other"))
    one.swap(HEAD, None)
    entry = one.read()
    assert entry is not None
    assert one.is_signed(entry, HEAD)
    assert not other.is_signed(entry, HEAD)


def test_what_is_published_is_signed(site: Site) -> None:
    """The next processor takes over a head that is signed with its own key, whatever the database says."""
    one = site.machine().settle()
    assert is_signed(site)
    assert site.machine("two").settle().head == one.head


@pytest.mark.parametrize("change", [{"sequence": 99}, {"version": "forged"}, {"bundle": "other"}, {"state": "forged"}])
@pytest.mark.parametrize("keep", [True, False])
def test_a_forged_head_changes_nothing(site: Site, change: dict[str, object], *, keep: bool) -> None:
    """Other contents under the old signature, or under none, are a problem, and the processor writes its own again."""
    one = site.machine().settle()
    before = one.head
    if keep:
        store(site, json.dumps({**json.loads(stored(site)), **change}).encode())
    else:
        strip(site, **change)
    assert any("is not signed" in line for line in said(one))
    one.settle()
    assert (one.head.version, one.head.sequence) == (before.version, before.sequence + 1)
    assert is_signed(site)
    assert one.processor.problems() == []


def test_a_refused_head_stops_no_change(site: Site) -> None:
    """A change of a tenant is published over a head that is refused."""
    one = site.machine().settle()
    strip(site, sequence=99, version="forged")
    site.tenant("acme", limit=20)
    one.settle()
    assert is_signed(site)
    assert Head.of_bytes(stored(site)) == one.head
    assert "20" in "".join(one.files().values())


def test_an_older_head_is_written_over(site: Site) -> None:
    """A former head with its good signature takes nothing back where a later one is known."""
    one = site.machine().settle()
    old = stored(site)
    site.tenant("acme", limit=20)
    later = one.settle().head
    store(site, old)
    assert one.settle().head.version == later.version
    assert site.machine("two").settle().head.version == later.version


def test_after_an_upgrade_the_head_is_signed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor signs the head that its own disk has, without a problem and without a question to the database."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    one = site.machine().settle()
    strip(site)
    use(monkeypatch, "a")
    assert one.restart().settle().processor.problems() == []
    assert is_signed(site)


def test_the_database_vouches_once(site: Site) -> None:
    """A new processor takes over an unsigned head whose version Airflow's database has, and signs it at once."""
    version = site.machine().settle().head.version
    strip(site)
    two = knows(site.machine("two"), version).settle()
    assert (two.head.version, is_signed(site)) == (version, True)
    strip(site)
    knows(site.machine("three"), version).settle()
    assert is_signed(site)


def test_nothing_vouches_for_a_signature_that_was_stripped(site: Site) -> None:
    """After a signed head no unsigned one is taken over, whatever the database has, and also after a restart."""
    one = knows(site.machine(), "later").settle()
    site.tenant("acme", limit=20)
    site.machine("two").settle()
    one.refresh()
    strip(site, version="later", sequence=9)
    assert any("has seen a signed one" in line for line in said(one))
    assert any("has seen a signed one" in line for line in said(one.restart()))


@pytest.mark.parametrize("version", [None, "another"])
def test_a_new_processor_refuses_an_unknown_version(site: Site, version: str | None) -> None:
    """An unsigned head whose version the database does not have is an error with the next step, and stays as it is."""
    site.machine().settle()
    unsigned = strip(site, version="forged")
    two = site.machine("two")
    if version is not None:
        knows(two, version)
    with pytest.raises(PointerRefusedError, match=r"Airflow's database has .*delete that key"):
        two.refresh()
    assert stored(site) == unsigned


def test_a_database_that_does_not_answer_vouches_for_nothing(site: Site) -> None:
    """While the database cannot be asked an unsigned head is refused; once it answers the head is taken over."""
    version = site.machine().settle().head.version
    strip(site)
    two = site.machine("two")
    scripted, two.occupancy = two.occupancy, DatabaseDown()
    with pytest.raises(PointerRefusedError, match="the database is down"):
        two.refresh()
    two.occupancy = scripted
    assert knows(two, version).settle().head.version == version


def test_signatures_can_be_required(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting no unsigned head is taken over; without a fernet key the setting itself is an error."""
    version = site.machine().settle().head.version
    strip(site)
    with pytest.raises(PointerRefusedError, match="REQUIRE_SIGNATURE is set"):
        knows(site.machine("two", require_signature=True), version).refresh()
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    with pytest.raises(SettingsError, match="AIRFLOW__CORE__FERNET_KEY"):
        site.machine("three", require_signature=True)


def test_two_keys_are_a_problem_of_both(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors with different fernet keys take nothing from each other and say so; with both keys they agree."""
    one = site.machine().settle()
    use(monkeypatch, "b")
    with pytest.raises(PointerRefusedError, match="one fernet_key"):
        site.machine("two").refresh()
    use(monkeypatch, "b", "a")
    assert site.machine("two").settle().head.version == one.head.version


def test_a_key_that_was_replaced(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fernet key was replaced with no overlap the processor signs the head of its own disk with the new key."""
    one = site.machine().settle()
    use(monkeypatch, "b")
    assert one.restart().settle().processor.problems() == []
    assert is_signed(site, "b")


def test_refused_heads_are_replaced_ever_less_often(site: Site) -> None:
    """Somebody who writes the head again and again causes fewer and fewer writes."""
    agreement = site.machine().settle().processor.agreement
    written = []
    for _ in range(3):
        strip(site, sequence=99)
        agreement.look()
        agreement.restore()
        written.append(is_signed(site))
        agreement.RESTORE_AFTER = 1_000.0  # type: ignore[misc]
    assert written == [True, False, False]


def test_a_worker_without_a_version_checks_the_signature(site: Site) -> None:
    """An unpinned task on a machine of its own starts from a signed head alone; else it starts again later."""
    version = site.machine().settle().head.version
    away = worker(site)
    assert away.current() == version
    strip(site)
    with pytest.raises(StoreUnreachable, match="is not signed"):
        away.current()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sequence", "5"),
        ("sequence", None),
        ("sequence", 1.5),
        ("documents", []),
        ("documents", {"00": 1}),
        ("at", "x"),
    ],
)
def test_types_are_checked(field: str, value: object) -> None:
    """A field of another type is a ValueError that names the field."""
    with pytest.raises(ValueError, match=field):
        Head.of_bytes(json.dumps({**json.loads(HEAD.to_bytes()), field: value}).encode())
