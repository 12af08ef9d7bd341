"""What one generated DAG file holds, as bytes in the history and as text in Python."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfactory_consul.contents import Contents, to_json
from dagfactory_consul.release import ACTIVE, DRAINING, Placement, placement_of
from dagfactory_consul.spec import DagSpec

NASTY = "''' \"\"\" \\ \\' \\\" \n \r \0 \x85 \u2028 \ud800 é 漢 😀 {} {0} {tenants} %s $ r''' ) # coding:latin-1"

nasty = st.text(st.characters(), max_size=10) | st.sampled_from(NASTY.split(" ")) | st.just(NASTY)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | nasty,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(nasty, inner, max_size=3),
    max_leaves=8,
)


def placed(dag_id: str = "acme__job", state: str = ACTIVE, since: float = 0.0, **fields: Any) -> Placement:
    spec = DagSpec(dag_id, "Job", "job", "production", {"limit": 10}, "acme")
    return Placement(DagSpec(**{**vars(spec), **fields}), state, since, origin="./0/job.py")


def contents(*dags: Placement, **fields: Any) -> Contents:
    of_id = {each.spec.dag_id: each for each in dags}
    return Contents("consul://here", {each.spec.tenant or "": 7 for each in dags}, of_id)._replace(**fields)


def call(text: str) -> dict[str, Any]:
    """Return what a generated file hands to `emit`, by parsing it only."""
    statement = ast.parse(text).body[-1]
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Call)
    return {each.arg or "": ast.literal_eval(each.value) for each in statement.value.keywords}


@given(st.dictionaries(nasty, values, max_size=4), nasty)
def test_any_configuration_survives_the_text(config: dict[str, Any], attribute: str) -> None:
    """A file is valid Python whatever its configurations hold, and gives back exactly that."""
    one = placed(config=config, attributes={"x": attribute})
    text = contents(one).text("code/abc")
    text.encode()
    (found,) = json.loads(call(text)["dags"])
    assert placement_of(found) == one


@given(st.text(st.characters(), max_size=30))
def test_any_address_of_a_store_survives_the_text(store: str) -> None:
    """A file is valid Python whatever the address of its store, which is there for humans."""
    assert call(contents(placed(), store=store).text(None))["code"] is None


@given(st.dictionaries(nasty, values, max_size=4), st.sampled_from([ACTIVE, DRAINING]))
def test_the_bytes_give_back_the_contents(config: dict[str, Any], state: str) -> None:
    """What the history keeps gives back all that makes the DAGs, and the same bytes and text again."""
    before = contents(placed(config=config, state=state, since=5.0 if state == DRAINING else 0.0))
    after = Contents.of_bytes(before.to_bytes())
    assert after == before
    assert after.to_bytes() == before.to_bytes()
    assert after.text("code/x") == before.text("code/x")


def test_equal_contents_give_equal_bytes() -> None:
    """The order in which a builder's model or a document names its keys shows nowhere."""
    one, other = placed(config={"a": 1, "b": {"c": 2, "d": 3}}), placed(config={"b": {"d": 3, "c": 2}, "a": 1})
    assert contents(one).to_bytes() == contents(other).to_bytes()
    assert contents(one).text(None) == contents(other).text(None)
    assert contents(one).beside() == contents(other).beside()


def test_what_changes_while_the_dag_does_not_is_not_kept() -> None:
    """When a DAG was checked, since when it is active and whether it was seen idle rewrite no file."""
    one = placed()
    assert to_json(one) == to_json(one._replace(since=9.0, checked="abc", idle=True))
    assert contents(one).same_dags(contents(one._replace(checked="abc")))


@pytest.mark.parametrize("change", [{"config": {"limit": 11}}, {"attributes": {"tier": "gold"}}, {"environment": "eu"}])
def test_what_makes_another_dag_makes_other_contents(change: dict[str, Any]) -> None:
    """Whatever changes a DAG makes contents that are not the same."""
    assert not contents(placed()).same_dags(contents(placed(**change)))
    assert not contents(placed()).same_dags(contents(placed(state=DRAINING)))


def test_the_header_names_what_a_reader_looks_for() -> None:
    """It says which store and tenant, the tenant's own index, and a hash of its own DAGs alone."""
    alone, shared = contents(placed()), contents(placed(), placed("zenith__job", tenant="zenith"))
    assert "store: consul://here\ntenants/acme: at index 7, configuration" in alone.text(None)
    line = next(line for line in alone.text(None).splitlines() if line.startswith("tenants/acme"))
    assert line in shared.text(None).splitlines()
    assert "at index" not in contents(placed(), indexes={"acme": 0}).text(None)


def test_the_header_of_a_shared_file_is_short() -> None:
    """Many tenants take a line of a table each, or none where the data are beside, and the table with them."""
    others = [placed(f"t{number}__job", tenant=f"t{number}") for number in range(9)]
    shared = contents(placed(), *others)
    (alone,) = (line for line in contents(placed()).text(None).splitlines() if line.startswith("tenants/acme"))
    hash_ = alone.rpartition(" ")[2]
    assert f"acme 7 {hash_}" in shared.text(None).splitlines()
    short = shared.text(None, beside="000.json")
    assert "configuration: in 000.json, on the DAG processor" in short.splitlines()
    assert not [name for name in ("t8", "acme", hash_) if name in short]
    assert json.loads(shared.beside())["tenants"]["acme"] == {"index": 7, "hash": hash_}


def test_no_line_of_the_text_ends_it_early() -> None:
    """A store's address with quotes or backslashes ends neither the docstring nor the file."""
    for store in (
        "file:///a\0b",
        'file:///a"""b',
        "file:///a\\",
        'file:///"',
        "file:///a\nimport os",
        'x\r\n"""\x85\u2028',
    ):
        tree = ast.parse(contents(placed(), store=store).text(None))
        assert [type(node) for node in tree.body] == [ast.Expr, ast.ImportFrom, ast.Expr]


def test_the_top_names_what_is_imported_before_the_fork() -> None:
    """Each module stands there once, in order, as a plain import."""
    text = contents(placed()).text(None, ["airflow.b", "airflow.a", "airflow.b"])
    assert "\nimport airflow.a\nimport airflow.b\nfrom dagfactory_consul" in text.replace("\n\n", "\n")


def test_only_the_dag_that_is_asked_for() -> None:
    """A worker's file holds that one DAG, and names its tenant alone."""
    found = contents(placed(), placed("acme__other"), placed("zenith__job", tenant="zenith")).only("acme__other")
    assert list(found.dags) == ["acme__other"]
    assert list(found.indexes) == ["acme"]


def test_many_dags_stand_beside() -> None:
    """A file may name another one that holds the DAGs, each on a line."""
    text = contents(placed()).text("code/x", beside="000.json")
    assert "emit_from(globals(), '000.json', code='code/x')" in text
    beside = contents(placed(config={"text": NASTY}), placed("acme__other")).beside()
    dags = json.loads(beside)["dags"]
    assert [placement_of(each).spec.dag_id for each in dags] == ["acme__job", "acme__other"]
    assert len(beside.splitlines()) == 5
