"""What somebody who may write a document, a flag or a file, or who answers in Consul's place, may do to others.

A document's text is what is written under its key; `EVIL` in a key is the hostile tenant's id. The words are what
Airflow has to show of it; none are given where the document is harmless as it is.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests import proxy
from tests.proxy import Behaviour, Exchange

EVIL = "EVIL"
TENANT = f"tenants/{EVIL}"


class Hostile(NamedTuple):
    """One document that means harm."""

    text: bytes
    said: tuple[str, ...]
    """Words of the problem that Airflow shows."""
    key: str = TENANT
    in_loader: bool = True
    """Whether the plain loader can know of it, too: it cannot ask Airflow's database."""


def _job(*said: str, **config: Any) -> Hostile:
    """A document of the careful builder."""
    return Hostile(json.dumps({"dags": {"Job": config}}).encode(), (TENANT, *said))


def _airflow(*said: str, **settings: Any) -> Hostile:
    return _job(*said, airflow=settings)


def _loose(*said: str, **config: Any) -> Hostile:
    """A document of the builder that checks nothing itself, beside the DAG that the tenant has."""
    return Hostile(json.dumps({"dags": {"Job": {}, "Loose": config}}).encode(), (TENANT, *said))


def _flag(targeting: Any, *said: str, **more: Any) -> Hostile:
    flag = {"state": "ENABLED", "variants": {"v1": "v1", "v2": "v2"}, "defaultVariant": "v1", "targeting": targeting}
    return Hostile(json.dumps({**flag, **more}).encode(), ("flags/parser", *said), "flags/parser")


def _nested(operator: str, depth: int) -> Any:
    """A rule that works through every element for every element, `depth` times."""
    rule: Any = {"var": ""}
    for _ in range(depth):
        rule = {operator: [list(range(60)), rule]}
    return rule


_DOUBLING = {"reduce": [list(range(40)), {"cat": [{"var": "accumulator"}, {"var": "accumulator"}]}, "xx"]}
_LETTERS = "a" * 60_000

