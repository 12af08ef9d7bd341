from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfactory_consul.decisions import Decision, FlagValues
from dagfactory_consul.errors import DocumentError
from dagfactory_consul.flag_set import FlagSet
from dagfactory_consul.flags import Flag
from dagfactory_consul.snapshot import Document
from tests.making import json_values

VECTORS = json.loads((Path(__file__).parent / "data" / "flag_vectors.json").read_text())
TENANTS = [f"tenant-{number:04}" for number in range(1000)]
VARIANTS = {"on": True, "off": False}


def flag(value: Any, name: str = "sample", index: int = 7) -> Flag:
    return Flag(Document(f"flags/{name}", value, index))


def rule(targeting: Any, **fields: Any) -> dict[str, Any]:
    return {"state": "ENABLED", "variants": VARIANTS, "defaultVariant": "off", "targeting": targeting, **fields}


def test_a_rule_logs_no_attribute(caplog: pytest.LogCaptureFixture) -> None:
    """The library's operators log what they are given as it is, and a tenant wrote it."""
    decide(flag(rule({"if": [{"sem_ver": [{"var": "version"}, ">", "1.0.0"]}, "on"]})), version="1\n\x1b[2J")
    assert caplog.records == []


def share(percent: int) -> dict[str, Any]:
    return rule({"fractional": [["on", percent], ["off", 100 - percent]]})


def decide(flag: Flag, tenant: str = "acme", default: Any = False, now: float = 0.0, **attributes: Any) -> Decision:
    return flag.evaluate(default, {"targetingKey": tenant, "tenant": tenant, **attributes}, now)


def chosen(percent: int, tenants: list[str]) -> set[str]:
    sample = flag(share(percent))
    return {tenant for tenant in tenants if decide(sample, tenant).value is True}


@pytest.mark.parametrize("name", VECTORS["flags"])
def test_bucketing_is_what_it_was(name: str) -> None:
    """Every tenant of the table gets the variant that was worked out for it apart from this project."""
    sample = flag(VECTORS["flags"][name], name)
    default = sample.definition["variants"][sample.definition["defaultVariant"]]
    found = {
        tenant: decide(sample, tenant, default, region=row["region"]).variant
        for tenant, row in VECTORS["tenants"].items()
    }
    assert found == {tenant: row["expected"][name] for tenant, row in VECTORS["tenants"].items()}


def test_widening_keeps_who_was_in() -> None:
    """A share that grows from 25 % to 40 % keeps the tenants that it had, and comes near what it says."""
    narrow, wide = chosen(25, TENANTS), chosen(40, TENANTS)
    assert narrow < wide
    assert 200 < len(narrow) < 300
    assert 350 < len(wide) < 450


@given(st.integers(0, 100), st.integers(0, 100), st.lists(st.text(min_size=1), max_size=20))
def test_any_widening_keeps_who_was_in(one: int, other: int, tenants: list[str]) -> None:
    """Whatever the shares and the ids are, the smaller share is a part of the larger one."""
    assert chosen(min(one, other), tenants) <= chosen(max(one, other), tenants)


def test_a_share_of_nothing_and_of_all() -> None:
    """0 % is nobody, 100 % is everybody."""
    assert chosen(0, TENANTS) == set()
    assert chosen(100, TENANTS) == set(TENANTS)


def test_two_flags_divide_the_tenants_differently() -> None:
    """The flag's name is part of the hash: who is first with one flag is not first with all of them."""
    other = flag(share(25), "other")
    assert {tenant for tenant in TENANTS if decide(other, tenant).value} != chosen(25, TENANTS)


@pytest.mark.parametrize("value", [True, False])
def test_a_constant_is_static(value: bool) -> None:
    """`true` and `false` are whole flags; which change of the store decided is known."""
    name = "on" if value else "off"
    assert decide(flag(value, index=42)) == Decision(value, name, "STATIC", 42)


@pytest.mark.parametrize(("tier", "expected"), [("gold", (True, "TARGETING_MATCH")), ("iron", (False, "DEFAULT"))])
def test_rules_see_the_attributes(tier: str, expected: tuple[bool, str]) -> None:
    """A rule that matches says so; where it has no answer the default variant counts."""
    sample = flag(rule({"if": [{"==": [{"var": "tier"}, "gold"]}, "on"]}))
    found = decide(sample, tier=tier)
    assert (found.value, found.reason) == expected


