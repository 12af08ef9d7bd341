from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest

from dagfactory_consul import errors
from dagfactory_consul.errors import DagFactoryError, DocumentError, StoreDenied, StoreError, UnknownKeyError, near_miss
from dagfactory_consul.problems import Problem


def tree(error: type[Exception], depth: int = 0) -> Iterator[tuple[int, str]]:
    """Yield each error's depth and name, as the drawing at the top of the module shows them."""
    yield depth, error.__name__
    for each in sorted(error.__subclasses__(), key=lambda each: inspect.getsourcelines(each)[1]):
        yield from tree(each, depth + 1)


def test_the_drawing_is_the_tree() -> None:
    """The tree at the top of the module shows every error of it, in its place."""
    drawn = re.findall(r"^(.*?)(\w+Error|Store\w+)(?: |$)", errors.__doc__ or "", re.MULTILINE)
    assert [(len(indent) // 4, name) for indent, name in drawn] == list(tree(DagFactoryError))


def test_every_error_says_what_it_means() -> None:
    """Each error has a docstring of its own."""
    assert [name for _, name in tree(DagFactoryError) if not vars(getattr(errors, name))["__doc__"]] == []


def test_a_stores_error_names_the_store() -> None:
    """Which store failed stands in the message, and is a fact besides."""
    error = StoreDenied("the token may not read tenants/", store="consul://host:8500")
    assert (str(error), error.store) == ("consul://host:8500: the token may not read tenants/", "consul://host:8500")
    assert isinstance(error, StoreError)


def test_a_documents_error_names_the_document() -> None:
    """Which document is wrong stands in the message; key and reason are facts besides."""
    error = DocumentError("expected an object", key="tenants/acme")
    assert (str(error), error.key, error.reason) == (
        "tenants/acme: expected an object",
        "tenants/acme",
        "expected an object",
    )


def test_an_unknown_key_is_what_python_calls_it() -> None:
    """It is an AttributeError and a KeyError, and shows its message without KeyError's quotes."""
    error = UnknownKeyError("projects/x has no key 'a'")
    assert isinstance(error, AttributeError)
    assert isinstance(error, KeyError)
    assert str(error) == "projects/x has no key 'a'"


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("proces_messages", ["process_messages", "process_invoices"], ", did you mean 'process_messages'"),
        ("color", ["colour"], ", did you mean 'colour'?"),
        ("tier", ["tiers", "tie", "x"], ", did you mean 'tiers' or 'tie'?"),
        ("zzz", ["b", "a"], "; known: a, b"),
        ("zzz", [f"name{number}" for number in range(10)], "; known: name0, name1, name2, name3"),
        ("zzz", [], ""),
    ],
)
def test_a_near_miss_is_offered(name: str, known: list[str], message: str) -> None:
    """A name that nearly fits is offered, else what there is, and nothing where there is nothing."""
    assert near_miss(name, known).startswith(message)
    assert near_miss(name, iter(known)) == near_miss(name, known)


def test_a_long_list_is_cut() -> None:
    """No message lists more than eight names."""
    assert near_miss("zzz", map(str, range(100))).endswith(" and 92 more")


def test_a_problem_says_where_and_what() -> None:
    """A problem reads as a line that says which document is to be mended, and which DAG it touches."""
    assert str(Problem("tenants/acme", "no such field")) == "tenants/acme: no such field"
    shown = str(Problem("tenants/acme", "limit: not a number", "acme", "acme__job"))
    assert shown == "tenants/acme (DAG acme__job): limit: not a number"
