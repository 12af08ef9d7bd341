from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagfactory_consul import documents
from dagfactory_consul.documents import MAX_DEPTH, decode
from dagfactory_consul.errors import DocumentError
from tests.making import json_values

YAML_PARTS = """
a b 1 -1 01 1e3 1e999 0x1F .5 true no ~ null NaN .inf 12:30 2024-01-01 = << : :: - -- --- ... ? , [ ] { } & * &a *a &b
*b ! !! !!int !!float !!bool !!null !!str !!map !!seq !!set !!omap !!pairs !!binary !!timestamp !!merge !x | > |+ %YAML
!!python/name:os.system # ' " \\ \\x00 \\ud800 @ ` ü
"""
SPACES = [" ", "\n", "\n  ", "\n    ", "\t", "\ufeff", "\u2028", "\x00"]
YAML_TEXTS = st.lists(st.sampled_from([*YAML_PARTS.split(), *SPACES]), max_size=14).map(" ".join)


def refusal(text: str | bytes) -> str:
    """Return why a text is refused."""
    with pytest.raises(DocumentError) as caught:
        decode("tenants/acme", text if isinstance(text, bytes) else text.encode())
    assert caught.value.key == "tenants/acme"
    assert str(caught.value) == f"tenants/acme: {caught.value.reason}"
    return caught.value.reason


@settings(deadline=None)
@given(value=json_values("no 010 1e3 NaN : - # ' \" { ---"), ascii_only=st.booleans(), indent=st.none() | st.just(2))
def test_json_means_what_json_means(value: Any, ascii_only: bool, indent: int | None) -> None:
    """Whatever JSON can say is read as JSON reads it, however it is laid out."""
    assert decode("key", json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()) == value


@settings(deadline=None)
@given(text=st.binary(max_size=30) | st.text(max_size=30).map(str.encode) | YAML_TEXTS.map(str.encode))
@example(text=b"!!int ''")
@example(text=b"!!bool x")
@example(text=b"!!map [a, b]")
@example(text=b"a: !!timestamp x")
@example(text=b"!!float " + b":".join([b"1"] * 400))
@example(text=b"&a {<<: *a}")
@example(text=b"&a [*a]")
@example(text=b"&a {? *a : 1}")
@example(text=b"7" * 5000)
@example(text=b'{"a":' + b"7" * 5000 + b"}")
@example(text=b"- 1e999")
def test_any_bytes_are_a_value_or_a_document_error(text: bytes) -> None:
    """No text raises anything but DocumentError, and what is accepted can be written as JSON in UTF-8."""
    try:
        value = decode("key", text)
    except DocumentError:
        return
    written = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    assert json.loads(written) == value


PLAIN_STRINGS = """
no yes on off y n 12:30 1:30:00 2024-01-01 2024-01-01T10:00:00Z 010 01.5 0123e4 0o17 0x1F 0b1 1_000 = .inf .nan
1.2.3 +1a e5 -a
"""


@pytest.mark.parametrize("text", PLAIN_STRINGS.split())
def test_a_plain_scalar_is_a_string_unless_json_knows_it(text: str) -> None:
    """What only YAML 1.1 takes for a boolean, time, date or number of another base stays the string it looks like."""
    assert decode("key", f"value: {text}".encode()) == {"value": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("Null", None),
        ("0", 0),
        ("-12", -12),
        ("+7", 7),
        ("1.5", 1.5),
        ("0.25", 0.25),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("2.5E-1", 0.25),
        ("'1'", "1"),
        ('"true"', "true"),
    ],
)
def test_plain_numbers_booleans_and_null(text: str, value: Any) -> None:
    """Numbers, booleans and null of YAML are those of JSON, of the same type."""
    found = decode("key", f"value: {text}".encode())["value"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "a": 2}}]', "a: 1\nb: 2\na: 3", "x:\n  - {a: 1, 'a': 2}", "a: 1\n!!str a: 2"],
)
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    """Nobody can tell which of two values is meant, so neither is taken."""
    assert "the key 'a' stands twice" in refusal(text)


@pytest.mark.parametrize("name", ["1", "true", "1.5", "~", "[a]", "{a: b}"])
def test_a_key_that_is_no_string_is_refused(name: str) -> None:
    """JSON's keys are strings: another one is refused with its place and what to do."""
    reason = refusal(f"a: 1\n? {name}\n: 2\n")
    assert reason.startswith("malformed YAML: the key ")
    assert reason.endswith(" is not a string: put it in quotes at line 2, column 3")


def test_merging_is_not_repeating() -> None:
    """A key of one's own over a merged one is no key that stands twice, in whatever order the mappings are built."""
    text = b"base: &base {a: 1, b: 1}\nx: {mid: &mid {<<: *base, a: 2}}\ntop: {<<: *mid, b: 3}\n"
    merged = {"base": {"a": 1, "b": 1}, "x": {"mid": {"a": 2, "b": 1}}, "top": {"a": 2, "b": 3}}
    assert decode("key", text) == merged


