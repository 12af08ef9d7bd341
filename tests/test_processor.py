"""The DAG processor's part: what it publishes, takes over, holds back, drains, and comes through."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagfactory_consul.builders import FORMER
from dagfactory_consul.errors import NothingKnownError, SettingsError
from dagfactory_consul.layout import Layout
from dagfactory_consul.occupancy import Elsewhere, Parsed
from dagfactory_consul.processor import Processor
from dagfactory_consul.rivals import Rivals
from dagfactory_consul.rollout import Rollout
from dagfactory_consul.stores.base import READY
from tests.bundles import DatabaseDown, Machine, Site
from tests.deployment import JOB, shown
from tests.making import write
from tests.waiting import wait_until

DAY = 86_400.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A deployment with two tenants of one DAG each."""
    site = Site(tmp_path)
    site.tenant("acme", "zenith")
    return site


@pytest.fixture
def one(site: Site) -> Machine:
    """A machine with both in force."""
    return site.machine().settle()


def limits(machine: Machine) -> dict[str, str]:
    """Return what each DAG was built with."""
    return {dag_id: shown(dag) for dag_id, dag in machine.dags().items()}


def limits_of_good(machine: Machine) -> dict[str, str]:
    """Return the same where something is wrong with other files."""
    return {dag_id: shown(dag) for dag_id, dag in machine.bag().dags.items()}


def draining(machine: Machine) -> list[str]:
    return sorted(dag_id for dag_id, dag in machine.dags().items() if "draining" in dag.tags)


# What changes


def test_the_dags_of_a_store_are_in_force_after_one_refresh(site: Site) -> None:
    """The first refresh plans, checks and publishes; what it says is parsed without an error."""
    assert limits(site.machine().refresh()) == {"acme__job": "10 v1", "zenith__job": "10 v1"}


def test_a_change_is_in_force_after_one_refresh(site: Site, one: Machine) -> None:
    """A change of one tenant is there with the next refresh, under a version of its own, and touches no other file."""
    before, files = one.head, one.files()
    site.tenant("acme", limit=20)
    one.refresh()
    assert limits(one) == {"acme__job": "20 v1", "zenith__job": "10 v1"}
    assert one.head.version != before.version
    assert one.head.sequence == before.sequence + 1
    assert one.files()["tenants/zenith.py"] == files["tenants/zenith.py"]


def test_nothing_is_written_where_nothing_has_changed(site: Site, one: Machine) -> None:
    """A refresh without a change starts no preflight, and writes neither into the store nor into a file."""
    before = stamps(site.folder)
    one.refresh()
    assert not one.processor.rollout.preflight.busy
    changed = {path for path, at in stamps(site.folder).items() if before.get(path) != at}
    assert {path.name for path in changed} <= {"attempt.json", "lock"}


def test_a_second_call_within_the_pause_does_nothing(site: Site, one: Machine) -> None:
    """Airflow may ask twenty times a second: within the pause nothing is looked at."""
    one.processor.PAUSE = 1_000.0  # type: ignore[misc]
    one.refresh()
    site.tenant("acme", limit=20)
    assert limits(one.refresh())["acme__job"] == "10 v1"


def test_an_index_alone_is_no_new_file(site: Site, one: Machine) -> None:
    """A document that is written again as it was changes no file: its new index is no reason to parse."""
    before = stamps(one.path)
    site.tenant("acme")
    one.settle()
    assert stamps(one.path) == before


def test_a_builder_that_fails_at_a_change_keeps_the_last_good_dag(site: Site, one: Machine) -> None:
    """What the preflight refuses is not published: its DAG stays as it was, and problems.py raises the reason."""
    site.tenant("acme", mood="raising")
    site.tenant("zenith", limit=20)
    one.refresh()
    assert sorted(one.bag().dags) == ["acme__job", "zenith__job"]
    assert "no such region" in one.errors()
    assert "10 v1" in str(shown(one.bag().dags["acme__job"]))


