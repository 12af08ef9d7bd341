from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from dagfactory_consul import renewal, trial
from dagfactory_consul.builders import FORMER
from dagfactory_consul.errors import SnapshotError
from dagfactory_consul.release import DRAINING, load_problems
from tests.deployment import LOADER, Deployment, shown
from tests.making import write

TWO = {"dags": {"Job": {"limit": 3}, "Other": {}}}


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment of two tenants; each parse asks the store."""
    deployment = Deployment(tmp_path, monkeypatch)
    deployment.put("tenants/acme", TWO)
    deployment.put("tenants/globex", {"dags": {"Job": {}}})
    return deployment


def test_a_parse_gives_all_dags(deployment: Deployment) -> None:
    """`load_dags(globals())` is all that a DAG file needs."""
    dags = deployment.parse()
    assert sorted(dags) == ["acme__job", "acme__other", "globex__job"]
    assert shown(dags["acme__job"]) == "3 v1"


def test_data_alone_brings_a_new_tenant(deployment: Deployment) -> None:
    """A document more is a tenant more, without a line of code."""
    deployment.parse()
    deployment.put("tenants/initech", {"dags": {"Other": {}}})
    assert "initech__other" in deployment.parse()


def test_a_flag_off_and_on_again(deployment: Deployment) -> None:
    """A flag that goes off takes the schedule of its DAGs at once, for every tenant; on again it gives it back."""
    deployment.parse()
    deployment.put("flags/job", value=False)
    dags = deployment.parse()
    assert {dag_id: "draining" in dag.tags for dag_id, dag in dags.items()} == {
        "acme__job": True,
        "acme__other": False,
        "globex__job": True,
    }
    deployment.put("flags/job", value=True)
    assert "draining" not in deployment.parse()["acme__job"].tags


def test_what_drains_stays_while_nobody_knows_its_runs(deployment: Deployment) -> None:
    """Outside a processor nobody can say whether a run is unfinished: the DAG stays until its drain time is over."""
    deployment.parse()
    deployment.put("flags/job", value=False)
    for _ in range(4):
        assert "acme__job" in deployment.parse()
    deployment.set(drain_time=0)
    assert sorted(deployment.parse()) == ["acme__other"]


def test_a_bad_tenant_keeps_its_dags(deployment: Deployment) -> None:
    """A document that cannot be read costs nobody a DAG, its own tenant included; the problem stands elsewhere."""
    before = sorted(deployment.parse())
    deployment.put("tenants/acme", b"dags: [")
    assert sorted(dags := deployment.parse()) == before
    assert "tenants/acme: malformed YAML" in deployment.errors()
    assert {dag_id for dag_id, dag in dags.items() if FORMER in dag.tags} == {"acme__job", "acme__other"} & set(before)


def test_the_problems_are_raised_from_their_own_file(deployment: Deployment) -> None:
    """Airflow's list of import errors names each problem on a line of its own, and says that all else runs."""
    deployment.put("tenants/acme", {"dags": {"Job": {"limt": 1}, "Jop": {}}})
    deployment.put("tenant/typo", {})
    deployment.parse()
    said = deployment.errors()
    assert "ProblemsError: 3 to mend; all else is in force" in said
    for line in (
        "tenant/typo: nobody reads this key, did you mean 'tenants'?",
        "tenants/acme (DAG acme__job): dags.Job.limt: unknown field, did you mean 'limit'?",
        "tenants/acme: dags.Jop: there is no builder 'Jop', did you mean 'Job'?",
    ):
        assert line in said.splitlines()


def test_without_problems_nothing_is_raised(deployment: Deployment) -> None:
    """The file of the problems is no error while there are none, not even before the first parse."""
    assert deployment.errors() == ""
    deployment.parse()
    assert deployment.errors() == ""


def test_a_problem_is_none_of_a_tasks(deployment: Deployment) -> None:
    """Where a task starts the problems are not raised."""
    deployment.put("tenants/bad", {"x": 1})
    deployment.parse()
    assert deployment.start("acme__job", "tenant_problems.py") == {}


