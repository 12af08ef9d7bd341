"""The plan: a snapshot and the builders make the specs of all DAGs, and the problems.

Pure: no Airflow, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from . import defaults
from .builders import Definition
from .checks import Checks, explain_count, explain_invalid, explain_key, explain_templates_of_tenant
from .document_limits import NoLimits, SlowRuleError
from .errors import DocumentError, describe
from .flag_set import FlagSet, KnownFlags, flags_of
from .guard import DEFAULTS
from .models import SEPARATOR, describe_bad_id, explain, is_id, is_tenant_id, shown
from .problems import INSTEAD, NO_BUILDERS, Problem, at_most, touched_by
from .registry import Registry
from .snapshot import DECODER, Document, Snapshot
from .spec import DagSpec
from .tenants import Allow, Tenant, merge

MAX_DAGS = 100
"""DAGs that one tenant may have unless the setting says otherwise: each takes Airflow's time, which all share."""


@dataclass(frozen=True)
class Plan:
    """What is to run. Equal snapshots, builders and environments make equal plans."""

    specs: Mapping[str, DagSpec]
    """By DAG id, in order."""
    problems: tuple[Problem, ...]
    """What could not be planned, and whom it touches. A tenant or DAG named here keeps its last good specs."""
    shared: Mapping[str, Document]
    """The documents that shape more than one tenant and are in force, by key: the flags' and the defaults'."""
    version: str
    """The snapshot's."""
    is_on: Callable[[DagSpec], bool] = field(default=lambda _: True, compare=False, repr=False)
    """Whether its flag lets a DAG run, by what was last known of its tenant."""
    again: frozenset[str] = field(default=frozenset(), compare=False)
    """The keys of documents that the next plan works out again although nothing has changed: a limit broke them off,
    or a flag failed for them."""

    def keeps(self, spec: DagSpec) -> bool:
        """Say whether a DAG that is not in the plan stays: a problem keeps it out, and its flag lets it run."""
        return self._is_touched(spec.tenant, spec.dag_id) and self.is_on(spec)

    @cached_property
    def _is_touched(self) -> Callable[[str | None, str], bool]:
        return touched_by(self.problems)


