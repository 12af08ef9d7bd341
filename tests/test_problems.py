from __future__ import annotations

import pytest

from dagfactory_consul.problems import MAX_LETTERS, MAX_PROBLEMS, Problem, at_most, printable


@pytest.mark.parametrize("bad", ["\x1b[2J", "\n", "\r", "\x00", "\x9b", "\u202e", "\u2028", "\u200b", "\ud800"])
def test_control_characters_are_escaped(bad: str) -> None:
    """A key, name or message that would move a cursor, hide a line or turn it around is shown as escapes."""
    line = str(Problem(f"tenants/a{bad}", f"b{bad}", "a", f"a__c{bad}"))
    assert bad not in line
    assert line.isprintable()
    assert line.count("\\") == 3


def test_letters_of_any_language_are_shown() -> None:
    """Only what cannot be printed is escaped."""
    assert printable("münchen: größer, 東京") == "münchen: größer, 東京"


def test_a_problem_is_short() -> None:
    """However long its parts are, a problem is a line of few letters."""
    assert len(str(Problem("tenants/" + "x" * 10_000, "y" * 10_000))) == MAX_LETTERS


def test_of_one_document_few_problems_are_told() -> None:
    """Of a document with many problems the first few are told, and how many more there are; others are told in full."""
    many = [Problem("tenants/evil", f"wrong {number:04}", "evil") for number in range(1_000)]
    found = list(at_most([*many, Problem("tenants/acme", "wrong", "acme")]))
    assert found[:MAX_PROBLEMS] == many[:MAX_PROBLEMS]
    assert found[MAX_PROBLEMS:] == [
        Problem("tenants/evil", "and 980 more", "evil"),
        Problem("tenants/acme", "wrong", "acme"),
    ]
