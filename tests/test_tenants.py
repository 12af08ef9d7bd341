from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dagfactory_consul.models import describe_bad_id, explain, is_id, shown
from dagfactory_consul.tenants import Defaults, Tenant, merge
from tests.making import json_values

RFC_7386 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
"""The test cases of the RFC's appendix A: original, patch, result. One more has the patch null: see below."""

objects = st.dictionaries(st.sampled_from("abcd"), json_values("a b c d"), max_size=4)


@pytest.mark.parametrize(("under", "over", "result"), RFC_7386)
def test_merging_is_the_standards(under: Any, over: Any, result: Any) -> None:
    """The RFC's own test cases hold, as values of a field, so that those which are no objects count too."""
    assert merge({"field": under}, {"field": over}) == {"field": result}


def test_null_takes_away() -> None:
    """What a layer sets to null is as if no layer below had said it."""
    assert merge({"field": {"a": "foo"}, "other": 1}, {"field": None}) == {"other": 1}


@settings(max_examples=40)
@given(objects)
def test_an_empty_layer_changes_nothing(document: dict[str, Any]) -> None:
    """A tenant that says nothing has what lies under it."""
    assert merge(document, {}) == document


@settings(max_examples=40)
@given(objects, objects)
def test_merging_again_changes_nothing(under: dict[str, Any], over: dict[str, Any]) -> None:
    """A layer laid over itself adds nothing: what it says is in force."""
    once = merge(under, over)
    assert merge(once, over) == once


@settings(max_examples=40)
@given(objects, objects)
def test_merging_leaves_its_layers_as_they_are(under: dict[str, Any], over: dict[str, Any]) -> None:
    """Defaults are shared by all tenants: laying one tenant over them must not change them."""
    before = repr((under, over))
    merge(under, over)
    assert repr((under, over)) == before


@settings(max_examples=40)
@given(objects, objects)
def test_what_is_said_above_wins(under: dict[str, Any], over: dict[str, Any]) -> None:
    """A plain value of the upper layer is in the result, and a field that it does not name is the lower one's."""
    result = merge(under, over)
    assert {name: result.get(name) for name, value in over.items() if not isinstance(value, dict)} == {
        name: value for name, value in over.items() if not isinstance(value, dict)
    }
    assert {name: value for name, value in result.items() if name not in over} == {
        name: value for name, value in under.items() if name not in over
    }


def wrong(model: type[Tenant | Defaults], document: Any) -> str:
    """Return what is said of a document that is refused."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(document)
    return explain(caught.value, model)


REFUSED = {
    "a field too many": ({"atributes": {}}, "atributes: unknown field, did you mean 'attributes'?"),
    "a field within": ({"airflow": {"ownr": "x"}}, "airflow.ownr: unknown field, did you mean 'owner'?"),
    "a text for a boolean": ({"enabled": "false"}, "enabled: input should be a valid boolean, not a text of 5 letters"),
    "a number for a boolean": ({"enabled": 0}, "enabled: input should be a valid boolean, not 0"),
    "a text for a number": ({"airflow": {"priority": "3"}}, "airflow.priority: input should be a valid integer"),
    "no concurrency at all": ({"airflow": {"concurrency": 0}}, "airflow.concurrency: input should be greater"),
    "a pool without a name": ({"airflow": {"pool": ""}}, "airflow.pool: string should have at least 1 character"),
    "tags in one text": (
        {"airflow": {"tags": "gold"}},
        "airflow.tags: input should be a valid tuple, not a text",
    ),
    "a tag that is too long": ({"airflow": {"tags": ["x" * 101]}}, "airflow.tags.0: string should have at most 100"),
    "a list of DAGs": ({"dags": ["Job"]}, "dags: input should be a valid dictionary, not a list of 1"),
    "attributes in a list": ({"attributes": ["gold"]}, "attributes: input should be a valid dictionary"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_tenant_is_refused_with_the_field(case: str) -> None:
    """What a tenant's document has wrong is said by field, with what stands there or the near miss."""
    document, expected = REFUSED[case]
    assert expected in wrong(Tenant, document)


def test_all_that_is_wrong_is_said_at_once() -> None:
    """Nobody has to mend a document one error at a time."""
    said = wrong(Tenant, {"enabled": 1, "tier": "gold", "airflow": {"retries": -1}})
    assert said.count(";") >= 2
    assert "\n" not in said


def test_a_long_value_is_not_repeated() -> None:
    """An error quotes the beginning of a value, not all of it."""
    assert len(wrong(Tenant, {"attributes": "x" * 10_000})) < 200


def test_the_smallest_tenant() -> None:
    """Only `dags` has to be said, and not even that."""
    assert Tenant.model_validate({}).enabled is True
    assert Tenant.model_validate({"dags": {"Job": {}}}).dags == {"Job": {}}


def test_variations_are_a_tenants_affair() -> None:
    """A tenant may list several entries of a builder; the defaults, which lie under each, have one."""
    several = {"dags": {"Job": [{"name": "a"}, {"name": "b"}]}}
    assert Tenant.model_validate(several).dags == several["dags"]
    assert "dags.Job: input should be a valid dictionary" in wrong(Defaults, several)


def test_an_environment_has_no_environments() -> None:
    """A layer for an environment says what a tenant may say, and nothing below that."""
    said = wrong(Defaults, {"environments": {"staging": {"environments": {}}}})
    assert "environments.staging.environments: unknown field" in said


@given(json_values("enabled attributes airflow dags tags owner Job name"))
def test_whatever_is_refused_can_be_explained(document: Any) -> None:
    """Any JSON whatever is a tenant's document, or is refused in one line that says why."""
    try:
        Tenant.model_validate(document)
    except ValidationError as error:
        said = explain(error, Tenant)
        assert said
        assert "\n" not in said


@pytest.mark.parametrize("text", ["acme", "0", "a" * 63, "acme-eu_2", "a__b"])
def test_ids(text: str) -> None:
    """1 to 63 of a-z, 0-9, _ and -, beginning with a letter or a digit."""
    assert is_id(text)


NOT_IDS = [
    "",
    "../x",
    "a/b",
    "A",
    "_a",
    "-a",
    "a" * 64,
    "a" * 300,
    "\u0430\u0441me",
    "\uff41cme",
    "acme\n",
    "a b",
    "a.b",
    "é",
    "\u0663",
    None,
    7,
]


@pytest.mark.parametrize("text", NOT_IDS)
def test_what_is_no_id(text: Any) -> None:
    """No path, nothing empty or long, and no letter that only looks like one."""
    assert not is_id(text)


def test_a_field_with_a_line_break() -> None:
    """An error stays on one line, whatever the field's name is."""
    assert wrong(Tenant, {"tags\n": 1}) == r"tags\n: unknown field, did you mean 'dags'?"


@given(st.text(min_size=1))
def test_a_bad_id_is_described_in_ascii(text: str) -> None:
    """A look-alike letter is shown as what it is, and 300 characters are not repeated."""
    said = describe_bad_id(text)
    assert said.replace("…", "").isascii()
    assert len(said) < 600


def test_a_text_is_shown_by_its_length() -> None:
    """Of a text that may be a secret only its length is told, in English."""
    assert [shown(text) for text in ("", "x", "xy")] == ["an empty text", "a text of 1 letter", "a text of 2 letters"]