@dataclass(frozen=True)
class Diff:
    """What a plan changes over another: DAG ids."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def diff(before: Mapping[str, DagSpec], after: Mapping[str, DagSpec]) -> Diff:
    """Say what is new, gone and different, by DAG id."""
    return Diff(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(each for each in before.keys() & after.keys() if before[each].hash != after[each].hash)),
    )


def plan(
    snapshot: Snapshot,
    registry: Registry,
    environment: str,
    *,
    last_good: Mapping[str, Document] | None = None,
    now: float = 0.0,
    max_dags: int = MAX_DAGS,
    limits: NoLimits | None = None,
    known: KnownFlags | None = None,
) -> Plan:
    """Work out the specs of all tenants' DAGs.

    Args:
        snapshot: what the store holds.
        registry: the builders.
        environment: whose layer of the defaults applies.
        last_good: the shared documents that were in force before, by key; a malformed one falls back on them.
        now: seconds since the epoch, for flags whose rules ask for the time; it decides nothing else.
        max_dags: that one tenant may have; more are a problem of that tenant.
        limits: on each document's time. One that is over its limit is a problem of its own.
        known: what need not be found out again of the flags.
    """
    limits, known = limits or NoLimits(), known or KnownFlags()
    with limits:
        while True:
            try:
                return _Planner(snapshot, registry, environment, last_good or {}, now, max_dags, limits, known).plan()
            except SlowRuleError as error:
                known = known.without(error)


def plan_one(
    snapshot: Snapshot, registry: Registry, environment: str, dag_id: str, *, now: float = 0.0
) -> DagSpec | None:
    """Return the spec of one DAG, even if it is switched off; None if no document describes it.

    Only its own tenant is looked at, whose id is the part before the DAG id's first double underscore. A document
    whose key is a longer part of the DAG id may be that of a tenant from before such ids were refused: the DAG may be
    its own then, so nobody's is returned.
    """
    parts = dag_id.split(SEPARATOR)
    tenant, *others = [SEPARATOR.join(parts[:end]) for end in range(1, len(parts))] or [dag_id]
    document = snapshot.get(f"tenants/{tenant}")
    if document is None or any(f"tenants/{other}" in snapshot for other in others):
        return None
    planner = _Planner(snapshot, registry, environment, {}, now)
    # Of several entries that give this id the one that is on has it, so those that are off are asked last.
    for planner.gates in (True, False):
        planner.tenant(document)
        if (spec := planner.specs.get(dag_id)) is not None:
            return spec
    return None


class _Planner:
    def __init__(
        self,
        snapshot: Snapshot,
        registry: Registry,
        environment: str,
        last_good: Mapping[str, Document],
        now: float,
        max_dags: int = MAX_DAGS,
        limits: NoLimits | None = None,
        known: KnownFlags | None = None,
    ) -> None:
        self.max_dags = max_dags
        self.limits = limits or NoLimits()
        self.snapshot = snapshot
        self.registry = registry
        self.environment = environment
        self.now = now
        self.gates = True
        # Held documents are of a former snapshot, which a former version of this package may have decoded.
        self.is_decoded = snapshot.decoded_by == DECODER and not snapshot.held
        self.problems: list[Problem] = list(registry.problems)
        self.has_builders = bool(registry or registry.problems)
        self.specs: dict[str, DagSpec] = {}
        self.flags: FlagSet = flags_of(snapshot, last_good, limits=self.limits, known=known or KnownFlags())
        self.again: set[str] = set(self.flags.broken_off)
        self.shared = {flag.document.key: flag.document for flag in self.flags.values()}
        self.under = self._defaults(last_good)
        self.under_dags = self.under.pop("dags", {})
        self.checks = Checks(Allow.model_validate(self.under.pop("allow", {})), registry)
        self.under_builders: dict[str, dict[str, Any]] = {}

    def plan(self) -> Plan:
        self.problems += filter(None, map(explain_key, self.snapshot.values()))
        for document in self.snapshot.under("tenants"):
            self._within_limits(document)
        problems = sorted(at_most({*self.problems, *self.flags.problems.values()}), key=str)
        ordered = {dag_id: self.specs[dag_id] for dag_id in sorted(self.specs)}
        return Plan(ordered, tuple(problems), self.shared, self.snapshot.version, self._lets_run, frozenset(self.again))

    def _within_limits(self, document: Document) -> None:
        """Plan a tenant; one that takes too long is a problem of its own, and keeps all that it has."""
        noted, failures = len(self.problems), self.flags.failures
        try:
            with self.limits.of(document):
                self.tenant(document)
        except DocumentError as error:
            tenant = document.key.removeprefix("tenants/")
            del self.problems[noted:]
            self.specs = {dag_id: spec for dag_id, spec in self.specs.items() if spec.tenant != tenant}
            self._note(document.key, error.reason if error.key == document.key else str(error), tenant)
            self.again.add(document.key)
        if self.flags.failures != failures:
            self.again.add(document.key)

    def _defaults(self, last_good: Mapping[str, Document]) -> dict[str, Any]:
        """Return the part of the defaults that lies under every tenant's document in this environment."""
        document = self.snapshot.get(DEFAULTS)
        if document is None:
            return {}
        try:
            with self.limits.of(document):
                under, problems = defaults.read(document, self.registry, self.environment)
                self.problems += problems
        except DocumentError as error:
            previous = last_good.get(DEFAULTS)
            instead = "its last good contents" if previous else "no defaults"
            self._note(DEFAULTS, error.reason + INSTEAD + instead)
            if previous is None:
                return {}
            document, under = previous, defaults.layered(previous.value, self.environment)
        self.shared[DEFAULTS] = document
        return under

    def tenant(self, document: Document) -> None:
        tenant = document.key.removeprefix("tenants/")
        if not is_tenant_id(tenant):
            return  # noted with its key
        reason = document.malformed or explain_invalid(document, Tenant, is_decoded=self.is_decoded)
        lines = self.snapshot.lines
        if reason := reason or explain_templates_of_tenant(document.value, lines.get(document.key, "")):
            self._note(document.key, reason, tenant)
            return
        content: dict[str, Any] = document.value
        if self.gates and content.get("enabled", self.under.get("enabled", True)) is False:
            return
        if reason := explain_count(content, self.max_dags):
            self._note(document.key, reason, tenant)
            return
        attributes = merge(self.under.get("attributes") or {}, content.get("attributes") or {})
        own = {"airflow": content["airflow"]} if "airflow" in content else {}
        if reason := self.checks.explain_airflow(content.get("airflow") or {}, "airflow", tenant):
            self._note(document.key, reason, tenant)
            return
        context = {**attributes, "targetingKey": tenant, "tenant": tenant, "environment": self.environment}
        dags = content.get("dags") or {}
        if dags and not self.has_builders:
            self._note(document.key, NO_BUILDERS, tenant)
            return
        for builder, entries in dags.items():
            if builder not in self.registry:
                self._note(document.key, f"dags.{builder}: {self.registry.explain_unknown(builder)}", tenant)
                continue
            definition = self.registry[builder]
            below = merge(self._under(builder), own)
            for position, entry in enumerate(entries if isinstance(entries, list) else [entries]):
                path = f"dags.{builder}" + (f"[{position}]" if isinstance(entries, list) else "")
                self._dag(document, tenant, definition, below, entry, attributes, context, path)

    def _under(self, builder: str) -> dict[str, Any]:
        """Return what the defaults say for a builder, all that a tenant says lies over it."""
        if builder not in self.under_builders:
            for_all = {"airflow": self.under.get("airflow") or {}}
            self.under_builders[builder] = merge(for_all, self.under_dags.get(builder) or {})
        return self.under_builders[builder]

    def _dag(
        self,
        document: Document,
        tenant: str,
        definition: Definition,
        below: dict[str, Any],
        entry: dict[str, Any],
        attributes: dict[str, Any],
        context: dict[str, Any],
        path: str,
    ) -> None:
        content = merge(below, entry)
        name = content.pop("name", definition.dag_name)
        if not is_id(name):
            self._note(document.key, f"{path}.name: {describe_bad_id(str(name))}", tenant)
            return
        dag_id = f"{tenant}{SEPARATOR}{name}"
        enabled = content.pop("enabled", True)
        if not isinstance(enabled, bool):
            self._note(document.key, f"{path}.enabled: is true or false, not {shown(enabled)}", tenant, dag_id)
            return
        if self.gates and not (enabled and self._is_on(definition, context)):
            return
        config = self.checks.explain_entry(entry, definition, path, tenant) or _configured(definition, content, path)
        if isinstance(config, str):
            self._note(document.key, config, tenant, dag_id)
            return
        if (other := self.specs.get(dag_id)) is not None:
            assert other.tenant == tenant, "a DAG id begins with the id of its one tenant"
            wrong = f"{path}: an entry before it gives the DAG id {dag_id!r} too: name one of them"
            self._note(document.key, wrong, tenant, dag_id)
            return
        decisions = {
            flag: self.flags.evaluate(flag, default, context, self.now) for flag, default in definition.flags.items()
        }
        spec = DagSpec(dag_id, definition.name, name, self.environment, config, tenant, attributes, decisions)
        if reason := self.checks.explain_built(spec, definition, path):
            self._note(document.key, reason, tenant, dag_id)
            return
        self.specs[dag_id] = spec

    def _lets_run(self, spec: DagSpec) -> bool:
        """Say what the gate says of a DAG by what was last known of its tenant."""
        if spec.builder not in self.registry:
            return True
        tenant = {"targetingKey": spec.tenant, "tenant": spec.tenant, "environment": self.environment}
        try:
            return self._is_on(self.registry[spec.builder], {**spec.attributes, **tenant})
        except (DocumentError, SlowRuleError):  # the rule takes too long: nobody knows better
            return True

    def _is_on(self, definition: Definition, context: dict[str, Any]) -> bool:
        if definition.gate is None:
            return True
        default = definition.flags.get(definition.gate, True)
        return self.flags.evaluate(definition.gate, default, context, self.now).value is not False

    def _note(self, key: str, message: str, tenant: str | None = None, dag_id: str | None = None) -> None:
        self.problems.append(Problem(key, message, tenant, dag_id))


def _configured(definition: Definition, content: dict[str, Any], path: str) -> dict[str, Any] | str:
    """Return a configuration with the defaults of its model, or what is wrong with it."""
    try:
        return definition.config.model_validate(content).model_dump(mode="json")
    except ValidationError as error:
        return explain(error, definition.config, path)
    except Exception as error:  # noqa: BLE001  # a model is somebody's code: what it raises harms this DAG alone
        return f"{path}: {definition.config.__name__} cannot take it: {describe(error)}"