def test_a_builder_that_raises(deployment: Deployment) -> None:
    """A configuration with which a builder raises leaves that DAG as it was, and the problem says so."""
    deployment.parse()
    deployment.put("tenants/acme", {"dags": {"Job": {"limit": 9, "mood": "raising"}, "Other": {"limit": 9}}})
    dags = deployment.parse()
    assert (shown(dags["acme__job"]), shown(dags["acme__other"])) == ("3 v1", "9 v1")
    assert "raised ValueError: no such region; its last good configuration stays in force" in deployment.errors()


@pytest.mark.parametrize(
    ("mood", "said"), [("exit", "exit status 7"), ("stuck", "took longer than 0.2 s and could not be interrupted")]
)
def test_a_builder_that_no_exception_ends(deployment: Deployment, mood: str, said: str) -> None:
    """A builder that ends its process, or hangs where nothing interrupts it, costs neither the parse nor others."""
    deployment.set(build_timeout=0.2)
    deployment.parse()
    deployment.put("tenants/acme", {"dags": {"Job": {"limit": 9, "mood": mood}, "Other": {"limit": 9}}})
    dags = deployment.parse()
    assert (shown(dags["acme__job"]), shown(dags["acme__other"])) == ("3 v1", "9 v1")
    assert f"{said}; its last good configuration stays in force" in deployment.errors()


def test_what_ended_its_process_is_not_tried_at_each_parse(deployment: Deployment) -> None:
    """The next parse, another process, knows what the one before it has found."""
    deployment.put("tenants/acme", {"dags": {"Job": {"mood": "exit"}}})
    deployment.parse()
    deployment.parse()
    assert (deployment.folder / "builders/job.py.ended").read_text() == "."
    assert "exit status 7" in deployment.errors()


