"""A DAG spec: all that determines one DAG, and a hash of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .decisions import Decision
from .keyed_file import dumps


@dataclass(frozen=True)
class DagSpec:
    """All that determines one DAG. Equal specs build equal DAGs."""

    dag_id: str
    builder: str
    name: str
    environment: str
    config: Mapping[str, Any]
    """The resolved configuration, as JSON: the builder's model, filled from all layers."""
    tenant: str | None = None
    """None for a DAG or a group that a project makes by hand."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """What the flags said, and why. Only the values are in the hash: an edit that changes no value changes no DAG."""

    @property
    def flags(self) -> dict[str, Any]:
        """The flags' values."""
        return {name: decision.value for name, decision in self.decisions.items()}

    @cached_property
    def hash(self) -> str:
        """A hash of all that determines the DAG, of this tenant alone: nothing global is in it."""
        return _hash(self._text())

    def weigh(self) -> str:
        """Return all that determines the DAG as text, and keep the hash of it: both for the price of one."""
        text = self._text()
        self.__dict__["hash"] = _hash(text)  # as the cached property would, had it been asked
        return text

    def _text(self) -> str:
        content = [self.dag_id, self.builder, self.name, self.environment, self.config, self.tenant, self.attributes]
        return dumps([*content, self.flags])

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON, from which `from_json` makes an equal one."""
        return {
            "dag_id": self.dag_id,
            "builder": self.builder,
            "name": self.name,
            "environment": self.environment,
            "config": self.config,
            "tenant": self.tenant,
            "attributes": self.attributes,
            "hash": self.hash,
            "flags": {
                name: [each.value, each.variant, each.reason, each.index] for name, each in self.decisions.items()
            },
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DagSpec:
        fields = dict(content)
        decisions = {name: Decision(*each) for name, each in fields.pop("flags").items()}
        known = fields.pop("hash")
        spec = cls(**fields, decisions=decisions)
        spec.__dict__["hash"] = known  # as the cached property would, had it been asked
        return spec


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
