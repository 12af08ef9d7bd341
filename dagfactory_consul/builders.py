"""Builders: classes that turn one validated configuration into a DAG."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar, get_args, get_origin

from .decisions import FlagValues
from .errors import BuilderError, BuildError, describe
from .models import DagConfig
from .spec import DagSpec

if TYPE_CHECKING:
    from airflow.sdk import DAG, TaskGroup

Config = TypeVar("Config", bound=DagConfig)

DRAINING = "draining"
"""The tag of a DAG that is switched off, and stays until its runs have ended."""
FORMER = "former-configuration"
"""The tag of a DAG that keeps a former configuration, because the present one is refused."""

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


class Definition(NamedTuple):
    """What a builder's decorator says of it."""

    name: str
    """As documents name it: `ProcessMessages`."""
    cls: type[DagBuilder[Any]]
    config: type[DagConfig]
    """The model that a configuration is validated by; its defaults are the lowest layer of all."""
    gate: str | None = None
    """The flag that lets the DAG run for a tenant; None where no flag does."""
    flags: Mapping[str, Any] = MappingProxyType({})
    """The flags whose values shape the DAG, with their defaults; the gate's too, where it is given (else: on)."""

    @property
    def dag_name(self) -> str:
        """The name of its DAG where the entry gives none: `process_messages`."""
        return snake_case(self.name)

    @property
    def where(self) -> str:
        """The class, for humans."""
        return f"{self.cls.__module__}.{self.cls.__qualname__}"


class DagBuilder(Generic[Config]):
    """Builds one DAG, or the same tasks as a group under a parent, from one configuration.

    A subclass names its configuration's model in brackets and makes its operators in `tasks`. For full control over the
    DAG it overrides `build` as well, beginning from `self.dag()`.
    """

    definition: ClassVar[Definition]
    config_model: ClassVar[type[DagConfig]] = DagConfig

    def __init__(self, spec: DagSpec, config: Config, *, draining: bool = False) -> None:
        self.spec = spec
        self.config = config
        self.draining = draining

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, DagBuilder):
                model = get_args(base)[0]
                if isinstance(model, type) and issubclass(model, DagConfig):
                    cls.config_model = model
                elif not isinstance(model, TypeVar):
                    raise BuilderError(
                        f"{cls.__qualname__}: the model in DagBuilder[…] must be a DagConfig, not {model!r}"
                    )

    @property
    def name(self) -> str:
        """The DAG's name without the tenant: `process_messages`."""
        return self.spec.name

    @property
    def dag_id(self) -> str:
        return self.spec.dag_id

    @property
    def tenant(self) -> str | None:
        """The tenant's id; None in a project."""
        return self.spec.tenant

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The tenant's attributes: tier, region and the like."""
        return self.spec.attributes

    @property
    def environment(self) -> str:
        return self.spec.environment

    @property
    def flags(self) -> FlagValues:
        """The values of the flags that the builder declares, and why they are what they are."""
        return FlagValues(self.spec.decisions)

    def tasks(self) -> None:
        """Make the operators. Called within the DAG's context, or within the group's."""
        raise NotImplementedError(f"{type(self).__qualname__} makes no tasks: define tasks(), or override build()")

    def build(self) -> DAG:
        """Return the DAG with its tasks. It does not register itself: whoever asks for it decides where it stands."""
        with self.dag() as dag:
            self.tasks()
        return dag

    def build_group(self, group_id: str | None = None) -> TaskGroup:
        """Return the tasks as a TaskGroup of the DAG whose context this is called in.

        Args:
            group_id: the DAG's name in snake case unless given.
        """
        from airflow.sdk import TaskGroup

        arguments: Any = {"tooltip": self._description() or "", "default_args": self.default_args()}
        with TaskGroup(group_id or self.name, **arguments) as group:
            self.tasks()
        return group

    def dag(self, **overrides: Any) -> DAG:
        """Return the DAG without tasks, with all that the configuration says of it; `overrides` are DAG's own."""
        from airflow.sdk import DAG

        config, settings = self.config, self.config.airflow
        arguments: dict[str, Any] = {
            "schedule": None if self.draining else config.schedule,
            "start_date": config.start_date,
            "end_date": config.end_date,
            "catchup": config.catchup,
            "description": self._description(),
            "doc_md": self.doc_md(),
            "default_args": self.default_args(),
            "tags": self.tags(),
            "is_paused_upon_creation": False,  # the flag is the switch
            "auto_register": False,  # a half-built DAG would register itself, were its body to raise
        }
        if config.max_active_runs is not None:
            arguments["max_active_runs"] = config.max_active_runs
        if settings.concurrency is not None:
            arguments["max_active_tasks"] = settings.concurrency
        return DAG(self.dag_id, **{**arguments, **overrides})  # noqa: AIR002  # the schedule is among them

    def default_args(self) -> dict[str, Any]:
        """Return what every task begins with: only what the configuration says, Airflow's own defaults for the rest."""
        settings = self.config.airflow
        found = {
            "owner": settings.owner or self.tenant,
            "pool": settings.pool,
            "queue": settings.queue,
            "priority_weight": settings.priority,
            "retries": settings.retries,
            "retry_delay": None if settings.retry_delay is None else timedelta(seconds=settings.retry_delay),
        }
        return {name: value for name, value in found.items() if value is not None}

    def tags(self) -> list[str]:
        """Return the tenant's and the builder's tag, those of the configuration, and `draining` while it is."""
        own = [*self.config.tags, *self.config.airflow.tags, self.spec.builder]
        all_tags = [*own, *filter(None, [self.tenant, DRAINING if self.draining else None])]
        # To MySQL `A` and `a` are the same tag, and a DAG that has both ends Airflow's DAG processor.
        return sorted({each.casefold(): each for each in all_tags}.values())

    def doc_md(self) -> str:
        """Return the page that Airflow's UI shows: which configuration built this DAG."""
        about = (type(self).__doc__ or "").strip().partition("\n\n")[0]
        state = "\n\n**Switched off**: no new runs; it goes when its last run has ended." if self.draining else ""
        built = {"flags": self.spec.flags, **self.spec.config}
        # JSON is YAML as well, and a line a field reads better than JSON all over.
        shown = "\n".join(f"{name}: {_encode(value)}" for name, value in built.items() if value not in (None, {}, []))
        rows = [("builder", self.spec.builder), ("tenant", self.tenant), ("environment", self.environment)]
        facts = ", ".join(f"{name} `{value}`" for name, value in rows if value)
        return f"{about}{state}\n\nBuilt from {facts}, configuration `{self.spec.hash}`:\n\n```yaml\n{shown}\n```\n"

    def _description(self) -> str | None:
        return self.config.description or (type(self).__doc__ or "").strip().partition("\n")[0] or None