def test_a_parse_without_time_for_all(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """DAGs that there was no time to try stay as they were, and the next parse goes on, within the TTL too."""
    deployment.set(ttl=30)
    deployment.parse()
    deployment.put("tenants/acme", {"dags": {"Job": {"limit": 9}}})
    deployment.later(31)
    with monkeypatch.context() as patch:
        patch.setattr(renewal, "SECONDS", 0.0)
        assert shown(deployment.parse()["acme__job"]) == "3 v1"
        assert "still to be checked, and stay as they were until then: acme__job" in deployment.errors()
    assert shown(deployment.parse()["acme__job"]) == "9 v1"
    assert deployment.errors() == ""


def test_a_tenant_whose_changes_take_long_goes_on_at_the_next_parse(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The DAGs for which a tenant had no time left do not wait for the next TTL."""
    deployment.set(ttl=30)
    deployment.parse()
    deployment.put("tenants/acme", {"dags": {"Job": {"limit": 9}, "Other": {"limit": 9}}})
    deployment.later(31)
    monkeypatch.setattr(trial, "TENANTS_DAGS", 1e-9)  # one DAG a try
    dags = deployment.parse()
    assert [shown(dags[dag_id]) for dag_id in ("acme__job", "acme__other")] == ["9 v1", "10 v1"]
    assert shown(deployment.parse()["acme__other"]) == "9 v1"


def test_a_first_parse_without_time(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing has been tried there are no DAGs to show, and Airflow must not take that for all of them."""
    monkeypatch.setattr(renewal, "SECONDS", 0.0)
    monkeypatch.setattr(renewal, "GRACE", 0.0)
    assert "the first configuration is still being checked" in "".join(deployment.bag().import_errors.values())


def test_within_a_ttl_the_store_is_left_alone(deployment: Deployment) -> None:
    """Between two refreshes a parse shows what is in force, whatever the store says meanwhile."""
    deployment.set(ttl=30)
    deployment.parse()
    asked = deployment.attempt().at
    deployment.put("tenants/acme", {"dags": {}})
    assert "acme__job" in deployment.parse()
    assert deployment.attempt().at == asked
    deployment.later(31)
    assert "draining" in deployment.parse()["acme__job"].tags


def test_changed_code_is_planned_within_the_ttl(deployment: Deployment) -> None:
    """A builder that has changed counts at once, from the kept snapshot: the store is not asked for it."""
    deployment.set(ttl=30)
    deployment.put("tenants/initech", {"dags": {"Third": {}}})
    assert "initech__third" not in deployment.parse()
    asked = deployment.attempt().at
    code = (deployment.folder / "builders/job.py").read_text()
    write(
        deployment.folder / "builders/job.py",
        f'{code}\n@builder("Third", flags={{"parser": "v1"}})\nclass Third(Job):\n    pass\n',
    )
    assert "initech__third" in deployment.parse()
    assert deployment.attempt().at == asked


def test_a_project_that_refreshes_first(deployment: Deployment) -> None:
    """What another file has read within the TTL is in force with the next parse, which does not ask again."""
    deployment.set(ttl=30)
    deployment.put("projects/flywheel", {"schedule": "@daily"})
    project = "# Airflow\nfrom dagfactory_consul import ProjectConfig\nProjectConfig('flywheel')\n# DAG\n"
    write(deployment.folder / "dags/project.py", project)
    deployment.parse()
    deployment.put("tenants/acme", {"dags": {"Job": {"limit": 7}}})
    deployment.later(31)
    assert deployment.errors("project.py") == ""
    asked = deployment.attempt().at
    assert shown(deployment.parse()["acme__job"]) == "7 v1"
    assert deployment.attempt().at == asked


def test_two_dag_files(deployment: Deployment) -> None:
    """Files of different environments share one reading of the store, and each has its own release."""
    deployment.set(ttl=30)
    deployment.put("defaults", {"environments": {"staging": {"dags": {"Job": {"limit": 77}}}}})
    write(deployment.folder / "dags/staging.py", LOADER.format(', environment="staging"'))
    assert shown(deployment.parse()["globex__job"]) == "10 v1"
    asked = deployment.attempt().at
    assert shown(deployment.parse("staging.py")["globex__job"]) == "77 v1"
    assert shown(deployment.parse()["globex__job"]) == "10 v1"
    assert deployment.attempt().at == asked
    assert len(list(deployment.state.glob("release-*.renewed"))) == 2


def test_a_parse_beside_a_renewal(deployment: Deployment) -> None:
    """While another process renews, a parse goes on with what is in force, and waits for nobody."""
    deployment.parse()
    deployment.put("tenants/acme", {"dags": {"Job": {"limit": 7}}})
    with (deployment.state / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert shown(deployment.parse()["acme__job"]) == "3 v1"
    assert shown(deployment.parse()["acme__job"]) == "7 v1"


def test_the_very_first_parse_beside_another(deployment: Deployment) -> None:
    """Where nothing is in force yet, a parse plans what is known and keeps nothing."""
    deployment.parse()
    deployment.release_file.unlink()
    with (deployment.state / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "acme__job" in deployment.parse()
    assert not deployment.release_file.exists()


def test_a_store_that_is_gone(deployment: Deployment) -> None:
    """Nothing vanishes with the store, and from the second failure on the list of errors says how old all is."""
    before = sorted(deployment.parse())
    deployment.unmount()
    for _ in range(3):
        deployment.later(100)
        assert sorted(deployment.parse()) == before
    assert "stays in force" in deployment.errors()


def test_a_store_that_fails_is_asked_less_often(deployment: Deployment) -> None:
    """After a failure parses back off: the next one within the TTL does not ask."""
    deployment.set(ttl=30)
    deployment.parse()
    deployment.later(31)
    deployment.unmount()
    deployment.parse()
    asked = deployment.attempt()
    deployment.parse()
    assert asked.failures == 1
    assert deployment.attempt() == asked


def test_a_fallback_backs_off_as_well(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the fallback answers, the store that failed is still asked no more often than that."""
    deployment.set(ttl=30)
    deployment.unmount()
    monkeypatch.setenv("AIRFLOW_VAR_DAGFACTORY", '{"tenants": {"hooli": {"dags": {"Job": {}}}}}')
    assert sorted(deployment.parse()) == ["hooli__job"]
    asked = deployment.attempt()
    assert sorted(deployment.parse()) == ["hooli__job"]
    assert asked.failures == 1
    assert deployment.attempt() == asked


def test_nothing_known_is_an_error(deployment: Deployment) -> None:
    """With neither a store nor a local copy the DAG file raises: it never says that there are no DAGs."""
    deployment.unmount()
    assert "NothingKnownError: nothing is known of the configuration" in deployment.errors("tenants.py")


def test_an_emptied_store_is_held(deployment: Deployment) -> None:
    """A store in which everything is suddenly missing takes nothing away; the list of errors says how to accept it."""
    before = sorted(deployment.parse())
    deployment.remove("tenants/acme")
    deployment.remove("tenants/globex")
    assert sorted(deployment.parse()) == before
    said = deployment.errors()
    assert "held: the store is empty (DAGs: acme__job, acme__other, globex__job)" in said
    assert "let them go: dagfactory-consul accept " in said


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda text: text[: len(text) // 2],
    "a byte changed": lambda text: text.replace(b"limit", b"limiT"),
    "another format": lambda text: text.replace(b"dagfactory-consul 1", b"dagfactory-consul 9"),
    "something else": lambda _: b"what is this",
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_release_is_made_anew(deployment: Deployment, case: str) -> None:
    """What is in force is worked out again from the kept snapshot, even while the store is empty: nothing vanishes."""
    before = sorted(deployment.parse())
    deployment.release_file.write_bytes(DAMAGE[case](deployment.release_file.read_bytes()))
    deployment.remove("tenants/acme")
    deployment.remove("tenants/globex")
    assert sorted(deployment.parse()) == before
    assert sorted(deployment.release().dags) == before


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_snapshot_is_read_anew(deployment: Deployment, case: str) -> None:
    """Without a usable local copy the store is asked; what is in force stays meanwhile."""
    before = sorted(deployment.parse())
    snapshot = deployment.state / "snapshot"
    snapshot.write_bytes(DAMAGE[case](snapshot.read_bytes()))
    assert sorted(deployment.parse()) == before


def test_a_damaged_snapshot_and_the_store_gone(deployment: Deployment) -> None:
    """What is in force is good as long as it can be read, whatever else is lost; the store is asked again later."""
    before = sorted(deployment.parse())
    (deployment.state / "snapshot").write_bytes(b"x")
    deployment.unmount()
    assert sorted(deployment.parse()) == before
    assert deployment.attempt().failures == 1


def test_both_damaged_and_the_store_gone(deployment: Deployment) -> None:
    """When nothing at all is left, that is an error, and not an empty set of DAGs."""
    deployment.parse()
    deployment.release_file.write_bytes(b"x")
    (deployment.state / "snapshot").write_bytes(b"x")
    deployment.unmount()
    assert "NothingKnownError" in deployment.errors("tenants.py")


def test_a_task_builds_one_dag(deployment: Deployment) -> None:
    """A task's start gives the one DAG that it belongs to."""
    deployment.parse()
    assert list(deployment.start("acme__job")) == ["acme__job"]


def test_a_task_reads_only_its_own_line(deployment: Deployment) -> None:
    """Neither the other DAGs' lines nor the store matter for a task, nor do other builders' modules."""
    deployment.parse()
    file = deployment.release_file
    file.write_bytes(file.read_bytes().replace(b'"globex__job":{', b'"globex__job":{{{'))
    write(deployment.folder / "builders/broken.py", "raise ValueError\n")
    deployment.unmount()
    assert shown(deployment.start("acme__job")["acme__job"]) == "3 v1"


def test_a_task_whose_flag_has_just_gone_off(deployment: Deployment) -> None:
    """A run that is under way ends as it began, although its DAG drains."""
    deployment.parse()
    deployment.put("flags/job", value=False)
    deployment.parse()
    assert deployment.release().dags["acme__job"].state == DRAINING
    assert shown(deployment.start("acme__job")["acme__job"]) == "3 v1"


def test_a_task_whose_dag_is_gone(deployment: Deployment) -> None:
    """Even a DAG that is no longer shown is found by a task that was just about to start."""
    deployment.parse()
    deployment.put("flags/job", value=False)
    deployment.parse()
    deployment.set(drain_time=0)
    assert "acme__job" not in deployment.parse()
    assert "acme__job" in deployment.start("acme__job")


def test_a_task_on_a_machine_without_parses(deployment: Deployment) -> None:
    """On a worker of its own a task's start reads its tenant's document itself, and what is off is found too."""
    deployment.put("flags/job", value=False)
    assert shown(deployment.start("acme__job")["acme__job"]) == "3 v1"
    assert not deployment.release_file.exists()
    deployment.put("tenants/acme", {"dags": {"Job": {"limit": 8}}})
    assert shown(deployment.start("acme__job")["acme__job"]) == "8 v1"


def test_tasks_share_one_reading(deployment: Deployment) -> None:
    """Task starts on such a machine ask the store once a TTL between them."""
    deployment.set(ttl=30)
    deployment.start("acme__job")
    asked = deployment.attempt().at
    deployment.start("globex__job")
    assert deployment.attempt().at == asked


def test_a_task_asks_no_store_where_parses_do(deployment: Deployment) -> None:
    """Beside a processor a task's start only reads files, however old they are by the TTL."""
    deployment.parse()
    deployment.later(100)
    asked = deployment.attempt()
    deployment.unmount()
    deployment.start("acme__job")
    assert deployment.attempt() == asked


def test_a_worker_learns_of_a_new_dag_at_once(deployment: Deployment) -> None:
    """A task of a DAG that is younger than a worker's snapshot is started: the scheduler knows more than the worker."""
    deployment.set(ttl=3600)
    assert list(deployment.start("acme__job")) == ["acme__job"]
    deployment.put("tenants/zenith", {"dags": {"Job": {}}})
    assert list(deployment.start("zenith__job")) == ["zenith__job"]


@pytest.mark.parametrize("file", ["lock", "attempt.json", "snapshot"])
def test_a_local_file_that_cannot_be_used_costs_nothing(deployment: Deployment, file: str) -> None:
    """What stands in the way of a renewal leaves in force what was: here a folder in a file's place."""
    before = sorted(deployment.parse())
    (deployment.state / file).unlink()
    (deployment.state / file).mkdir()
    assert sorted(deployment.parse()) == before


def test_a_damaged_stamp_is_written_anew(deployment: Deployment) -> None:
    """The file that says when the release was renewed may hold anything: then it is renewed."""
    before = sorted(deployment.parse())
    (stamp,) = deployment.state.glob("*.renewed")
    stamp.write_bytes(b"\xff\xfe\x80")
    assert sorted(deployment.parse()) == before
    assert b"\xff" not in stamp.read_bytes()


def test_a_task_of_no_dag(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    """A DAG that nobody has configured is logged with the near miss, and left to whoever else may know it."""
    deployment.parse()
    assert deployment.start("acme__jobb") == {}
    assert any("has no DAG 'acme__jobb', did you mean 'acme__job'" in message for message in caplog.messages)


def test_an_unknown_setting(deployment: Deployment) -> None:
    """A keyword that is no setting is an error with the near miss."""
    write(deployment.folder / "dags/wrong.py", LOADER.format(", enviroment='x'"))
    assert "SettingsError: unknown setting 'enviroment', did you mean 'environment'" in deployment.errors("wrong.py")


def test_nothing_is_written_without_news(deployment: Deployment) -> None:
    """A refresh that finds everything as it was leaves the release's file alone."""
    deployment.parse()
    before = deployment.release_file.stat().st_mtime_ns
    deployment.parse()
    assert deployment.release_file.stat().st_mtime_ns == before


def test_the_local_files_are_private(deployment: Deployment) -> None:
    """What is known is readable by its user alone."""
    deployment.parse()
    for path in (deployment.release_file, deployment.state / "snapshot"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_the_problems_of_a_damaged_release(deployment: Deployment) -> None:
    """A release that cannot be read is an error of the problems' file, which has no DAGs to lose."""
    deployment.parse()
    deployment.release_file.write_bytes(b"x\n")
    with pytest.raises(SnapshotError):
        load_problems(deployment.release_file)
    assert "is not a file of format" in deployment.errors()
