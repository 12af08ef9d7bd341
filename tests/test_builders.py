from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, TaskGroup
from airflow.serialization.serialized_objects import DagSerialization

from dagfactory_consul import DagBuilder, DagConfig, builder
from dagfactory_consul.builders import FORMER, build_dag, snake_case
from dagfactory_consul.decisions import Decision
from dagfactory_consul.errors import BuilderError, BuildError
from dagfactory_consul.registry import Registry
from dagfactory_consul.spec import DagSpec
from tests.making import Job, JobConfig, definition, fresh_registry


@pytest.fixture(autouse=True)
def registry(tmp_path: Path) -> Iterator[Registry]:
    """What these tests register is forgotten after each of them."""
    with fresh_registry(tmp_path) as fresh:
        yield fresh


def spec(name: str = "job", *, flags: dict[str, Any] | None = None, **config: Any) -> DagSpec:
    resolved = JobConfig.model_validate(config).model_dump(mode="json")
    decisions = {flag: Decision(value, None, "STATIC") for flag, value in (flags or {}).items()}
    return DagSpec(f"acme__{name}", "Job", name, "production", resolved, "acme", {"tier": "gold"}, decisions)


def built(cls: type[DagBuilder[Any]] = Job, *, draining: bool = False, **config: Any) -> DAG:
    return build_dag(definition(cls=cls), spec(**config), draining=draining)


def serialised(dag: DAG) -> dict[str, Any]:
    found: dict[str, Any] = DagSerialization.to_dict(dag)
    return found


def schedule_of(dag: DAG) -> Any:
    return serialised(dag)["dag"]["timetable"]


def test_a_dag_runs_as_soon_as_it_is_there() -> None:
    """A new DAG is not paused, since the flag is the switch; it does not catch up; it has its tenant's id."""
    dag = built(schedule="@hourly")
    assert (dag.dag_id, dag.is_paused_upon_creation, dag.catchup) == ("acme__job", False, False)
    assert sorted(dag.task_ids) == ["first", "last"]


def test_a_plain_configuration_sets_nothing() -> None:
    """What the configuration does not say is Airflow's own default, as in a DAG written by hand."""
    dag, plain = built(), DAG("plain", schedule=None)
    for name in ("max_active_runs", "max_active_tasks", "end_date"):
        assert getattr(dag, name) == getattr(plain, name)
    assert schedule_of(dag) == schedule_of(plain)
    assert dag.default_args == {"owner": "acme"}


