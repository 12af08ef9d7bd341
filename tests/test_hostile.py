from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from dagfactory_consul.plan import Plan, plan
from dagfactory_consul.problems import MAX_LETTERS, MAX_PROBLEMS
from tests.making import registry_of, snapshot_of

LIMIT = 65_536
SMALL = 8_192


def filled(make: Callable[[int], Any], size: int) -> bytes:
    """Return the largest document of a kind that has no more bytes than `size`."""
    low, high = 1, size
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(as_text(make(middle))) <= size else (low, middle - 1)
    return as_text(make(low))


def as_text(document: Any) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document, separators=(",", ":")).encode()


KINDS: dict[str, Callable[[int], Any]] = {
    "unknown fields": lambda n: {f"field{each}": 1 for each in range(n)},
    "unknown fields of a DAG": lambda n: {"dags": {"Job": {f"limi{each}": 1 for each in range(n)}}},
    "unknown builders": lambda n: {"dags": {f"Jop{each}": {} for each in range(n)}},
    "a long name": lambda n: {"x" * n: 1},
    "a long builder": lambda n: {"dags": {"Job" * n: {}}},
    "a long id": lambda n: {"dags": {"Job": {"name": "x" * n}}},
    "a long name above many values": lambda n: {"attributes": {"x" * (n * 4): [[1]] * n, "password": "x"}},
    "DAGs": lambda n: {"dags": {"Job": [{}] * n}},
    "DAGs that are wrong": lambda n: {"dags": {"Job": [{"a": 1}] * n}},
    "a long text": lambda n: {"dags": {"Job": {"source": "x" * n}}},
    "a text where a number belongs": lambda n: {"dags": {"Job": {"limit": "9" * n}}},
    "a text full of tokens": lambda n: {"attributes": {"note": "eyJ-" * n}},
    "a long secret": lambda n: {"password": "x" * n},
    "a list of tags": lambda n: {"airflow": {"tags": ["x"] * n}},
    "a list of wrong tags": lambda n: {"airflow": {"tags": [1] * n}},
    "a list where a text belongs": lambda n: {"dags": {"Job": {"source": [1] * n}}},
    "a huge number": lambda n: b'{"attributes": {"n": ' + b"9" * n + b"}}",
    "huge numbers": lambda n: {"airflow": {f"retries{each}": 2**62 for each in range(n)}},
    "nesting": lambda n: b'{"a":' * n + b"1" + b"}" * n,
    "nesting of lists": lambda n: b'{"attributes": {"a": ' + b"[" * n + b"]" * n + b"}}",
    "a key that is there twice": lambda n: b"{" + b"".join(b'"k%d":1,' % each for each in range(n)) + b'"z":1,"z":1}',
    "YAML's brackets": lambda n: b"a: [" + (b"[" * 90 + b"]" * 90 + b",") * n + b"]",
    "YAML's mappings": lambda n: b"a: [" + b"a: b," * n + b"]",
    "YAML's aliases": lambda n: b"a: &a [" + b"x," * 40 + b"]\nb: [" + b"*a," * n + b"]",
    "YAML's merges": lambda n: b"a: &a {x: 1}\nb: [" + b"{<<: *a}," * n + b"]",
    "YAML's sexagesimal number": lambda n: b'a: !!int "' + b"1:" * n + b'1"',
    "escapes": lambda n: {"\x1b[2J\n" * n: 1},
}


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions of Python, and of C, are called by it: its cost, whatever else the machine does."""
    count = 0

    def on(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(on)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def planned(text: bytes) -> Plan:
    return plan(snapshot_of({"tenants/evil": text, "tenants/good": {"dags": {"Job": {}}}}), registry_of(), "production")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_document_harms_its_tenant_alone(kind: str) -> None:
    """A document as large as one may be is read and planned before long, and its neighbour's DAG is as it should be."""
    found = planned(filled(KINDS[kind], LIMIT))
    assert "good__job" in found.specs
    assert not [problem for problem in found.problems if problem.tenant == "good"]


@pytest.mark.parametrize("kind", KINDS)
def test_its_problems_are_few_and_short(kind: str) -> None:
    """However large it is, what is wrong with it is told in a few lines that a terminal shows as they are."""
    lines = [str(problem) for problem in planned(filled(KINDS[kind], LIMIT)).problems]
    assert len(lines) <= MAX_PROBLEMS + 1
    assert all(len(line) <= MAX_LETTERS and line.isprintable() for line in lines)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
def test_eight_times_the_text_is_about_eight_times_the_work(kind: str) -> None:
    """Nothing over a document takes more than about linear time: as many calls of functions for each letter of it."""
    planned(b"{}")  # modules are imported, and schemas compiled
    texts = [filled(KINDS[kind], size) for size in (SMALL, LIMIT)]
    small, large = [calls_of(functools.partial(planned, text)) for text in texts]
    assert large < 12 * small + 10_000