DOCUMENTS: dict[str, Hostile] = {
    # Values that Airflow's database or its processes cannot take.
    "retries over 32 bits": _airflow("retries", retries=3_000_000_000),
    "a queue of 300 letters": _airflow("queue", queue="q" * 300),
    "a pool of 300 letters": _airflow("pool", pool="p" * 300),
    "a pool that is not there": _airflow("no_such_pool", pool="no_such_pool")._replace(in_loader=False),
    "an owner of 2,100 letters": _airflow("owner", owner="o" * 2_100),
    "a priority over 32 bits": _airflow("priority", priority=2**40),
    "a concurrency over 32 bits": _airflow("concurrency", concurrency=2**40),
    "a delay of ages": _airflow("retry_delay", retry_delay=1e300),
    "a tag of 300 letters": _airflow("tags", tags=["t" * 300]),
    "NUL in a description": _job("description", description="a\0b"),
    "NUL in a tag": _job("tags", tags=["a\0b"]),
    "NUL in a field's name": _job(**{"no\0te": 1}),
    "runs over 32 bits": _job("max_active_runs", max_active_runs=3_000_000_000),
    "runs over 64 bits": _job("too large", max_active_runs=10**30),
    "a number of 5,000 digits": Hostile(b'{"attributes": {"n": %s}, "dags": {"Job": {}}}' % (b"9" * 5_000), (TENANT,)),
    "a schedule of 800 letters": _job("schedule", schedule=",".join(["1"] * 400) + " * * * *"),
    "a schedule that never comes": _job("schedule", schedule="0 0 31 2 *"),
    "a schedule that is none": _job("does not take this DAG", schedule="every hour"),
    "a start in the year 9999": _job("gives no run", start_date="9999-12-31T23:59:59Z", schedule="@hourly"),
    "an operator's queue of 300 letters": _loose("queue", operator={"queue": "q" * 300}),
    "an operator's retries over 32 bits": _loose("retries", operator={"retries": 3_000_000_000}),
    "an operator's pool that is not there": _loose("no_such_pool", operator={"pool": "no_such_pool"})._replace(
        in_loader=False
    ),
    "an operator's text with NUL": _loose(operator={"doc_md": "a\0b"}),
    "an operator's number over 64 bits": _loose(operator={"params": {"n": 10**30}}),
    "an operator's id of 300 letters": _loose(task_id="t" * 300),
    # Documents that take long to read, to plan or to build.
    "a key that occurs twice in 500 KB": Hostile(
        b"{" + b",".join(b'"k%d":1' % number for number in range(40_000)) + b',"k39999":2}', (TENANT,)
    ),
    "60 KB of letters in a wrong document": _job("unknown", note=_LETTERS, limt=1),
    "60 KB like a web token": _job("unknown", note="eyJ-" * 15_000, limt=1),
    "20,000 DAGs of one name": Hostile(b'{"dags":{"Job":[%s]}}' % b",".join([b"{}"] * 20_000), (TENANT,)),
    "1,500 DAGs": _job(),
    "3,000 unknown fields": _job("unknown", **{f"limit{number}": 1 for number in range(3_000)}),
    "1,000 unknown builders": Hostile(
        json.dumps({"dags": {f"Job{number}": {} for number in range(1_000)}}).encode(), (TENANT, "1,000 DAGs")
    ),
    "a name of 60 KB": Hostile(json.dumps({"dags": {"J" * 60_000: {}}}).encode(), (TENANT,)),
    "500 KB of brackets as YAML": Hostile(b"a: " + b"[" * 500_000, (TENANT,)),
    "aliases that multiply": Hostile(
        b"a0: &a0 [x,x,x,x,x,x,x,x]\n"
        + b"".join(
            b"a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n" % (n, n, *[n - 1] * 8) for n in range(1, 9)
        ),
        (TENANT,),
    ),
    "nested 10,000 times": Hostile(b'{"attributes":' * 10_000, (TENANT,)),
    "a builder that hangs": _job("longer", mood="endless"),
    "a builder that is slow": _job("longer", mood="slow"),
    "a builder that ends its process": _job(mood="exit"),
    "a builder that takes all memory": _job(mood="greedy"),
    "three DAGs that hang": Hostile(
        json.dumps({"dags": {"Job": [{"name": f"e{n}", "mood": "endless"} for n in range(3)]}}).encode(),
        (TENANT, "longer"),
    ),
    # Data that would be code.
    "a template": _job("note", note="{{ conn.billing.password }}"),
    "a template that runs code": _job(
        "note", note="{{ macros.yaml.unsafe_load('!!python/object/apply:os.system [id]') }}"
    ),
    "a statement of a template": _job("note", note="{% for x in range(10) %}{% endfor %}"),
    "a template behind an escape": Hostile(rb'{"dags":{"Job":{"note":"\u007b\u007b 7 }}"}}}', (TENANT, "note")),
    "a template among the attributes": Hostile(
        json.dumps({"attributes": {"{{ x }}": "{{ 7 }}"}, "dags": {"Job": {}}}).encode(), (TENANT, "attributes")
    ),
    # What would be shown to others, or taken from them.
    "a password": _job("secret", note="postgres://acme:hunter2hunter2@db/x"),
    "a private key": _job("secret", note="-----BEGIN RSA PRIVATE KEY-----\nMIIE"),
    "a tag that says draining": _airflow("draining", tags=["draining"]),
    "escapes for a terminal": Hostile(json.dumps({"dags": {"\x1b[2J\r\n": {}}}).encode(), (TENANT,)),
    "a neighbour's DAG id": Hostile(b'{"dags": {"Job": {"name": "../near__job"}}}', (TENANT, "name")),
    # Text that is no document.
    "no UTF-8": Hostile(b"\xff\xfe\x00", (TENANT, "UTF-8")),
    "nothing": Hostile(b"", (TENANT, "empty")),
    "NaN": Hostile(b'{"attributes": {"x": NaN}}', (TENANT, "NaN")),
    "a list": Hostile(b"[]", (TENANT, "object")),
    # Keys that nobody reads.
    "a tenant with two underscores": Hostile(b'{"dags": {"Job": {}}}', ("near__x",), "tenants/near__x"),
    "a key with a line break": Hostile(b"{}", ("tenants/",), "tenants/a\nb"),
    # Flags.
    "a rule of loops in loops": _flag({"if": [_nested("map", 4), "v1", "v2"]}),
    "a text that doubles": _flag({"if": [{"==": [_DOUBLING, "x"]}, "v1", "v2"]}),
    "a share of 8,000": _flag({"fractional": [["v1", 1]] * 8_000}),
    "a rule nested 90 times": _flag({"if": [json.loads('{"!":[' * 45 + "true" + "]}" * 45), "v1", "v2"]}),
    "500 KB of metadata": _flag({}, metadata={"x": "y" * 500_000}),
    "a variant that is a template": _flag({}, variants={"v1": "{{ 7 }}", "v2": "v2"}),
    "a variant that is no text": _flag({}, variants={"v1": 7, "v2": 8}),
    # Defaults, which the platform's own team writes, or its scripts.
    "defaults with NUL": Hostile(json.dumps({"airflow": {"owner": "a\0b"}}).encode(), ("defaults",), "defaults"),
    "defaults that are none": Hostile(b'{"airflw": {}}', ("defaults", "airflow"), "defaults"),
}
DOCUMENTS["1,500 DAGs"] = Hostile(
    json.dumps({"dags": {"Job": [{"name": f"d{number}"} for number in range(1_500)]}}, separators=(",", ":")).encode(),
    (TENANT, "1,500"),
)
DOCUMENTS["a rule nested 90 times"] = DOCUMENTS["a rule nested 90 times"]._replace(said=())


