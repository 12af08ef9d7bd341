"""Template files: a text that ends like `.sh` or `.sql` in some operators' fields is the name of a file to Airflow.

Airflow loads the file from the DAG folder of the machine, renders it and takes it in the text's place. A text of a
document is data: no operator may take it for a name.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_origin

from . import fields, references, templates

if TYPE_CHECKING:
    from airflow.sdk import DAG
    from pydantic import BaseModel

    from .spec import DagSpec


class _Name(NamedTuple):
    """A text in an operator's field that Airflow takes for a file's name."""

    task_id: str
    field: str
    text: str
    endings: tuple[str, ...]


def explain(dag: DAG, spec: DagSpec, model: type[BaseModel]) -> str | None:
    """Say which operator takes a text of a document for the name of a file; None if none does.

    Args:
        dag: built from the spec. Airflow has not loaded its template files yet.
        spec: what the documents and flags say.
        model: of the builder's configuration. Its defaults, and the choices that it lists, are the builder's own.
    """
    names = list(_names(dag))
    given = list(_given(spec, model)) if names else []
    for task_id, field, text, endings in names:
        for place, each in given:
            if each.endswith(endings) and text.endswith(each):
                ending = next(ending for ending in endings if text.endswith(ending))
                return (
                    f"{place} ends in {ending}, so Airflow would load a file of that name for {field} of the task "
                    f"{task_id}: write it without that ending. Or have the builder hand it over as "
                    "airflow.sdk.literal(…), or its model list the names (Literal)"
                )
    return None


def explain_joined(dag: DAG, spec: DagSpec, model: type[BaseModel]) -> str | None:
    """Say which text of a document becomes a part of a template's marks where a builder joins it to others.

    `{` and `{ conn.x.password }}` hold no template, each by itself.

    Args:
        dag: built from the spec.
        spec: what the documents and flags say.
        model: of the builder's configuration.
    """
    given = [(place, text) for place, text in _given(spec, model) if text and (text[0] in "{%#" or text[-1] == "{")]
    for task in dag.tasks if given else ():
        for field in task.template_fields:
            for _, whole in _texts(_value(task, field)):
                if not templates.may_hold(whole):
                    continue
                if place := next((place for place, text in given if _is_joined(text, whole)), None):
                    return (
                        f"{place} and what the builder puts beside it make a template ({{{{, {{% or {{#) in {field} of "
                        f"the task {task.task_id}: write it without a brace, % or # at its ends. Or have the builder "
                        "hand it over as airflow.sdk.literal(…)"
                    )
    return None


def _is_joined(text: str, whole: str) -> bool:
    """Say whether a mark of a template is in part in a text, and in part beside it."""
    start = whole.find(text)
    while start >= 0:
        end = start + len(text)
        if templates.may_hold(whole[max(0, start - 1) : start + 1]) or templates.may_hold(whole[end - 1 : end + 1]):
            return True
        start = whole.find(text, start + 1)
    return False


def _names(dag: DAG) -> Iterator[_Name]:
    for task in dag.tasks:
        endings = tuple(getattr(task, "template_ext", None) or ())
        for field in task.template_fields if endings else ():
            for _, text in _texts(_value(task, field)):
                if text.endswith(endings):
                    yield _Name(task.task_id, field, text, endings)


def _value(task: Any, field: str) -> Any:
    """Return what a task has in a field; of a mapped one what all of its instances have, and what each has."""
    partial = getattr(task, "partial_kwargs", None)
    if not isinstance(partial, Mapping):
        return getattr(task, field, None)
    each = getattr(getattr(task, "expand_input", None), "value", None)
    if isinstance(each, Mapping):
        return [partial.get(field), each.get(field)]
    return [partial.get(field), each]


def _given(spec: DagSpec, model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield the texts that a DAG has from documents and flags, and their places there."""
    own = {text for default in references.defaults_of(model) for _, text in _texts(default)}
    for path, text in _texts(spec.config):
        if text not in own and not _is_choice(model, path):
            yield templates.place_of("", path), text
    for start, values in (("attributes", spec.attributes), ("the flag", spec.flags)):
        for path, text in _texts(values):
            yield (f"{start} {path[0]}" if start == "the flag" else templates.place_of(start, path)), text


def _is_choice(model: type[BaseModel], path: templates.Path) -> bool:
    """Say whether the model lists each text that a place may have."""
    found = [bare for bare, _ in fields.of_texts(model, path)]
    return bool(found) and all(
        get_origin(bare) is Literal or (isinstance(bare, type) and issubclass(bare, enum.Enum)) for bare in found
    )


def _texts(value: Any, path: templates.Path = ()) -> Iterator[tuple[templates.Path, str]]:
    """Yield the texts in a value, and their places. A literal of Airflow's is none: it is handed over as it is."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(each, (*path, str(name)))
    elif isinstance(value, list | tuple | set | frozenset):
        for position, each in enumerate(value):
            yield from _texts(each, (*path, position))