def test_when_a_dag_runs() -> None:
    """Schedule, dates, catch-up and limits are the configuration's."""
    dag = built(
        schedule="0 3 * * *",
        start_date="2025-01-01T00:00:00Z",
        end_date="2026-01-01T00:00:00Z",
        catchup=True,
        max_active_runs=2,
    )
    assert schedule_of(dag) == schedule_of(DAG("plain", schedule="0 3 * * *"))
    assert (dag.start_date, dag.end_date) == (datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    assert (dag.catchup, dag.max_active_runs) == (True, 2)


def test_what_every_task_begins_with() -> None:
    """Owner, pool, queue, priority and retries reach each task; concurrency is the DAG's."""
    settings = {"owner": "ops", "pool": "p", "queue": "q", "priority": 7, "retries": 3, "retry_delay": 90}
    dag = built(airflow={**settings, "concurrency": 4})
    task: Any = dag.get_task("first")
    assert (task.owner, task.pool, task.queue, task.priority_weight) == ("ops", "p", "q", 7)
    assert (task.retries, task.retry_delay, dag.max_active_tasks) == (3, timedelta(seconds=90), 4)


def test_tags() -> None:
    """A DAG has its own tags, its tenant's, and those of tenant and builder."""
    assert {"own", "all", "acme"} <= set(built(tags=["own"], airflow={"tags": ["all"]}).tags)
    assert "draining" not in built().tags


def test_tags_that_differ_by_case_are_one() -> None:
    """MySQL holds two such tags to be the same, and then the DAG's row cannot be written."""
    tags = built(tags=["Own", "OWN", "ACME"], airflow={"tags": ["own"]}).tags
    assert {each for each in tags if each.casefold() in ("own", "acme")} == {"own", "acme"}


def test_the_page_says_of_what_a_dag_was_built() -> None:
    """The UI shows the builder's own words, the resolved configuration, the flags, and the hash of it all."""
    page = build_dag(definition(), spec(flags={"parser": "v2"}, limit=3)).doc_md or ""
    assert page.startswith("Does a job.\n")
    assert "This sentence is not shown" not in page
    for expected in ("builder `Job`", "tenant `acme`", "environment `production`", "limit: 3", '{"parser": "v2"}'):
        assert expected in page
    assert f"`{spec(flags={'parser': 'v2'}, limit=3).hash}`" in page


def test_the_description() -> None:
    """The configuration's description, else the first line of what the builder's class says."""
    assert built().description == "Does a job."
    assert built(description="Ours").description == "Ours"


def test_equal_specs_build_equal_dags() -> None:
    """Built again from an equal spec a DAG is the same to the byte, so Airflow makes no new version of it."""
    assert serialised(built(limit=3)) == serialised(built(limit=3))


@pytest.mark.parametrize("change", [{"limit": 4}, {"options": {"a": 1}}, {"tags": ["x"]}, {"schedule": "@daily"}])
def test_every_change_of_the_configuration_is_seen(change: dict[str, Any]) -> None:
    """Any field that changes changes the DAG, even one that no task shows."""
    assert serialised(built(**change)) != serialised(built())


def test_a_flag_that_flips_is_seen() -> None:
    """A flag's value is part of the DAG, although it is no part of the configuration."""
    one, other = (build_dag(definition(), spec(flags={"parser": value})) for value in ("v1", "v2"))
    assert serialised(one) != serialised(other)


class ByHand(DagBuilder[JobConfig]):
    """Makes its DAG by hand, schedule and all."""

    def build(self) -> DAG:
        with self.dag(schedule="@daily", max_active_runs=9) as dag:
            Job(self.spec, self.config).tasks()
        return dag


@pytest.mark.parametrize("cls", [Job, ByHand])
def test_a_draining_dag_begins_no_runs(cls: type[DagBuilder[Any]]) -> None:
    """A DAG that drains has no schedule and says so by a tag, whoever has made it, and its tasks stay."""
    dag = built(cls, draining=True, schedule="@hourly")
    assert not dag.timetable.can_be_scheduled
    assert "draining" in dag.tags
    assert sorted(dag.task_ids) == ["first", "last"]
    assert schedule_of(dag) == schedule_of(DAG("plain", schedule=None))


def test_a_builder_that_overrides_build() -> None:
    """`build` gives full control: what it passes to `self.dag` wins over the configuration."""
    dag = built(ByHand, schedule="@hourly", max_active_runs=1)
    assert schedule_of(dag) == schedule_of(DAG("plain", schedule="@daily"))
    assert dag.max_active_runs == 9


def test_the_same_tasks_as_a_group() -> None:
    """Under a parent the tasks are a group of the builder's name, and begin with their own configuration."""
    job = Job(spec(airflow={"queue": "q"}), JobConfig.model_validate({"airflow": {"queue": "q"}}))
    with DAG("parent", schedule=None) as parent:
        group = job.build_group()
        other = job.build_group("again")
    assert isinstance(group, TaskGroup)
    assert (group.group_id, other.group_id) == ("job", "again")
    assert sorted(parent.task_ids) == ["again.first", "again.last", "job.first", "job.last"]
    task: Any = parent.get_task("job.first")
    assert (task.queue, task.owner) == ("q", "acme")


class Seeing(DagBuilder[JobConfig]):
    """Notes what a builder sees."""

    seen: dict[str, Any]

    def tasks(self) -> None:
        names = ("name", "dag_id", "tenant", "attributes", "environment", "flags", "config")
        type(self).seen = {name: getattr(self, name) for name in names}


def test_what_a_builder_sees() -> None:
    """Configuration as its model, flags by name, tenant, attributes and environment."""
    build_dag(definition(cls=Seeing), spec(limit=3, flags={"parser": "v2"}))
    seen = Seeing.seen
    assert isinstance(seen["config"], JobConfig)
    assert (seen["config"].limit, seen["flags"]["parser"], seen["attributes"]) == (3, "v2", {"tier": "gold"})
    assert (seen["name"], seen["dag_id"], seen["tenant"], seen["environment"]) == (
        "job",
        "acme__job",
        "acme",
        "production",
    )


class Empty(DagBuilder[DagConfig]):
    """Defines nothing."""


class Renamed(DagBuilder[DagConfig]):
    """Builds another DAG than it was asked for."""

    def build(self) -> DAG:
        return DAG("something_else", schedule=None)


class Nothing(DagBuilder[DagConfig]):
    """Forgets to return its DAG."""

    def build(self) -> DAG:
        return None  # type: ignore[return-value]


class Raising(DagBuilder[DagConfig]):
    """Raises halfway."""

    def tasks(self) -> None:
        Job(self.spec, JobConfig()).tasks()
        raise ValueError("no such region")


class RaisingByHand(DagBuilder[DagConfig]):
    """Raises halfway within a DAG that it has made by hand."""

    def build(self) -> DAG:
        with DAG(self.dag_id, schedule=None):
            raise ValueError("no such region")


class Leaving(DagBuilder[DagConfig]):
    """Takes the whole process with it."""

    def tasks(self) -> None:
        raise SystemExit("no licence")


def plain() -> DagSpec:
    return DagSpec("acme__job", "Job", "job", "production", {}, "acme")


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (Empty, "Empty makes no tasks: define tasks(), or override build()"),
        (Renamed, "built 'something_else' where acme__job was asked for"),
        (Nothing, "built None where acme__job was asked for"),
        (Raising, "raised ValueError: no such region"),
        (Leaving, "raised SystemExit: no licence"),
    ],
)
def test_a_builder_that_fails(cls: type[DagBuilder[Any]], expected: str) -> None:
    """Whatever a builder does wrong is one kind of error, which names the class and what it did."""
    with pytest.raises(BuildError) as caught:
        build_dag(definition(cls=cls), plain())
    assert expected in str(caught.value)
    assert f"tests.test_builders.{cls.__name__}" in str(caught.value)


