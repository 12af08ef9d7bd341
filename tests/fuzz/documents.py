"""Texts of documents that nobody would write by mistake: shaped like a tenant or a flag, with anything in it."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import strategies as st

MAX_BYTES = 65_536
"""As long as a document may be by default; some are longer."""

MAX_YAML = 2_000
_TEXTS = [
    *("", "0", "a", "a\0b", "\x1b[2J", "\ud800", "\u202e", "\r\n", "'''", '"""', "\\", "{{ 7 }}", "{% raw %}", "{#"),
    *("@daily", "@continuous", "0 0 31 2 *", "*/0 * * * *", "1 2 3 4 5 6 7", "every hour", "0 0 * * MON#6"),
    *("2024-01-01", "9999-12-31T23:59:59Z", "0001-01-01", "24:00", "1e999", "NaN", "draining", "x.sh"),
    *("postgres://u:p@h/d", "AKIA0123456789ABCDEF", "-----BEGIN PRIVATE KEY-----", "../x", "acme__job", "\xc4", "${x}"),
]
_NUMBERS = [0, -1, 1, 2**31, 2**31 - 1, -(2**31) - 1, 2**63, 2**64, 10**30, 0.1, -0.0, 1e308, 5e-324]
_FIELDS = """
enabled attributes airflow dags tags pool queue owner priority concurrency retries retry_delay schedule start_date
end_date catchup max_active_runs description name limit note operator task_id mood password api_key conn_id Job
Loose params doc_md
""".split()  # noqa: SIM905  # a word a line would fill a page
_OPERATORS = """
if == in var cat map filter reduce all some none merge fractional sem_ver starts_with ends_with + - * / % min max !
!! and or substr missing
""".split()  # noqa: SIM905  # a word a line would fill a page


def _often(each: Any, times: int) -> list[Any]:
    """Return a list of one value, of a little more than the largest document's size at most."""
    return [each] * min(times, 2 * MAX_BYTES // (len(repr(each)) + 1) + 1)


_text = st.sampled_from(_TEXTS) | st.text(max_size=12)
_plain = st.none() | st.booleans() | st.sampled_from(_NUMBERS) | st.integers() | st.floats() | _text
_long = st.builds(lambda part, times: part * times, _text, st.sampled_from([100, 257, 2_000, 20_000]))
_value = st.recursive(
    _plain | _long,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(_FIELDS) | _text, inner, max_size=5)
        | st.builds(_often, inner, st.sampled_from([10, 101, 3_000]))
    ),
    max_leaves=10,
)
_settings = st.dictionaries(
    st.sampled_from(["pool", "queue", "owner", "priority", "concurrency", "retries", "retry_delay", "tags"]), _value
)
_good = {"schedule": "@daily", "limit": 3, "tags": ["gold"], "catchup": False, "description": "Ä report", "note": "x"}
_fields = {
    "schedule": st.sampled_from(["@hourly", "0 6 * * 1-5", None]) | _value,
    "limit": st.integers(0, 9) | _value,
    "note": _text | _long,
    "description": _text | _long,
    "start_date": st.sampled_from(["2024-02-29T00:00:00+14:00", "2026-01-01"]) | _value,
    "airflow": _settings,
    "name": st.sampled_from(["x", "job_2", "x__y"]) | _text,
}


@st.composite
def _entry(draw: st.DrawFn) -> Any:
    """Return what a tenant says of one DAG: good but for a few of its fields, or anything."""
    entry: dict[str, Any] = dict(_good)
    for name in draw(st.lists(st.sampled_from(sorted(_fields)), max_size=3)):
        entry[name] = draw(_fields[name])
    if draw(st.integers(0, 9)) == 0:
        entry[draw(_text)] = draw(_value)
    return entry


_loose = st.fixed_dictionaries(
    {},
    optional={
        "task_id": _text,
        "operator": st.dictionaries(
            st.sampled_from(["queue", "pool", "retries", "owner", "doc_md", "params", "priority_weight", "pool_slots"]),
            _value,
            max_size=3,
        ),
    },
)
_dags = st.fixed_dictionaries(
    {}, optional={"Job": _entry() | st.lists(_entry(), max_size=3) | _value, "Loose": _loose | _value}
)
_tenant = st.fixed_dictionaries(
    {"dags": _dags}, optional={"attributes": st.dictionaries(_text, _value, max_size=3), "airflow": _settings}
)
_rule = st.recursive(
    _plain | st.builds(lambda name: {"var": name}, st.sampled_from(["tenant", "tier", "", "$flagd.timestamp"])),
    lambda inner: (
        st.dictionaries(st.sampled_from(_OPERATORS), inner | st.lists(inner, max_size=4), max_size=2)
        | st.builds(_often, inner, st.sampled_from([10, 1_000]))
    ),
    max_leaves=12,
)
_flag = st.fixed_dictionaries(
    {
        "state": st.just("ENABLED"),
        "variants": st.just({"v1": "v1", "v2": "v2"}) | st.dictionaries(_text, _plain, max_size=3),
        "defaultVariant": st.just("v1"),
    },
    optional={"targeting": _rule, "metadata": _value},
)


@st.composite
def _mutilated(draw: st.DrawFn, texts: st.SearchStrategy[bytes]) -> bytes:
    """Return a text with a piece of it cut out, doubled or replaced."""
    text = draw(texts)
    start = draw(st.integers(0, max(0, len(text) - 1)))
    stop = start + draw(st.integers(0, 20))
    piece = draw(st.sampled_from([b"", b"\0", b"\xff", b"{", b"[" * 200, b"&a ", b"*a", b"<<: ", b": ", b"\\u0000"]))
    return text[:start] + piece + draw(st.sampled_from([b"", text[start:stop] * 2])) + text[stop:]


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _as_yaml(value: Any) -> bytes:
    """Write a value as YAML. A large one stays JSON, which is YAML too: writing it would take most of the time."""
    if len(text := _as_json(value)) > MAX_YAML:
        return text
    return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")


def _texts(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    written = st.one_of(values.map(_as_json), values.map(_as_json), values.map(_as_yaml))
    return st.one_of(written, written, written, _mutilated(written))


tenants = _texts(_tenant) | st.binary(max_size=200)
"""The text of a key `tenants/<id>`."""
flags = _texts(_flag) | _texts(_value)
"""The text of a key `flags/<name>`."""
