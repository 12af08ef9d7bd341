"""Whether a builder's model refuses unknown fields at every depth: a slip in a nested one would be taken in silence."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import BaseModel

from .fields import classes


def explain_lax(model: type[BaseModel]) -> str | None:
    """Say which class of a model takes unknown fields, where, and the line to write; None if none of them does."""
    for path, cls in classes(model):
        if (line := _line(cls)) is not None:
            where = f"{model.__name__}.{path}" if path else model.__name__
            return f"{where}: {cls.__name__} takes fields that it does not know, so a slip would be silent: {line}"
    return None


def _line(cls: Any) -> str | None:
    """Return what to write in a class that takes unknown fields; None where it refuses them."""
    name = cls.__name__
    if isinstance(cls, type) and issubclass(cls, BaseModel):
        if cls.model_config.get("extra") == "forbid" or getattr(cls, "__pydantic_root_model__", False):
            return None
        if "extra" in cls.model_config:
            return 'write `model_config = ConfigDict(extra="forbid")` in it'
        return (
            f"write `class {name}(Model):` (from dagfactory_consul import Model), or "
            '`model_config = ConfigDict(extra="forbid")` in it'
        )
    config = getattr(cls, "__pydantic_config__", None)
    is_pydantics = dataclasses.is_dataclass(cls) and hasattr(cls, "__pydantic_fields__")
    # Of the standard library's dataclasses and TypedDicts pydantic asks the model around them, if they say nothing.
    if (config or {}).get("extra", None if is_pydantics else "forbid") == "forbid":
        return None
    if is_pydantics:
        return 'write `@dataclass(config=ConfigDict(extra="forbid"))` over it'
    return 'write `__pydantic_config__ = ConfigDict(extra="forbid")` in it'