def test_rules_see_the_tenants_id() -> None:
    """One tenant can be named outright."""
    sample = flag(rule({"if": [{"in": [{"var": "tenant"}, ["acme", "globex"]]}, "on", "off"]}))
    assert [decide(sample, tenant).value for tenant in ("acme", "globex", "initech")] == [True, True, False]


def test_a_rule_may_answer_with_a_boolean() -> None:
    """As in flagd, true stands for the variant "true"."""
    sample = flag(rule({"==": [1, 1]}, variants={"true": "yes", "false": "no"}, defaultVariant=False))
    assert decide(sample, default="no") == Decision("yes", "true", "TARGETING_MATCH", 7)


@pytest.mark.parametrize(("now", "value"), [(99.9, False), (100.0, True), (199.0, True), (200.0, False)])
def test_a_time_window(now: float, value: bool) -> None:
    """`$flagd.timestamp` is the time that the plan is given, in whole seconds, and nothing reads the clock."""
    moment = {"var": "$flagd.timestamp"}
    window = rule({"if": [{"and": [{">=": [moment, 100]}, {"<": [moment, 200]}]}, "on", "off"]})
    sample = flag(window)
    assert decide(sample, now=now).value is value


def test_a_disabled_flag_leaves_it_to_the_builder() -> None:
    """DISABLED is as if the flag did not exist, but says so."""
    sample = flag(rule({"if": [True, "on"]}, state="DISABLED"))
    assert decide(sample, default=False) == Decision(value=False, variant=None, reason="DISABLED", index=7)


def test_no_default_variant_leaves_it_to_the_builder() -> None:
    """A definition may leave out its default variant: then the builder's default counts."""
    definition = {"state": "ENABLED", "variants": {"v1": "v1", "v2": "v2"}}
    assert decide(flag(definition), default="v9") == Decision("v9", None, "DEFAULT", 7)


def test_a_missing_flag_is_the_builders_default() -> None:
    """A flag that nobody has defined is no problem."""
    flags = FlagSet([])
    assert flags.evaluate("absent", "v1", {}, 0.0) == Decision("v1", None, "DEFAULT", 0)
    assert flags.problems == {}


