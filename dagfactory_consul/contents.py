"""What one generated DAG file holds: the specs of some tenants' DAGs, as data, and its text in Python."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .keyed_file import dumps
from .release import ACTIVE, Placement, placement_of

_TEXT = '''"""DAGs of {tenants}, in Airflow. Written by dagfactory_consul: what is edited here is lost.

{header}
"""

{imports}from dagfactory_consul.generated import {name}

{call}
'''
_INLINE = """emit(
    globals(),
    code={code!r},
    dags=r'''
{dags}
''',
)"""
_BESIDE = """emit_from(globals(), {beside!r}, code={code!r})"""
_FEW = 5
"""Up to so many tenants have a sentence each in a file's header."""


State = tuple[str, str, str, float, float]


class Contents(NamedTuple):
    """What a file holds. Equal contents give equal bytes, on any machine."""

    store: str
    """The address of the store, for humans."""
    indexes: Mapping[str, int]
    """By tenant: the store's number of the last change that reached this file, 0 where it keeps none."""
    dags: Mapping[str, Placement]
    """By DAG id, in order."""

    @classmethod
    def of_bytes(cls, data: bytes) -> Contents:
        """Read what `to_bytes` has written."""
        fields = json.loads(data)
        dags = {each["spec"]["dag_id"]: placement_of(each) for each in fields["dags"]}
        return cls(fields["store"], fields["tenants"], dags)

    def to_bytes(self) -> bytes:
        """Return it as it is kept in the history."""
        fields = {"store": self.store, "tenants": self.indexes, "dags": [to_json(each) for each in self.dags.values()]}
        return dumps(fields).encode()

    def same_dags(self, other: Contents) -> bool:
        """Say whether both give the same DAGs, whatever their headers say."""
        return self.states() == other.states()

    def states(self) -> dict[str, State]:
        """Return all that makes a DAG what it is, by its id."""
        return {dag_id: state_of(each) for dag_id, each in self.dags.items()}

    def only(self, dag_id: str) -> Contents:
        """Return the contents without any other DAG, and without other tenants."""
        placed = self.dags[dag_id]
        indexes = {tenant: index for tenant, index in self.indexes.items() if tenant == placed.spec.tenant}
        return self._replace(indexes=indexes, dags={dag_id: placed})

    def beside(self) -> str:
        """Return what stands in a JSON file beside the Python file: tenants as in a header, and DAGs, one a line.

        Airflow keeps the whole text of a file with each of its DAGs, and reads through all that it keeps for each DAG
        that it writes: with many of them in a file that is too much. And it shows that text as the code of each of
        these DAGs, to people who may not see the other tenants'.
        """
        tenants = {tenant: {"index": index, "hash": self._hash(tenant)} for tenant, index in self.indexes.items()}
        dags = ",\n".join(dumps(to_json(each)) for each in self.dags.values())
        return f'{{"tenants": {dumps(tenants)},\n"dags": [\n{dags}\n]}}\n'

    def text(self, code: str | None, modules: Iterable[str] = (), *, beside: str | None = None) -> str:
        """Return the file's text.

        Args:
            code: where the builders' code stands, relative to the bundle; None where they are installed.
            modules: what the file imports for the builders: Airflow's processor imports before it forks what stands at
                the top of a file, once for all.
            beside: the name of the file with the DAGs; None: they stand in the text.
        """
        lines = [f"store: {_plain(self.store)}"]
        if beside is not None:
            # Airflow shows this text to all who may read one of the DAGs: it names nobody else's tenant.
            tenants = "1 tenant" if len(self.indexes) == 1 else f"{len(self.indexes)} tenants"
            lines.append(f"configuration: in {beside}, on the DAG processor")
        elif len(self.indexes) <= _FEW:
            tenants = ", ".join(self.indexes)
            for tenant, index in self.indexes.items():
                at = f"at index {index}, " if index else ""
                lines.append(f"tenants/{tenant}: {at}configuration {self._hash(tenant)}")
        else:
            tenants = f"{len(self.indexes)} tenants"
            lines += ["", "tenant, index of its document, hash of its configuration:"]
            lines += [f"{tenant} {index} {self._hash(tenant)}" for tenant, index in self.indexes.items()]
        if beside is not None:
            name, call = "emit_from", _BESIDE.format(beside=beside, code=code)
        else:
            # Sorted: a DAG shows its configuration, and what comes from the history has its keys in that order.
            dags = json.dumps([to_json(each) for each in self.dags.values()], indent=1, sort_keys=True)
            # No quote ends the string that it stands in; JSON has its own way to write one.
            name, call = "emit", _INLINE.format(code=code, dags=dags.replace("'", "\\u0027"))
        imports = "".join(f"import {module}\n" for module in sorted(set(modules)))
        return _TEXT.format(
            tenants=tenants, header="\n".join(lines), imports=imports and f"{imports}\n", name=name, call=call
        )

    def _hash(self, tenant: str) -> str:
        own = [[dag_id, each.spec.hash, each.state] for dag_id, each in self.dags.items() if each.spec.tenant == tenant]
        return hashlib.sha256(dumps(own).encode()).hexdigest()[:16]


def state_of(placed: Placement) -> State:
    """Return all that makes a DAG what it is: also where its builder stands, which may move."""
    since = placed.since if placed.state != ACTIVE else 0.0
    return placed.spec.hash, placed.state, placed.origin, since, placed.refused


def to_json(placed: Placement) -> dict[str, Any]:
    """Return what is kept of a DAG (see `placement_of`): nothing that changes while the DAG does not."""
    fields: dict[str, Any] = {"spec": placed.spec.to_json(), "origin": placed.origin}
    if placed.state != ACTIVE:
        fields |= {"state": placed.state, "since": placed.since}
    if placed.refused:
        fields["refused"] = placed.refused
    return fields


def _plain(text: str) -> str:
    """Return it without what would end the docstring that it is in, or the file: quotes, NUL, line breaks."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown.replace("\\", "/").replace('"', "'")