@pytest.mark.parametrize("cls", [Raising, RaisingByHand, Leaving])
def test_nothing_half_built_is_left(cls: type[DagBuilder[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that breaks off within its DAG, made by hand even, leaves none behind that Airflow would pick up."""
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    monkeypatch.setattr(DagContext, "current_autoregister_module_name", __name__)  # as while Airflow reads a DAG file
    monkeypatch.setattr(DagContext, "autoregistered_dags", set())
    with pytest.raises(BuildError):
        build_dag(definition(cls=cls), plain())
    assert DagContext.autoregistered_dags == set()
    assert DagContext.get_current_dag() is None
    assert DagContext.current_autoregister_module_name == __name__


def test_a_decorated_builder_is_registered(registry: Registry) -> None:
    """`@builder` names a class, its gate and its flags, and puts it into the registry."""
    decorated = builder("Sample", flag="sample", flags={"parser": "v1"})(type("Other", (Job,), {}))
    found = registry["Sample"]
    assert (found.cls, found.gate, found.flags, found.config) == (decorated, "sample", {"parser": "v1"}, JobConfig)


def test_a_builder_is_named_as_its_class(registry: Registry) -> None:
    """Without a name of its own a builder is called as its class is."""
    builder()(type("Other", (Job,), {}))
    assert "Other" in registry


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no DagBuilder": (lambda: builder("X")(dict), "@builder goes on a subclass of DagBuilder"),  # type: ignore[type-var]
    "a name with a path": (lambda: builder("../x")(Job), "'../x' is not a builder's name"),
    "an empty class name": (lambda: builder("x" * 64)(Job), "is not a builder's name"),
    "a flag that is no id": (lambda: builder("X", flag="My Flag")(Job), "the flag 'My Flag' is not an id"),
    "a flag among the flags": (lambda: builder("X", flags={"A": 1})(Job), "the flag 'A' is not an id"),
    "a model that is none": (lambda: types.new_class("X", (DagBuilder[int],)), "must be a DagConfig"),  # type: ignore[type-var]
}


@pytest.mark.parametrize("case", WRONG)
def test_a_builder_that_is_defined_wrongly(case: str) -> None:
    """A mistake in a builder's definition shows when its module is imported, with the class's name."""
    define, expected = WRONG[case]
    with pytest.raises(BuilderError) as caught:
        define()
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("name", "snake"),
    [("ProcessMessages", "process_messages"), ("HTTPJob", "http_job"), ("Job2Do", "job2_do"), ("job", "job")],
)
def test_snake_case(name: str, snake: str) -> None:
    """A DAG is named as its builder, in the case that ids take."""
    assert snake_case(name) == snake


@pytest.mark.parametrize("page", [None, "Mine.", ""])
def test_a_former_configuration_shows_whoever_built_the_dag(page: str | None) -> None:
    """A builder that makes its DAG by hand is marked, too, and its own page stays below the note."""

    class ByHand(Job):
        def build(self) -> DAG:
            return DAG(self.dag_id, schedule=None, doc_md=page, auto_register=False)

    dag = build_dag(definition(cls=ByHand), spec(), refused=1.0)
    assert dag.tags == {FORMER}
    assert str(dag.doc_md).startswith("**A former configuration**: since 1970-01-01 00:00:01 UTC")
    assert str(dag.doc_md).endswith(page or "say why.")


def test_a_tag_that_differs_in_case_alone_is_not_added() -> None:
    """To MySQL it would be the same one twice."""
    dag = build_dag(definition(), spec(tags=[FORMER.upper()]), refused=1.0)
    assert [tag for tag in dag.tags if tag.casefold() == FORMER] == [FORMER.upper()]