def test_a_pool_is_made_later(site: Site, one: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DAG whose tasks name a pool that Airflow lacks stays as it was, and follows by itself when the pool is made."""
    monkeypatch.setattr(Rollout, "POOLS_INTERVAL", 0.0)
    site.tenant("acme", limit=20, airflow={"pool": "gold"})
    assert "there is no pool 'gold' (task only)" in one.settle().errors()
    assert shown(one.bag().dags["acme__job"]) == "10 v1"
    one.runs.made_pools.add("gold")
    assert one.settle().errors() == ""
    assert limits(one)["acme__job"] == "20 v1"


def test_a_dag_of_another_bundle_follows_when_it_is_free(
    site: Site, one: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new DAG that another bundle has is left out, also by the next change; it follows when that one gives it up."""
    monkeypatch.setattr(Rivals, "AGAIN", 0.0)
    one.runs.others["umbrella__job"] = Elsewhere("by-hand", site.clock())
    site.tenant("umbrella")
    assert "the bundle 'by-hand' of this Airflow has umbrella__job" in one.settle().errors()
    site.tenant("acme", limit=20)
    assert limits_of_good(one.settle()) == {"acme__job": "20 v1", "zenith__job": "10 v1"}
    one.runs.others.clear()
    assert one.settle().errors() == ""
    assert sorted(one.dags()) == ["acme__job", "umbrella__job", "zenith__job"]


def test_problems_follow(site: Site, one: Machine) -> None:
    """The file of problems raises them while there are any, and no longer once they are mended."""
    site.put("tenants/acme", b"{")
    assert "tenants/acme" in one.refresh().errors()
    site.tenant("acme")
    one.refresh()
    assert one.errors() == ""


REFUSED: dict[str, Any] = {
    "document": {"dags": {"Job": {"limit": "many"}}},
    "builder": {"dags": {"Job": {"mood": "raising"}}},
}
"""Documents that are refused when they are planned, and when their DAG is built."""


@pytest.mark.parametrize("why", REFUSED)
def test_a_former_configuration_is_marked(site: Site, one: Machine, why: str) -> None:
    """A DAG that keeps a former configuration says so by a tag, on its page and in the status. No other does."""
    site.clock.now = 1_700_000_000.0
    site.put("tenants/acme", REFUSED[why])
    dags = one.refresh().bag().dags
    assert shown(dags["acme__job"]) == "10 v1"
    assert FORMER in dags["acme__job"].tags
    assert "since 2023-11-14 22:13:20 UTC what `tenants/acme` says of this DAG is refused" in str(
        dags["acme__job"].doc_md
    )
    assert FORMER not in dags["zenith__job"].tags
    reporter = one.processor.reporter
    status = reporter.store.get(reporter.key)
    assert status is not None
    (told,) = json.loads(status.value)["refused"]
    assert (told["dag"], told["tenant"], told["since"]) == ("acme__job", "acme", 1_700_000_000.0)
    assert "tenants/acme" in told["problem"]


def test_a_mark_is_set_once_and_goes(site: Site, one: Machine) -> None:
    """Further edits that are refused make no further version. With one that is good the DAG is what it always was."""
    files = one.files()
    site.put("tenants/acme", REFUSED["document"])
    marked = one.refresh().head.version
    site.clock.now += 60
    site.put("tenants/acme", REFUSED["builder"])
    assert one.refresh().head.version == marked
    assert one.files()["tenants/zenith.py"] == files["tenants/zenith.py"]
    site.tenant("acme")
    assert FORMER not in one.refresh().bag().dags["acme__job"].tags
    assert "refused" not in one.files()["tenants/acme.py"]


def test_a_mark_outlives_a_restart(site: Site, one: Machine) -> None:
    """Since when a configuration is refused is part of what is published."""
    site.put("tenants/acme", REFUSED["document"])
    before = str(one.refresh().bag().dags["acme__job"].doc_md)
    site.clock.now += 60
    assert str(one.wipe().settle().bag().dags["acme__job"].doc_md) == before


def test_a_rule_that_asks_for_the_time_is_planned_anew(site: Site) -> None:
    """A flag whose rule asks for the time changes without any change in the store."""
    due = {"if": [{">": [{"var": "$flagd.timestamp"}, site.clock() + 60]}, "late", "early"]}
    site.put("flags/parser", {"state": "ENABLED", "variants": {"late": "v9", "early": "v1"}, "targeting": due})
    one = site.machine().settle()
    one.processor.rollout.AGAIN = 0.0  # type: ignore[misc]
    site.clock.now += 61
    assert limits(one.refresh())["acme__job"] == "10 v9"
    version = one.head
    assert one.settle().head == version


# Waiting


class Waits:
    """The waits of a processor for a change, which Airflow lets sleep enough, and what happens meanwhile."""

    def __init__(self, machine: Machine) -> None:
        self.seconds: list[float] = []
        self.meanwhile: list[Callable[[], object]] = []
        machine.processor.client.await_change = self._await  # type: ignore[method-assign]
        machine.processor.IDLE = -1.0  # type: ignore[misc]

    def _await(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        for each in self.meanwhile:
            each()
        return bool(self.meanwhile)


def find(machine: Machine) -> Machine:
    """Have Airflow parse all files twice, so that it has surely found what was written."""
    for _ in range(3):
        machine.site.clock.now += 1
        machine.refresh()
    return machine


def test_a_change_is_waited_for_while_airflow_sleeps(site: Site, one: Machine) -> None:
    """Between two looks Airflow's processor sleeps: a part of that is spent where a change ends it."""
    waits = Waits(find(one))
    waits.meanwhile = [lambda: site.tenant("acme", limit=20)]
    assert limits(one.refresh())["acme__job"] == "20 v1"
    assert waits.seconds == [Processor.AWAIT]


def test_nothing_is_waited_for_while_airflow_works(one: Machine) -> None:
    """What it does between two looks would have to wait."""
    waits = Waits(find(one))
    one.processor.IDLE = 1_000.0  # type: ignore[misc]
    one.refresh()
    assert waits.seconds == []


def test_nothing_is_waited_for_while_files_are_to_be_parsed(site: Site, one: Machine) -> None:
    """Airflow's processor parses nothing while it waits."""
    waits = Waits(find(one))
    one.runs.found = {}
    site.tenant("acme", limit=20)
    one.refresh()
    one.refresh()
    assert waits.seconds == []


@pytest.mark.usefixtures("one")
def test_one_of_several_waits(site: Site) -> None:
    """Who has published last does, or all would try each change at the same moment."""
    two = site.machine("two").settle()
    waits = Waits(two)
    find(two)
    assert waits.seconds == []
    site.tenant("acme", limit=20)
    find(two)
    assert waits.seconds


# Several processors


def test_another_machine_takes_over_what_one_has_published(site: Site, one: Machine) -> None:
    """A processor with nothing reads what was agreed on: same version, same files, and nothing is written."""
    head = site.store("runtime").get("tested/head")
    two = site.machine("two").settle()
    assert two.files() == one.files()
    assert limits(two) == limits(one)
    assert site.store("runtime").get("tested/head") == head


def test_a_change_is_laid_out_elsewhere_once_its_publisher_has_parsed_it(site: Site, one: Machine) -> None:
    """Who takes a change over waits until Airflow has it: two that insert the same new DAG end one of them."""
    two = site.machine("two").settle()
    site.tenant("newcomer")
    site.clock.now += 10
    one.refresh()
    two.runs.found = {}
    assert "newcomer__job" not in two.refresh().dags()
    two.runs.found = {"newcomer__job": Parsed("tenants/newcomer.py", site.clock())}
    assert "newcomer__job" in two.refresh().dags()


def test_what_is_found_as_it_was_before_is_found_again(site: Site, one: Machine) -> None:
    """A processor that has not followed yet ends a late parse: what it says is corrected by who has the change."""
    path, old = one.path / "tenants/acme.py", one.head.version
    site.tenant("acme", limit=20)
    one.refresh()
    for version, touched in ((one.head.version, True), (one.head.version, False), (old, True)):
        site.clock.now += 1
        one.runs.found = {"acme__job": Parsed("tenants/acme.py", site.clock(), version)}
        os.utime(path, ns=(1_000, 1_000))
        one.refresh()
        assert (path.stat().st_mtime_ns != 1_000) == touched
        site.clock.now += 1


def test_what_returns_is_not_called_back(tmp_path: Path) -> None:
    """What returns to what it was bears its old name: a machine that has yet to follow does not work against it."""
    site = Site(tmp_path)
    site.tenant("acme", "zenith")
    site.put("flags/job", True)
    one, two = site.machine("one").settle(), site.machine("two").settle()
    names = [one.head.version]
    for value in (False, True):
        site.put("flags/job", value)
        one.runs.running = two.runs.running = {"acme__job", "zenith__job"}
        one.refresh()
        names.append(one.head.version)
        if not value:
            two.settle()
    assert names[0] == names[2] == one.head.version != two.head.version
    for machine in (one, two):
        machine.processor.REST = 1_000.0  # type: ignore[misc]
        path = machine.path / "tenants/acme.py"
        for touched in (True, False, False):  # once, since a parse may have begun before the file was written
            site.clock.now += 1
            machine.runs.found = {
                f"{name}__job": Parsed(f"tenants/{name}.py", site.clock(), names[0]) for name in ("acme", "zenith")
            }
            os.utime(path, ns=(1_000, 1_000))
            site.clock.now += 1
            machine.refresh()
            assert (path.stat().st_mtime_ns != 1_000) == touched
    assert two.head.version == names[1]


def test_patience_ends(site: Site, one: Machine) -> None:
    """A publisher that died before it parsed its change is not waited for longer than the patience allows."""
    two = site.machine("two").settle()
    site.tenant("newcomer")
    one.refresh()
    two.processor.PATIENCE = 0.0  # type: ignore[misc]
    two.runs.found = {}
    wait_until(lambda: "newcomer__job" in two.refresh().dags())
    assert two.head == one.head


def test_who_is_second_takes_over_what_the_first_wrote(site: Site, one: Machine) -> None:
    """Two that publish the same change at once: one of them wins, and the other one takes its version over."""
    two = site.machine("two").settle()
    site.tenant("acme", limit=20)
    two.faults.before_swap.append(one.refresh)
    two.settle()
    assert two.head == one.head
    assert limits(two) == limits(one) == {"acme__job": "20 v1", "zenith__job": "10 v1"}


def test_two_that_see_changes_in_turn_agree(site: Site, one: Machine) -> None:
    """Whoever sees a change first, all come to the same head, and none of them writes again after that."""
    two = site.machine("two").settle()
    for number, machine in enumerate([one, two, one, two]):
        site.tenant("acme", limit=number)
        machine.refresh()
    one.settle()
    two.settle()
    assert one.settle().head == two.settle().head
    assert limits(one) == limits(two)
    assert one.files() == two.files()


def test_back_and_forth_on_two_machines(tmp_path: Path) -> None:
    """What returns to a former state may stand in other files than then: all agree on them, and lose nothing."""
    site = Site(tmp_path)
    site.tenant(*(f"t{number}" for number in range(10)))  # so many share a file, and one that changes leaves it
    one, two = site.machine("one").settle(), site.machine("two").settle()
    for limit in (20, 10):
        site.tenant("t3", limit=limit)
        one.settle()
        two.settle()
    assert one.files() == two.files()
    for _ in range(3):
        assert two.processor.agreement.edition is not None
        two.processor.retention.sweep(two.processor.agreement.edition, now=True)
    assert limits(site.machine("three").settle()) == limits(one)


# Restarts, and what is lost


def test_a_restart_without_a_store(site: Site, one: Machine) -> None:
    """A processor that starts while the store is away shows what this machine had in force."""
    before = limits(one)
    site.unmount()
    assert limits(one.restart().refresh()) == before
    site.clock.now += 60
    assert "stays in force" in one.refresh().errors()


def test_a_restart_writes_no_file(one: Machine) -> None:
    """A processor that starts again finds its files as it left them: Airflow parses nothing for it."""
    before = stamps(one.path)
    one.restart().settle()
    assert stamps(one.path) == before


def test_a_restart_after_a_wiped_disk(site: Site, one: Machine) -> None:
    """What was agreed on comes back from the history, drain and problems included."""
    site.put("tenants/acme", b"{")
    site.put("tenants/zenith", {"enabled": False, "dags": {"Job": {}}})
    one.runs.running = {"zenith__job"}
    before = one.settle().files()
    head = one.head
    assert one.wipe().refresh().files() == before
    assert one.head == head
    assert "tenants/acme" in one.errors()
    assert sorted(one.bag().dags) == ["acme__job", "zenith__job"]


def test_a_wiped_disk_is_filled_at_once_where_airflow_knows_the_dags(site: Site, one: Machine) -> None:
    """Patience is for new DAGs: where Airflow has parsed all of them, long ago, nobody else has to have his turn."""
    site.clock.now += 1_000
    names = ("acme", "zenith")
    known = {f"{name}__job": Parsed(f"tenants/{name}.py", site.clock() - 2_000) for name in names}
    one.wipe()
    one.occupancy = type(one.runs)(one)
    one.runs.found = known
    assert sorted(one.refresh().dags()) == ["acme__job", "zenith__job"]


@pytest.mark.parametrize(
    "lost", ["tenants/acme.py", "tenants", "code", ".airflowignore", "."], ids=["file", "folder", "code", "list", "all"]
)
def test_what_is_deleted_comes_back(one: Machine, lost: str) -> None:
    """Somebody tidies up on the processor's disk: the next look puts it back, and publishes nothing for it."""

    def present() -> set[Path]:
        return {path for path in stamps(one.path) if path.suffix != ".pyc"}  # what Python has compiled meanwhile

    before, head = present(), one.head
    found = one.path / lost
    shutil.rmtree(found) if found.is_dir() else found.unlink()
    one.refresh()
    assert present() == before
    assert sorted(one.dags()) == ["acme__job", "zenith__job"]
    assert one.head == head


def test_code_that_was_lost(site: Site, one: Machine) -> None:
    """An edition whose code is in no history any more cannot be taken over: it is worked out anew."""
    version = site.history().version(one.head.version)
    assert version is not None
    assert version.code_blob is not None
    site.history().drop([], [version.code_blob])
    assert sorted(one.wipe().settle().dags()) == ["acme__job", "zenith__job"]


def test_a_damaged_head_on_this_machine(one: Machine) -> None:
    """What cannot be read of this machine's own is had from the store."""
    before = limits(one)
    (one.base / "head.json").write_bytes(b"{")
    assert limits(one.restart().settle()) == before


def test_a_damaged_cache(one: Machine) -> None:
    """Contents on this machine that are not what their names say are had from the store."""
    before = one.files()
    for path in (one.base / "cache").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    assert one.restart().settle().files() == before


def test_a_damaged_head_in_the_store(site: Site, one: Machine) -> None:
    """A head that nobody can read is written again from what is in force."""
    site.store("runtime").put("tested/head", b"damaged")
    one.settle()
    two = site.machine("two").settle()
    assert limits(two) == limits(one)


def test_a_head_of_a_later_format(site: Site) -> None:
    """A newer version's head is no reason to fall over: what the store says is worked out, and said."""
    site.store("runtime").put("tested/head", b'{"format": 99, "what": "nobody here knows"}')
    assert sorted(site.machine().settle().dags()) == ["acme__job", "zenith__job"]


def test_another_bundles_deployment(site: Site, one: Machine) -> None:
    """Two bundles of one name of deployment would undo each other's work: the second is told, and the first goes on."""
    site.store("runtime").put("tested/head", one.head._replace(bundle="other", sequence=9).to_bytes())
    before = limits(one)
    assert limits_of_good(one.settle()) == before
    assert "give one of them another deployment" in one.errors()
    with pytest.raises(SettingsError, match="give one of them another deployment"):
        site.machine("two").refresh()


def test_an_emptied_store_is_filled_again(site: Site, one: Machine) -> None:
    """All that the deployment had agreed on is lost: it is written again, with versions that runs may need."""
    first = one.head.version
    site.tenant("acme", limit=20)
    one.settle()
    site.forget()
    one.settle()
    assert site.machine("two").settle().files() == one.files()
    assert shown(site.machine("three").start("acme__job", first, "tenants/acme.py")["acme__job"]) == "10 v1"


def test_a_change_that_comes_with_an_emptied_store(site: Site, one: Machine) -> None:
    """Whatever else changes at that moment: what is published then is complete, for a worker that has nothing."""
    first = one.head.version
    site.forget()
    site.tenant("acme", limit=20)
    one.settle()
    three = site.machine("three")
    assert shown(three.start("zenith__job", one.head.version, "tenants/zenith.py")["zenith__job"]) == "10 v1"
    assert shown(three.start("acme__job", first, "tenants/acme.py")["acme__job"]) == "10 v1"


def test_contents_are_written_again_once(site: Site, one: Machine) -> None:
    """Many versions share most of their contents: a store that is filled again gets each of them once."""
    for limit in range(5):
        site.tenant("acme", limit=limit)
        one.refresh()
    site.forget()
    written: list[str] = []
    one.faults.on_write = written.extend
    one.settle()
    assert len(written) == len(set(written))


@pytest.mark.parametrize("change", [False, True])
def test_an_older_store_is_brought_forward(site: Site, one: Machine, *, change: bool) -> None:
    """A store that is restored from an older copy is no way back: what was in force since is written again."""
    shutil.copytree(site.folder / "config-runtime", site.folder / "copy")
    shutil.copytree(site.folder / "config-history", site.folder / "copied")
    site.tenant("acme", limit=20)
    one.settle()
    for name, copy in (("runtime", "copy"), ("history", "copied")):
        shutil.rmtree(site.folder / f"config-{name}")
        shutil.copytree(site.folder / copy, site.folder / f"config-{name}")
    if change:
        site.tenant("acme", limit=30)
    one.settle()
    found = limits(site.machine("two").settle())
    assert found == limits(one) == {"acme__job": "30 v1" if change else "20 v1", "zenith__job": "10 v1"}


def test_a_head_that_lags_behind_is_waited_for(site: Site, one: Machine) -> None:
    """A copy that lags shows an older head for a moment: nothing is written for that."""
    one.processor.agreement.RESTORE_AFTER = 1_000.0  # type: ignore[misc]
    entry = site.store("runtime").get("tested/head")
    assert entry is not None
    site.tenant("acme", limit=20)
    one.settle()
    site.store("runtime").put("tested/head", entry.value)
    one.settle()
    lagging = site.store("runtime").get("tested/head")
    assert lagging is not None
    assert lagging.value == entry.value
    assert limits(one)["acme__job"] == "20 v1"


def test_a_store_that_empties_its_configuration(site: Site, one: Machine) -> None:
    """Documents that vanish are held, not obeyed: all DAGs stay as they are, and it is said."""
    site.remove("tenants/acme", "tenants/zenith")
    one.settle()
    assert sorted(one.bag().dags) == ["acme__job", "zenith__job"]
    assert "held" in one.errors()


def test_documents_that_vanish_while_a_disk_is_wiped(site: Site, one: Machine) -> None:
    """The guard weighs against what the deployment agreed on, and not against what this machine happens to know."""
    names = [f"t{number}" for number in range(8)]
    site.tenant(*names)
    one.settle()
    site.remove(*(f"tenants/{name}" for name in names))
    one.wipe().settle()
    assert len(one.bag().dags) == 10
    assert "held" in one.errors()


def test_whatever_fails_each_refresh_is_said(site: Site, one: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has thought of, too: the DAGs stay, and problems.py says what it is until it is over."""

    def fail(*_: object) -> None:
        raise TypeError("extractall() got an unexpected keyword argument")

    site.tenant("acme", limit=20)
    with monkeypatch.context() as patched:
        patched.setattr(one.processor.rollout, "try_next", fail)
        one.refresh()
        assert one.errors() == "", "once may be a hiccup"
        one.refresh()
        assert "all stays as it is: TypeError: extractall()" in one.errors()
        assert limits_of_good(one) == {"acme__job": "10 v1", "zenith__job": "10 v1"}
    one.settle()
    assert one.errors() == ""
    assert limits(one)["acme__job"] == "20 v1"


def test_no_builders_are_one_problem(tmp_path: Path) -> None:
    """Where no builder is configured that is said once, and not for each tenant."""
    site = Site(tmp_path, builders=())
    site.tenant("acme", "hooli", "zenith")
    one = site.machine().settle()
    assert one.errors().count("no builders are configured") == 1
    assert "AIRFLOW__DAGFACTORY_CONSUL__BUILDERS" in one.errors()
    assert "Named by tenants/acme, tenants/hooli, tenants/zenith" in one.errors()


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    """A store that never held anything gives an error, never zero DAGs."""
    with pytest.raises(NothingKnownError):
        Site(tmp_path).machine().refresh()


def test_a_first_start_without_a_store(site: Site, one: Machine) -> None:
    """A machine that has lost its bundle, and not what it read last, works on with that; all is written later."""
    shutil.rmtree(one.base)
    site.unmount()
    one.restart().settle()
    assert limits(one) == {"acme__job": "10 v1", "zenith__job": "10 v1"}
    site.forget()
    site.mount()
    site.clock.now += 60
    one.settle()
    assert site.history().version(one.head.version) is not None


def test_a_set_without_tenants_is_in_force(tmp_path: Path) -> None:
    """A complete set may hold no tenant at all: that is in force, and no error."""
    site = Site(tmp_path)
    site.put(READY, True)
    assert site.machine().settle().dags() == {}


# Stores that refuse


def test_a_store_that_cannot_be_written(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Without the right to write the processor works on for this machine, and says so once."""
    one = site.machine()
    one.faults.denied = {"write"}
    one.settle()
    site.tenant("acme", limit=20)
    one.settle()
    assert limits(one) == {"acme__job": "20 v1", "zenith__job": "10 v1"}
    one.refresh()
    assert sum("works on without" in record.message for record in caplog.records) == 1
    assert limits(one.restart().settle())["acme__job"] == "20 v1"


def test_rights_that_come_back(site: Site, one: Machine) -> None:
    """A token that was revoked and is valid again needs no hand: what was in force meanwhile is written then."""
    one.faults.denied = {"read", "write"}
    site.tenant("acme", limit=20)
    one.settle()
    assert limits(one)["acme__job"] == "20 v1"
    one.faults.denied = set()
    one.processor.agreement.DENIED_INTERVAL = 0.0  # type: ignore[misc]
    one.settle()
    entry = site.store("runtime").get("tested/head")
    assert entry is not None
    assert entry.value == one.head.to_bytes()
    assert limits(site.machine("two").settle())["acme__job"] == "20 v1"


def test_a_store_that_goes_away_in_between(site: Site, one: Machine) -> None:
    """While the history does not answer nothing is published; the change is there as soon as it answers again."""
    site.tenant("acme", limit=20)
    one.faults.away = {"write"}
    assert limits(one.settle())["acme__job"] == "10 v1"
    one.faults.away = set()
    assert limits(one.settle())["acme__job"] == "20 v1"


def test_a_head_that_cannot_be_asked_for_costs_no_preflight_after_another(site: Site, one: Machine) -> None:
    """What cannot be published is not tried again and again: a preflight costs, and the store may be away for long."""
    one.faults.away = {"read", "write"}
    write(site.builders, JOB.replace("Does a job", "Does a good job"))
    started = count_starts(one)
    for _ in range(5):
        one.refresh()
    assert len(started) <= 1


def test_a_write_whose_answer_is_lost(site: Site, one: Machine) -> None:
    """A head that was written although no answer came is this processor's own: it is laid out, and that is all."""
    site.tenant("acme", limit=20)
    one.faults.away = {"answer"}
    one.refresh()
    written = site.store("runtime").get("tested/head")
    one.faults.away = set()
    assert limits(one.settle())["acme__job"] == "20 v1"
    assert site.store("runtime").get("tested/head") == written


# A processor that is killed


class KilledError(BaseException):
    """Stands for a signal that nobody catches."""


def kill() -> None:
    raise KilledError


class Killing(Layout):
    """A layout whose process is killed before it writes."""

    def write(self, *_: object, **__: object) -> None:
        raise KilledError


def test_killed_between_history_and_head(site: Site, one: Machine) -> None:
    """A version that was written and never agreed on is no version in force; the next processor does the change."""
    site.tenant("acme", limit=20)
    one.faults.before_swap.append(kill)
    with pytest.raises(KilledError):
        one.refresh()
    assert limits(one) == {"acme__job": "10 v1", "zenith__job": "10 v1"}
    assert limits(one.restart().settle())["acme__job"] == "20 v1"


def test_killed_between_head_and_files(site: Site, one: Machine) -> None:
    """A version that was agreed on, and never laid out, is laid out by the next processor."""
    site.tenant("acme", limit=20)
    one.processor.layout = Killing(one.path, one.runs.pointed_at, one.runs.parsed)  # type: ignore[arg-type]
    with pytest.raises(KilledError):
        one.refresh()
    assert limits(one.restart().settle())["acme__job"] == "20 v1"
    assert limits(site.machine("two").settle()) == limits(one)


# Drain


def switch_off(site: Site, name: str = "acme") -> None:
    site.put(f"tenants/{name}", {"enabled": False, "dags": {"Job": {}}})


def test_what_is_switched_off_drains_and_goes(site: Site, one: Machine) -> None:
    """A DAG without runs goes after two looks that have seen none; until then it is there without a schedule."""
    switch_off(site)
    one.refresh()
    assert draining(one) == ["acme__job"]
    one.settle()
    assert sorted(one.dags()) == ["zenith__job"]


def test_what_has_runs_stays(site: Site, one: Machine) -> None:
    """A DAG with an unfinished run stays until that has ended, also over a restart and on another machine."""
    one.runs.running = {"acme__job"}
    switch_off(site)
    one.settle()
    one.restart().settle()
    two = site.machine("two")
    two.runs.running = {"acme__job"}
    assert draining(one) == draining(two.settle()) == ["acme__job"]
    one.runs.running = set()
    assert sorted(one.settle().dags()) == ["zenith__job"]


def test_a_run_that_shows_at_the_last_moment(site: Site, one: Machine) -> None:
    """A run that the scheduler was just creating brings its DAG back, which drains on until that run has ended."""
    switch_off(site)
    assert sorted(one.settle().dags()) == ["zenith__job"]
    one.runs.running = {"acme__job"}
    assert draining(one.settle()) == ["acme__job"]
    one.runs.running = set()
    assert sorted(one.settle().dags()) == ["zenith__job"]


def test_drain_time(site: Site, one: Machine) -> None:
    """When the drain time is over a DAG goes whatever runs it has, and does not come back for them."""
    one.runs.running = {"acme__job"}
    switch_off(site)
    one.settle()
    site.clock.now += DAY + 1
    assert sorted(one.settle().dags()) == ["zenith__job"]
    assert sorted(one.settle().dags()) == ["zenith__job"]


def test_switched_on_again_while_it_drains(site: Site, one: Machine) -> None:
    """A DAG that is switched on again while it drains is simply active."""
    one.runs.running = {"acme__job"}
    switch_off(site)
    one.settle()
    site.tenant("acme")
    one.settle()
    assert draining(one) == []
    assert sorted(one.dags()) == ["acme__job", "zenith__job"]


def test_drain_without_a_database(site: Site, one: Machine) -> None:
    """Where runs cannot be known nothing goes before the drain time is over."""
    one.occupancy = DatabaseDown()
    switch_off(site)
    one.settle()
    assert draining(one) == ["acme__job"]
    site.clock.now += DAY + 1
    assert sorted(one.settle().dags()) == ["zenith__job"]


# The builders' code


def test_new_code_is_in_force_with_all_its_dags(site: Site, one: Machine) -> None:
    """Changed code of a builder is checked and published as a configuration is; the old version keeps the old code."""
    first = one.head.version
    write(site.builders, JOB.replace("{self.config.limit} ", "{self.config.limit}!"))
    one.settle()
    assert limits(one) == {"acme__job": "10!v1", "zenith__job": "10!v1"}
    two = site.machine("two")
    assert shown(two.start("acme__job", first, "tenants/acme.py")["acme__job"]) == "10 v1"


def test_code_that_cannot_build_what_is_in_force_is_held_back(site: Site, one: Machine) -> None:
    """The code before it stays in force, what changes meanwhile is done with that, and it is said."""
    write(site.builders, JOB.replace('raise ValueError("no such region")', "pass").replace("EmptyOperator(", "Empty("))
    one.settle()
    assert "held back" in one.errors()
    site.tenant("acme", limit=20)
    one.settle()
    assert {dag_id: shown(dag) for dag_id, dag in one.bag().dags.items()} == {
        "acme__job": "20 v1",
        "zenith__job": "10 v1",
    }


def test_held_code_is_released_by_what_makes_it_good(site: Site, one: Machine) -> None:
    """Code that was held back comes into force once it is mended, or taken back."""
    write(site.builders, JOB.replace("EmptyOperator(", "Empty("))
    assert "held back" in one.settle().errors()
    write(site.builders, JOB.replace("{self.config.limit} ", "{self.config.limit}!"))
    one.settle()
    assert one.errors() == ""
    assert limits(one)["acme__job"] == "10!v1"


def test_held_code_that_is_taken_back(site: Site, one: Machine) -> None:
    """Code that was held back and is what it was again is no problem any more."""
    write(site.builders, JOB.replace("EmptyOperator(", "Empty("))
    assert "held back" in one.settle().errors()
    write(site.builders, JOB)
    assert one.settle().errors() == ""


def test_code_that_changes_during_its_check(site: Site, one: Machine) -> None:
    """What is published is the code that was checked, and what came meanwhile is checked and published after that."""
    write(site.builders, JOB.replace("{self.config.limit} ", "{self.config.limit}!"))
    one.faults.before_swap.append(
        lambda: write(site.builders, JOB.replace("{self.config.limit} ", "{self.config.limit}?"))
    )
    one.refresh()
    assert limits(one)["acme__job"] == "10!v1"
    two = site.machine("two")
    assert shown(two.start("acme__job", one.head.version, "tenants/acme.py")["acme__job"]) == "10!v1"
    assert limits(one.settle())["acme__job"] == "10?v1"


def test_a_builder_that_moves_to_another_file(site: Site, one: Machine) -> None:
    """A builder may move: its DAGs are what they were, and are built from where it stands now."""
    site.builders.rename(site.builders.with_name("moved.py"))
    one.settle()
    assert limits(one) == limits(one.restart().settle()) == {"acme__job": "10 v1", "zenith__job": "10 v1"}
    assert len(site.machine("two").start("acme__job", one.head.version, "tenants/acme.py")) == 1


def test_code_of_an_inner_bundle(tmp_path: Path) -> None:
    """Both are pinned: a run has the inner bundle's version that it began with, and the configuration of then."""
    site = Site(tmp_path)
    site.tenant("acme")
    for version, mark in (("first", " "), ("second", "!")):
        write(
            tmp_path / f"inner/{version}/jobs/job.py",
            JOB.replace("{self.config.limit} ", f"{{self.config.limit}}{mark}"),
        )
    now = write(tmp_path / "inner/now", "first")
    inner = {"classpath": "tests.test_codebase.Snapshots", "kwargs": {"folder": str(tmp_path / "inner")}}
    one = site.machine(code=inner, builders="jobs").settle()
    first = one.head.version
    assert first.startswith("first-")
    write(now, "second")
    assert limits(one.settle()) == {"acme__job": "10!v1"}
    away = site.machine("away", code=inner, builders="jobs")
    assert shown(away.start("acme__job", first, "tenants/acme.py")["acme__job"]) == "10 v1"
    assert shown(away.start("acme__job", one.head.version, "tenants/acme.py")["acme__job"]) == "10!v1"
    assert limits(one.wipe().settle()) == {"acme__job": "10!v1"}


def test_code_of_another_machine_is_not_taken_back(site: Site, one: Machine) -> None:
    """A machine whose own builders are older takes the deployment's code over, and does not flap."""
    old = write(site.folder / "old/job.py", JOB)
    two = site.machine("two", builders=str(old.parent)).settle()
    site.builders.write_text(JOB.replace("{self.config.limit} ", "{self.config.limit}!"))
    one.settle()
    for _ in range(3):
        two.settle()
        one.settle()
    assert limits(one) == limits(two) == {"acme__job": "10!v1", "zenith__job": "10!v1"}


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return inode and time of each file."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def count_starts(machine: Machine) -> list[object]:
    """Return a list that grows with each preflight."""
    started: list[object] = []
    preflight = machine.processor.rollout.preflight
    start = preflight.start

    def noted(job: object) -> None:
        started.append(job)
        start(job)  # type: ignore[arg-type]

    preflight.start = noted  # type: ignore[method-assign]
    return started
