"""What a flag says for one tenant, and why: all that a builder and a spec need to know of flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .errors import near_miss


class Decision(NamedTuple):
    """What a flag says for one tenant, and why."""

    value: Any
    variant: str | None
    """The name of the variant; None where the builder's default answered."""
    reason: str
    """As OpenFeature has them: STATIC, TARGETING_MATCH, DEFAULT (also where no flag exists), DISABLED, ERROR."""
    index: int = 0  # type: ignore[assignment]  # nobody misses tuple.index
    """The store's number of the change that decided (Consul's ModifyIndex); 0 where no flag did."""


class FlagValues(Mapping[str, Any]):
    """The values of the flags that shape one DAG, by name; `decisions` says why each is what it is."""

    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        self.decisions = dict(decisions)

    def __getitem__(self, name: str) -> Any:
        if name not in self.decisions:
            raise KeyError(f"the builder does not declare the flag {name!r}{near_miss(name, self.decisions)}")
        return self.decisions[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self.decisions)

    def __len__(self) -> int:
        return len(self.decisions)

    def __repr__(self) -> str:
        return f"FlagValues({dict(self)})"