def build_dag(definition: Definition, spec: DagSpec, *, draining: bool = False, refused: float = 0.0) -> DAG:
    """Build the DAG of a spec, and check that it is what the spec says.

    Args:
        definition: its builder.
        spec: all that determines it.
        draining: it gets no new runs.
        refused: since when its present configuration is refused, so that this spec is a former one; 0 if it is not.

    Raises:
        BuildError: the configuration does not fit the builder, or the builder raised.
    """
    try:
        config = definition.config.model_validate(spec.config)
        with _unregistered():
            dag = definition.cls(spec, config, draining=draining).build()
    except (Exception, SystemExit) as error:  # a builder is somebody's code: what it raises harms this DAG alone
        raise BuildError(f"{definition.name} ({definition.where}) raised {describe(error)}") from error
    found = getattr(dag, "dag_id", None)
    if found != spec.dag_id:
        raise BuildError(
            f"{definition.name} ({definition.where}) built {found or dag!r} where {spec.dag_id} was asked for"
        )
    if draining:
        _stop_scheduling(dag)
    if refused:
        _mark_former(dag, spec, refused)
    return dag


@functools.cache
def snake_case(name: str) -> str:
    """Turn a class's name into a DAG's: `ProcessMessages` into `process_messages`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@contextlib.contextmanager
def _unregistered() -> Iterator[None]:
    """Keep what a builder makes by hand, half-built DAGs too, from registering itself with the DAG file."""
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    module, DagContext.current_autoregister_module_name = DagContext.current_autoregister_module_name, None
    try:
        yield
    finally:
        DagContext.current_autoregister_module_name = module


def _mark_former(dag: DAG, spec: DagSpec, refused: float) -> None:
    """Say on a DAG's page, and by a tag, that its configuration is a former one."""
    since = datetime.fromtimestamp(refused, UTC)
    note = (
        f"**A former configuration**: since {since:%Y-%m-%d %H:%M:%S} UTC what `tenants/{spec.tenant}` says of this "
        "DAG is refused, so it runs as it did before. Airflow's import errors and `dagfactory-consul status` say why."
    )
    dag.doc_md = f"{note}\n\n{dag.doc_md}" if dag.doc_md else note
    if FORMER not in {each.casefold() for each in dag.tags}:
        dag.tags.add(FORMER)


def _stop_scheduling(dag: DAG) -> None:
    """Take the schedule from a DAG whose builder makes it by hand and gave it one."""
    from airflow.sdk.definitions.timetables.simple import NullTimetable

    if not isinstance(dag.timetable, NullTimetable):
        dag.timetable = NullTimetable()
    dag.tags.add(DRAINING)
