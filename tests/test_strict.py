"""A builder whose model takes unknown fields at some depth is refused, alone, with the line to write."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional

import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, RootModel, ValidationError, create_model
from typing_extensions import TypedDict

from dagfactory_consul import DagConfig, Model
from dagfactory_consul.plan import plan
from dagfactory_consul.strict import explain_lax
from tests.making import code, fresh_registry, snapshot_of, write


class Lax(BaseModel):
    limit: int = 1


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Strict(Model):
    kids: tuple[Strict, ...] = ()


class OfLax(Model):
    inner: Lax | None = None


class Listed(RootModel[list[Lax]]):
    pass


@pydantic.dataclasses.dataclass
class LaxData:
    limit: int = 1


@dataclasses.dataclass
class Data:
    limit: int = 1


class Typed(TypedDict, total=False):
    limit: int


class LaxTyped(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]  # as pydantic's documentation has it
    limit: int


class Named(NamedTuple):
    limit: int = 1


LAX: list[tuple[Any, str, str]] = [
    (Lax, "field", "write `class Lax(Model):` (from dagfactory_consul import Model)"),
    (list[Lax], "field", "class Lax(Model)"),
    (Optional[Lax], "field", "class Lax(Model)"),  # noqa: UP045  # as people write it
    (dict[str, list[Lax | None]], "field", "class Lax(Model)"),
    (tuple[int, Lax], "field", "class Lax(Model)"),
    (Annotated[Lax | int, "note"], "field", "class Lax(Model)"),
    (OfLax, "field.inner", "class Lax(Model)"),
    (Listed, "field.root", "class Lax(Model)"),
    (Open, "field", 'write `model_config = ConfigDict(extra="forbid")` in it'),
    (LaxData, "field", 'write `@dataclass(config=ConfigDict(extra="forbid"))` over it'),
    (LaxTyped, "field", 'write `__pydantic_config__ = ConfigDict(extra="forbid")` in it'),
]
STRICT: list[Any] = [Strict, list[Strict], Data, Typed, Named, dict[str, Any], Literal["Lax"], int, Any]


def model_of(annotation: Any) -> type[BaseModel]:
    return create_model("ReportConfig", __base__=DagConfig, field=(annotation, None))


@pytest.mark.parametrize(("annotation", "path", "line"), LAX)
def test_what_is_lax(annotation: Any, path: str, line: str) -> None:
    """Wherever a model mentions a class that takes unknown fields, the class, the place and the line are named."""
    said = explain_lax(model_of(annotation)) or ""
    assert said.startswith(f"ReportConfig.{path}: ")
    assert line in said


@pytest.mark.parametrize("annotation", STRICT)
def test_what_is_strict(annotation: Any) -> None:
    """What refuses unknown fields, or says outright that it takes any, passes."""
    assert explain_lax(model_of(annotation)) is None


@pytest.mark.parametrize("annotation", [Strict, Data, Typed, Named])
def test_strict_is_what_pydantic_takes_for_it(annotation: Any) -> None:
    """Of what passes here pydantic does refuse an unknown field."""
    with pytest.raises(ValidationError):
        model_of(annotation).model_validate({"field": {"limt": 5}})


LAX_BUILDER = """
from pydantic import BaseModel
from dagfactory_consul import DagBuilder, DagConfig, builder

class Source(BaseModel):
    limit: int = 500

class LooseConfig(DagConfig):
    source: Source = Source()

@builder("Loose")
class Loose(DagBuilder[LooseConfig]):
    pass

@builder("Good")
class Good(DagBuilder[DagConfig]):
    pass
"""


def test_only_the_builder_is_refused(tmp_path: Path) -> None:
    """A lax builder is a problem of its own; others of its module, and other modules, are there."""
    write(tmp_path / "builders/loose.py", LAX_BUILDER)
    write(tmp_path / "builders/other.py", code("Other"))
    documents: dict[str, Any] = {
        "tenants/acme": {"dags": {"Good": {}, "Other": {}}},
        "tenants/lost": {"dags": {"Loose": {}}},
    }
    with fresh_registry(tmp_path) as registry:
        registry.load([str(tmp_path / "builders")], entry_points=False)
        found = plan(snapshot_of(documents), registry, "production")
    assert sorted(found.specs) == ["acme__good", "acme__other"]
    said = [str(each) for each in found.problems]
    assert any(
        "loose.py (Loose): the builder Loose is not used. LooseConfig.source: Source takes" in each for each in said
    )
    assert any(each.startswith("tenants/lost: dags.Loose: there is no builder 'Loose'") for each in said)