def test_anchors_are_written_out() -> None:
    """What YAML shares by an alias is the same value in each place."""
    assert decode("key", b"one: &it {a: [1]}\ntwo: *it\nthree: [*it, *it]") == {
        "one": {"a": [1]},
        "two": {"a": [1]},
        "three": [{"a": [1]}, {"a": [1]}],
    }


@pytest.mark.parametrize("text", ["NaN", "-Infinity", '{"a": [NaN]}', "1e999", '{"a": -1e999}', "a: 1e999"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    """Neither NaN nor a number too large to be held is a value."""
    assert refusal(text).startswith(("malformed JSON: ", "not expressible in JSON: "))


def test_yaml_may_begin_like_json() -> None:
    """A word at the beginning that JSON would take for a number does not make a text malformed JSON."""
    assert decode("key", b"NaN: 1\nInfinity: 2") == {"NaN": 1, "Infinity": 2}
    assert decode("key", b"Infinity and beyond") == "Infinity and beyond"


@pytest.mark.parametrize("text", ["", "  \n\t ", "\u2003"])
def test_an_empty_value_is_refused(text: str) -> None:
    """A value without text says nothing, and the message says what to write instead."""
    assert "write {}" in refusal(text)


def test_bytes_that_are_no_text_are_refused() -> None:
    """Only UTF-8 is text; the message says which byte is not."""
    assert refusal(b"name: \xff") == "not UTF-8 text (byte 6)"


def test_half_a_surrogate_pair_is_refused() -> None:
    """A string that could be written to no file is refused; whole pairs are characters."""
    assert "halves of a character" in refusal(r'{"name": "\ud83d"}')
    assert "halves of a character" in refusal(r'{"\ude00": 1}')
    assert decode("key", rb'{"name": "\ud83d\ude00"}') == {"name": "\U0001f600"}


def test_a_byte_order_mark_is_no_content() -> None:
    """What an editor on Windows puts before a document changes nothing."""
    assert decode("key", b'\xef\xbb\xbf{"a": 1}') == decode("key", b"\xef\xbb\xbfa: 1") == {"a": 1}


def test_malformed_text_is_located() -> None:
    """The message says line and column, for JSON as for YAML."""
    assert refusal('{"a": 1,\n "b" 2}') == "malformed JSON: Expecting ':' delimiter: line 2 column 6 (char 14)"
    assert refusal("a: 1\nb: }\n").endswith(" at line 2, column 4")


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system [id]", "a: !!python/name:os.system", "!mine 1"])
def test_a_document_makes_no_objects(text: str) -> None:
    """Configuration is data: a tag that names a type of Python is refused."""
    assert "could not determine a constructor for the tag" in refusal(text)


@pytest.mark.parametrize("text", ["!!bool hunter2", "!!int hunter2", "!!float hunter2"])
def test_a_value_that_is_not_of_its_tag_is_not_repeated(text: str) -> None:
    """The problem may be read by others, and the value may be a secret."""
    assert "hunter2" not in refusal(text)


@pytest.mark.parametrize("text", ["!!binary aGk=", "!!set {a}", "!!timestamp 2024-01-01"])
def test_what_json_cannot_say_is_refused(text: str) -> None:
    """A type that JSON has no form for is refused, however YAML spells it."""
    assert refusal(text).startswith("not expressible in JSON: ")


@pytest.mark.parametrize(
    ("before", "middle", "after"),
    [("[", "1", "]"), ('{"a":', "1", "}"), ("- ", "a", ""), (" {a: ", "b", "}"), (" [", "b", "]")],
)
def test_a_document_ends_at_a_hundred_levels(before: str, middle: str, after: str) -> None:
    """A hundred levels are read, one more is not: so nothing later on runs out of stack where this did not."""
    start = "" if before in ("[", '{"a":', "- ") else "a: "
    levels = MAX_DEPTH - bool(start)
    decode("key", (start + before * levels + middle + after * levels).encode())
    assert "nested too deeply" in refusal(start + before * (levels + 1) + middle + after * (levels + 1))


def test_aliases_do_not_get_around_the_levels() -> None:
    """Levels count as they are when aliases are written out."""
    chain = "".join(f"a{each}: &a{each} [*a{each - 1}]\n" for each in range(1, MAX_DEPTH + 1))
    assert "nested too deeply" in refusal(f"a0: &a0 [x]\n{chain}")


def test_a_document_cannot_crash_the_process() -> None:
    """Nesting as deep as a value is long ends in an error, not in the death of the process that parses all tenants."""
    code = (
        "from dagfactory_consul.documents import decode, DocumentError\n"
        "for text in (b'a: ' + b'[' * 500_000, b'- ' * 250_000, b'? ' * 250_000, b'a: ' + b'{a: ' * 125_000,\n"
        "             b'{\"a\":' * 100_000, b'[' * 500_000, b'&a [' * 125_000):\n"
        "    try: decode('key', text)\n"
        "    except DocumentError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("key: nested too deeply"), done.stderr) == (0, 7, "")


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 x\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)),
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60)),
        "a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 90_000 + "]",
    ],
    ids=["lists", "merges", "long text"],
)
def test_aliases_cannot_fill_the_memory(text: str) -> None:
    """A small text that aliases would blow up without bounds is refused before any of it is built."""
    assert "its aliases make it too large" in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        r'{"a": {"b": ["x", "y\u0000z"]}}',
        r'{"a": {"b": ["x", "\\\u0000"]}}',
        'a: {b: [x, "y\\0z"]}',
        'a: {b: [x, "\\x00"]}',
        'a: {b: [x, "\\U00000000"]}',
    ],
)
def test_nul_in_a_value_is_refused(text: str) -> None:
    """Postgres stores no NUL, and the DAG processor ends with a DAG that has one: the message says where it is."""
    assert refusal(text) == "a.b.[1] holds the character NUL (U+0000): leave it out"