def _write(name: str, text: bytes = b"{}") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(text)


def _two_of_one_key(folder: Path) -> None:
    (folder / "tenants/folder-evil.yml").write_bytes(b"{}")
    (folder / "tenants/folder-evil.json").write_bytes(b"{}")


def _without_utf8(folder: Path) -> None:
    path = os.fsencode(folder) + b"/tenants/\xff\xfe"
    os.mkdir(path)  # noqa: PTH102  # a Path would not take it as bytes
    Path(os.fsdecode(path), "x.yaml").write_bytes(b"{}")


def _huge(folder: Path) -> None:
    with (folder / "tenants/huge.yaml").open("wb") as file:
        file.truncate(5 * 2**30)  # sparse: it takes no room on the disk


FILES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "two files of one key": (_two_of_one_key, ("tenants/folder-evil",)),
    "an escape in a name": (_write("tenants/a\x1b[2Jb.yaml"), ("tenants/",)),
    "a line break in a name": (_write("tenants/a\nb.yaml"), ("tenants/",)),
    "a folder's name that is no UTF-8": (_without_utf8, ("tenants/",)),
    "a link to itself": (lambda folder: (folder / "tenants/me.yaml").symlink_to("me.yaml"), ("tenants/me",)),
    "a link to nothing": (lambda folder: (folder / "tenants/no.yaml").symlink_to("/no/such/file"), ("tenants/no",)),
    "a link out of the folder": (
        lambda folder: (folder / "tenants/out.yaml").symlink_to("/etc/hostname"),
        ("tenants/out",),
    ),
    "folders that go round": (lambda folder: (folder / "tenants/round").symlink_to(".."), ()),
    "a pipe that nobody writes to": (lambda folder: os.mkfifo(folder / "tenants/pipe.yaml"), ("tenants/pipe",)),
    "a folder with a document's name": (lambda folder: (folder / "tenants/odd.yaml").mkdir(), ()),
    "a file of 5 GB": (_huge, ("tenants/huge",)),
    "a document cut off": (_write("tenants/cut.yaml", b'{"dags": {"Job": {"lim'), ("tenants/cut",)),
}
"""What somebody does in the folder, and the words of the problem that Airflow shows."""


def _bomb(_: Exchange) -> Iterator[bytes]:
    """Answer with a body that nobody asked to be compressed, and that is 256 MiB when it is not."""
    body = gzip.compress(b"\0" * 2**28)
    yield b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nX-Consul-Index: 7\r\nX-Consul-KnownLeader: true\r\n"
    yield b"X-Consul-LastContact: 0\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    yield body


ANSWERS: dict[str, Behaviour] = {
    "nobody answers": proxy.hangs,
    "a byte a second": proxy.dribbles(1.0),
    "half an answer": proxy.cuts(300),
    "an answer that is no JSON": proxy.with_body(b"<html>It works!</html>"),
    "JSON of another shape": proxy.with_body(b'{"Key": 7}'),
    "entries of other types": proxy.with_body(b'[{"Key": 7, "Value": {}, "ModifyIndex": "x"}]'),
    "an empty list": proxy.with_body(b"[]"),
    "5,000 digits since the leader": proxy.with_headers(X_Consul_LastContact="9" * 5_000),
    "an index that is none": proxy.with_headers(X_Consul_Index="minus one"),
    "a negative index": proxy.with_headers(X_Consul_Index="-7"),
    "a compressed bomb": _bomb,
    "a redirect elsewhere": proxy.answers(302, Location="http://127.0.0.1:9/v1/kv/"),
    "come back in a year": proxy.answers(503, Retry_After="31536000"),
    "denied": proxy.answers(403, "Permission denied"),
    "escapes for a terminal": proxy.answers(500, "\x1b[2J\x07rpc error\r\nX: y"),
}
"""What somebody in Consul's place answers to every request."""

UNDERSTOOD = {"5,000 digits since the leader"}
"""Answers that are asked for again from the leader, whose answer is right."""