MALFORMED = {
    "a text": ("yes", "a flag is true, false or a flagd definition, not 'yes'"),
    "a number": (1, "not 1"),
    "nothing": (None, "not None"),
    "a list": ([True], "not [True]"),
    "no state": ({"variants": VARIANTS}, "`state` is ENABLED or DISABLED, and missing here"),
    "a state in small letters": (rule(None, state="enabled"), "not 'enabled'"),
    "no variants": ({"state": "ENABLED"}, "`variants` has at least one name"),
    "empty variants": (rule(None, variants={}), "`variants` has at least one name"),
    "a list of variants": (rule(None, variants=["on"]), "`variants` has at least one name"),
    "another default": (rule(None, defaultVariant="of"), "`defaultVariant` 'of' is none of its variants, did you mean"),
    "a default that is a list": (rule(None, defaultVariant=["on"]), "`defaultVariant` ['on'] is none"),
    "a default that is an object": (rule(None, defaultVariant={"on": 1}), "is none of its variants"),
    "a field too many": (rule(None, targetting={}), "unknown field 'targetting', did you mean 'targeting'?"),
    "targeting that is a text": (rule("on"), "`targeting` is a JsonLogic rule, an object"),
    "an unknown operator": (rule({"fractionl": [["on", 1]]}), "its targeting cannot be evaluated"),
    "an unknown operator within": (rule({"if": [{"equals": [1, 1]}, "on"]}), "its targeting cannot be evaluated"),
    "an unknown variant": (rule({"fractional": [["onn", 1]]}), "no variant: 'onn', did you mean 'on'"),
    "an unknown variant in a branch": (
        rule({"if": [{"var": "vip"}, {"fractional": [["onn", 1], ["off", 0]]}]}),
        "`fractional` names no variant: 'onn'",
    ),
    "a result that is no variant, in a branch that nobody takes yet": (
        rule({"if": [{"==": [{"var": "tier"}, "gold"]}, "onn", "off"]}),
        "its targeting names no variant: 'onn', did you mean 'on'",
    ),
    "a result that is no variant, in an inner condition": (
        rule({"if": [{"var": "a"}, "on", {"var": "b"}, {"?:": [{"var": "c"}, "on", "offf"]}, "off"]}),
        "its targeting names no variant: 'offf', did you mean 'off'",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_flag_says_what_is_wrong(case: str) -> None:
    """Whatever is wrong with a flag's text is found when it is read, with the key and the near miss."""
    value, expected = MALFORMED[case]
    with pytest.raises(DocumentError) as caught:
        decide(flag(value))
    assert caught.value.key == "flags/sample"
    assert expected in str(caught.value)


def test_text_that_cannot_be_decoded() -> None:
    """A flag whose text is neither JSON nor YAML is malformed as well."""
    with pytest.raises(DocumentError, match=r"flags/sample: malformed JSON"):
        Flag(Document("flags/sample", None, malformed="malformed JSON: line 1"))


@given(json_values("state variants defaultVariant targeting ENABLED on if fractional var == in"))
def test_no_text_breaks_more_than_its_flag(value: Any) -> None:
    """Any JSON whatever gives a decision or a problem of that flag: never another error."""
    flags = FlagSet([Document("flags/sample", value), Document("flags/other", value=True)])
    found = flags.evaluate("sample", False, {"targetingKey": "acme"}, 0.0)
    assert isinstance(found.value, bool)
    assert flags.evaluate("other", False, {}, 0.0).value is True


@pytest.mark.parametrize(
    ("value", "default"), [(True, "v1"), ("v1", True), (1, True), ("1", 1), ({"a": 1}, [1]), (True, 1)]
)
def test_a_value_of_another_type(value: Any, default: Any) -> None:
    """A variant whose value is of another type than the builder's default is refused; the message has both."""
    sample = flag({"state": "ENABLED", "variants": {"a": value}, "defaultVariant": "a"})
    with pytest.raises(DocumentError) as caught:
        decide(sample, default=default)
    assert f"variant 'a' is {value!r}, but the builder expects a value like {default!r}" in str(caught.value)


@pytest.mark.parametrize(("value", "default"), [(2, 1.5), (1.5, 2), ("v2", "v1"), ([1], []), ({"a": 1}, {}), (5, None)])
def test_a_value_of_the_same_type(value: Any, default: Any) -> None:
    """Numbers are numbers, and a builder whose default is None takes anything."""
    sample = flag({"state": "ENABLED", "variants": {"a": value}, "defaultVariant": "a"})
    assert decide(sample, default=default).value == value


def test_a_malformed_flag_keeps_its_last_good_definition() -> None:
    """A typo in one flag changes nothing but the list of problems."""
    good = {"flags/sample": Document("flags/sample", value=True, index=3)}
    flags = FlagSet([Document("flags/sample", "tru", 9)], good)
    assert flags.evaluate("sample", False, {}, 0.0) == Decision(True, "on", "STATIC", 3)
    assert "In force instead: its last good definition" in flags.problems["flags/sample"].message


def test_a_malformed_flag_that_never_was_good_is_the_builders_default() -> None:
    """Without a last good definition the builder's default counts, and the reason says that something is wrong."""
    flags = FlagSet([Document("flags/sample", "tru")])
    assert flags.evaluate("sample", False, {}, 0.0) == Decision(False, None, "ERROR", 0)
    assert "In force instead: each builder's default" in flags.problems["flags/sample"].message


def test_a_last_good_definition_that_is_good_no_more() -> None:
    """What an older version of this package took for good may be malformed for this one: the default counts."""
    flags = FlagSet([Document("flags/sample", "tru")], {"flags/sample": Document("flags/sample", "on")})
    assert flags.evaluate("sample", False, {}, 0.0).reason == "ERROR"


def test_a_malformed_flag_harms_no_other() -> None:
    """Each flag is read on its own."""
    flags = FlagSet([Document("flags/bad", "x"), Document("flags/good", value=True)])
    assert flags.evaluate("good", False, {}, 0.0).value is True
    assert list(flags.problems) == ["flags/bad"]


def test_a_rule_that_fails_for_one_tenant() -> None:
    """A rule that picks no variant for some tenant gives that one the builder's default, and is a problem."""
    flags = FlagSet([Document("flags/sample", rule({"var": "tier"}), 5)])
    assert flags.evaluate("sample", False, {"tier": "on"}, 0.0).value is True
    assert flags.evaluate("sample", False, {"tier": "gold"}, 0.0) == Decision(False, None, "ERROR", 5)
    assert "'gold'" in flags.problems["flags/sample"].message


def test_builders_see_values_and_reasons() -> None:
    """`self.flags["name"]` is the value; why it is that value is at hand too."""
    values = FlagValues({"parser": Decision("v2", "v2", "TARGETING_MATCH", 7)})
    assert dict(values) == {"parser": "v2"}
    assert values.decisions["parser"].reason == "TARGETING_MATCH"


def test_a_builder_asks_for_a_flag_that_it_does_not_declare() -> None:
    """An undeclared flag is an error with the near miss, not a default that nobody chose."""
    values = FlagValues({"message-parser": Decision("v1", None, "DEFAULT")})
    with pytest.raises(KeyError, match="does not declare the flag 'message-parse', did you mean 'message-parser'"):
        values["message-parse"]


DIGITS = list(range(100))
DEAR = {
    "array operators in each other": (
        {"map": [DIGITS, {"map": [DIGITS, {"map": [DIGITS, 1]}]}]},
        "`map` stands in `map`: array operators do not nest",
    ),
    "a long list with a long rule": (
        {"map": [list(range(2000)), {"if": [False, 1] * 500}]},
        "it takes more than 100,000 operations",
    ),
    "a text that doubles": (
        {"reduce": [list(range(40)), {"cat": [{"var": "accumulator"}, {"var": "accumulator"}]}, "ab"]},
        "`cat` makes a text of more than 65,536 characters",
    ),
    "a list that doubles": (
        {"reduce": [list(range(60)), {"merge": [{"var": "accumulator"}, {"var": "accumulator"}]}, [1]]},
        "it takes more than 100,000 operations",
    ),
    "a list that shares itself": (
        {"cat": [{"reduce": [list(range(60)), [{"var": "accumulator"}, {"var": "accumulator"}], [1]]}]},
        "it takes more than 100,000 operations",
    ),
    "a number that squares itself": (
        {"reduce": [list(range(60)), {"*": [{"var": "accumulator"}, {"var": "accumulator"}]}, 3]},
        "a whole number of more than 64 bits",
    ),
    "a branch that few tenants take": (
        {"if": [{"==": [{"var": "tenant"}, "acme"]}, {"map": [list(range(2000)), {"and": [1] * 500}]}, "off"]},
        "it takes more than 100,000 operations",
    ),
}


@pytest.mark.parametrize("case", DEAR)
def test_a_rule_that_costs_too_much_is_malformed(case: str) -> None:
    """A rule over its budget keeps the flag's last good definition; the problem names the flag and the limit."""
    targeting, expected = DEAR[case]
    good = {"flags/sample": Document("flags/sample", value=True, index=3)}
    flags = FlagSet([Document("flags/sample", rule(targeting), 9)], good)
    assert flags.evaluate("sample", False, {}, 0.0) == Decision(True, "on", "STATIC", 3)
    message = flags.problems["flags/sample"].message
    assert expected in message
    assert "its last good definition" in message


def test_what_a_rule_costs_for_one_tenant_harms_that_one() -> None:
    """A tenant's own long list makes a rule too dear for that tenant alone."""
    flags = FlagSet([Document("flags/sample", rule({"if": [{"some": [{"var": "names"}, {"and": [1] * 50}]}, "on"]}))])
    assert flags.evaluate("sample", False, {"names": [1]}, 0.0).value is True
    doomed = FlagSet([Document("flags/sample", rule({"if": [{"all": [{"var": "names"}, {"and": [1] * 50}]}, "on"]}))])
    assert doomed.evaluate("sample", False, {"names": [1] * 5000}, 0.0).reason == "ERROR"
    assert doomed.evaluate("sample", False, {"names": [1]}, 0.0).value is True


def test_a_flag_with_thousands_of_shares() -> None:
    """A large, plain rule is within the budget, and its variants are looked up without going through all of them."""
    variants = {f"v{number}": number for number in range(8000)}
    shares = {"fractional": [[name, 1] for name in variants]}
    sample = flag(rule(shares, variants=variants, defaultVariant="v0"))
    assert decide(sample, default=0).reason == "TARGETING_MATCH"


def test_each_evaluation_has_the_whole_budget() -> None:
    """What one tenant's evaluation has used up is not charged to the next one."""
    sample = flag(rule({"if": [{"in": [{"var": "tenant"}, TENANTS]}, "on", "off"]}))
    assert {decide(sample, tenant).value for tenant in TENANTS} == {True}