@pytest.mark.parametrize("text", [r'{"a": {"b\u0000": 1}}', 'a: {"b\\0": 1}'])
def test_nul_in_a_name_is_refused(text: str) -> None:
    """A name ends up in the same columns as a value."""
    assert refusal(text) == "a.the name 'b\\x00' holds the character NUL (U+0000): leave it out"


def test_the_text_of_an_escape_is_no_nul() -> None:
    """A backslash before u0000 that is escaped itself is text like any other."""
    assert decode("key", rb'{"a": "\\u0000"}') == decode("key", b"a: '\\u0000'") == {"a": r"\u0000"}


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63)])
@pytest.mark.parametrize("form", ['{{"a": {}}}', "a: {}", 'a: !!int "{}"'])
def test_an_integer_of_64_bits_is_read(form: str, number: int) -> None:
    """Integers are read as far as everything carries them that Airflow sends them by."""
    assert decode("key", form.format(number).encode()) == {"a": number}


@pytest.mark.parametrize("number", [str(2**63), str(-(2**63) - 1), "1" + "0" * 30, "9" * 5_000], ids=len)
@pytest.mark.parametrize("form", ['{{"a": {}}}', "a: {}", 'a: !!int "{}"'])
def test_a_longer_integer_is_refused(form: str, number: str) -> None:
    """An integer beyond 64 bits would lose every DAG of its file without an import error."""
    said = refusal(form.format(number))
    assert re.search("not a number in JSON, or too large|more than 64 bits", said)
    assert len(said) < 160


@pytest.mark.parametrize("text", ["{attributes: {tier: gold}}", '{attributes: {"tier": gold}}'])
def test_a_mapping_of_yaml_in_braces(text: str) -> None:
    """YAML may be written in braces, too."""
    assert decode("key", text.encode()) == {"attributes": {"tier": "gold"}}


def test_braces_that_are_neither() -> None:
    """Of a text in braces that neither reader takes both reasons are told."""
    assert re.search("malformed JSON: .*; and as YAML: malformed YAML: ", refusal("{tier: [gold}"))


def test_many_keys_are_searched_once() -> None:
    """Finding the key that is there twice takes about as many steps as there are keys."""

    class Name(str):
        __slots__ = ()
        compared = 0

        def __eq__(self, other: object) -> bool:
            Name.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [Name(f"k{number}") for number in range(5_000)]
    with pytest.raises(documents._DuplicateKeyError):
        documents._unique([(name, 1) for name in [*names, Name("k4999")]])
    assert Name.compared < 50_000


@pytest.mark.parametrize("text", [b'{"a": "' + b"x" * 94 + b'"}', b"a: " + b"[" * 200, b"\xff" * 200])
def test_a_document_beyond_its_limit_is_not_looked_at(text: bytes) -> None:
    """The size is told and the setting, whatever the text is: nothing of it is decoded."""
    with pytest.raises(DocumentError, match=r"bytes, and may have 100: .*MAX_DOCUMENT_BYTES"):
        decode("key", text, largest=100)
    assert decode("key", b'{"a": "' + b"x" * 91 + b'"}', largest=100)


def test_aliases_count_as_what_they_are_written_out_to() -> None:
    """A document is as large as what its aliases make of it."""
    text = b"a: &a " + b"x" * 30 + b"\nb: [*a, *a, *a]"
    assert decode("key", text, largest=200)
    with pytest.raises(DocumentError, match="aliases make it too large"):
        decode("key", text, largest=100)
