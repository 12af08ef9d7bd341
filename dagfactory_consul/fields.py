"""The declarations of a model's fields, at every depth: what may stand where in a document."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo


def unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return an annotation without what is noted beside it, and these notes."""
    notes: tuple[Any, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            notes = (*more, *notes)
        elif (inner := getattr(annotation, "__value__", None)) is not None and not isinstance(annotation, type):
            annotation = inner  # `type X = …`
        elif (inner := getattr(annotation, "__supertype__", None)) is not None:
            annotation = inner  # NewType
        else:
            return annotation, notes


def fields_of(cls: Any) -> dict[str, Any]:
    """Return a class's fields by each name that a document may give them, with their annotations; {} if it has none."""
    origin = cls if isinstance(cls, type) else get_origin(cls)
    if not isinstance(origin, type):
        return {}
    return _fields_of(origin)


@functools.lru_cache(maxsize=1024)
def _fields_of(cls: type) -> dict[str, Any]:
    if issubclass(cls, BaseModel):
        if not cls.__pydantic_fields_complete__:
            cls.model_rebuild(raise_errors=False)
        return {name: annotation for own, field in cls.model_fields.items() for name, annotation in _named(own, field)}
    is_typed_dict = issubclass(cls, dict) and hasattr(cls, "__total__")  # `typing`'s or `typing_extensions`'
    if dataclasses.is_dataclass(cls) or is_typed_dict or hasattr(cls, "_fields"):
        try:
            return get_type_hints(cls, include_extras=True)
        except (NameError, TypeError):  # pydantic will say so
            return {}
    return {}


def _named(name: str, field: FieldInfo) -> Iterator[tuple[str, Any]]:
    # pydantic takes off the outermost `Annotated`, and keeps what it noted.
    annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    yield name, annotation
    for alias in (field.alias, field.validation_alias):
        for each in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            if isinstance(each, str) and each != name:
                yield each, annotation


def members(annotation: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield what a value may be, with what is noted beside it: the members of a union, else the annotation itself."""
    bare, notes = unwrap(annotation)
    if _is_union(bare):
        for each in get_args(bare):
            for member, more in members(each):
                yield member, (*notes, *more)
    else:
        yield bare, notes


def below(annotation: Any, part: str | int) -> Iterator[Any]:
    """Yield the annotations of what may stand in a value, under a name or at a position."""
    for bare, _ in members(annotation):
        if (fields := fields_of(bare)) or _is_model(bare):
            if (root := fields.get("root")) is not None and getattr(bare, "__pydantic_root_model__", False):
                yield from below(root, part)
            elif part in fields:
                yield fields[str(part)]
            continue
        origin, arguments = get_origin(bare), get_args(bare)
        if origin is None or origin is Literal or not arguments:
            continue
        if isinstance(origin, type) and issubclass(origin, Mapping):
            yield arguments[-1]
        elif origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            if isinstance(part, int) and part < len(arguments):
                yield arguments[part]
        else:
            yield arguments[0]


def at(annotation: Any, path: tuple[str | int, ...]) -> list[Any]:
    """Return the annotations of what may stand at a place in a value; [] where nothing says what that is."""
    found = [annotation]
    for part in path:
        found = [inner for each in found for inner in below(each, part)]
    return found


def of_texts(annotation: Any, path: tuple[str | int, ...]) -> list[tuple[Any, tuple[Any, ...]]]:
    """Return what a text at a place in a value may be, with what is noted beside it; [] where nothing says that."""
    found = [each for annotation_there in at(annotation, path) for each in members(annotation_there)]
    return [(bare, notes) for bare, notes in found if bare not in (None, type(None), bool, int, float)]


def classes(annotation: Any, path: str = "", seen: set[Any] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield every class with fields that an annotation mentions, at every depth, and where."""
    seen = set() if seen is None else seen
    bare, _ = unwrap(annotation)
    if get_origin(bare) is Literal:
        return
    if _is_model(bare) or fields_of(bare):
        if bare in seen:
            return
        seen.add(bare)
        yield path, bare
        for name, each in fields_of(bare).items():
            yield from classes(each, f"{path}.{name}" if path else name, seen)
        return
    for each in get_args(bare):
        yield from classes(each, path, seen)


def _is_model(bare: Any) -> bool:
    return isinstance(bare, type) and issubclass(bare, BaseModel)


def _is_union(bare: Any) -> bool:
    return get_origin(bare) in (Union, UnionType)
