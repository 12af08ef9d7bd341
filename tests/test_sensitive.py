from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfactory_consul.sensitive import find_secret
from tests.making import json_values
from tests.secrets import HARMLESS as HARMLESS_DOCUMENTS
from tests.secrets import SECRETS

NAMES = ["password", "passwd", "secret", "token", "api_key", "apikey", "apiKey", "API-KEY", "access_key", "private-key"]
VALUES = {
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
    "AWS": "AKIA" + "ABCDEFGH12345678",
    "JSON web token": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0.abc",
    "GitHub": "ghp_" + "a1B2c3D4e5F6" * 3,
    "GitLab": "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
    "Vault": "hvs." + "CAESIJlXa1B2c3D4e5F6g7H8i9J0",
    "Slack": "xoxb-" + "123456789012-abcdef",
    "URL": "postgres://etl:hunter2@db.internal/acme",
}
HARMLESS = [
    "acme_billing",
    "https://example.com/path?token_type=bearer",
    "s3://bucket/path",
    "user@example.com",
    "12:30",
    "http://host:8080/a@b",
    "-----BEGIN CERTIFICATE-----",
]


@pytest.mark.parametrize("name", [*NAMES, *(f"billing_{name}" for name in NAMES), "db.password"])
def test_a_name_gives_a_secret_away(name: str) -> None:
    """Text under a name that ends as secrets' names do is one, whatever it looks like."""
    assert find_secret({"dags": {"Job": {name: "x"}}}) == f"dags.Job.{name}"


@pytest.mark.parametrize(
    "name", ["secret_name", "token_file", "password_conn_id", "tokens", "keys", "api_keys_total", "broken", "monkey"]
)
def test_a_name_that_only_holds_the_word_does_not(name: str) -> None:
    """Names that speak of where a secret is, or only contain the word, are left alone."""
    assert find_secret({name: "billing"}) is None


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_gives_a_secret_away(kind: str) -> None:
    """Tokens of known forms, private keys and URLs with a password are found under any name, within text too."""
    assert find_secret({"options": {"note": VALUES[kind]}}) == "options.note"
    assert find_secret({"command": f"run --with {VALUES[kind]} --now"}) == "command"


@pytest.mark.parametrize("value", HARMLESS)
def test_a_harmless_value_does_not(value: str) -> None:
    """Addresses without a password, certificates and times are what configurations are made of."""
    assert find_secret({"source": value, "sources": [value]}) is None


@pytest.mark.parametrize("value", ["{{ conn.billing.password }}", "{{ var.value.x }}", "", "{{\nmacros.token()\n}}"])
def test_a_reference_is_no_secret(value: str) -> None:
    """A template that Airflow renders when the task runs, and an empty value, hold nothing."""
    assert find_secret({"password": value}) is None


@pytest.mark.parametrize("value", [None, True, [], {}, {"conn_id": "billing"}, {"vault_conn_id": "billing"}])
def test_what_holds_none_is_none(value: Any) -> None:
    """Nothing, a switch, an empty structure and a connection's id may stand under such a name."""
    assert find_secret({"token": value}) is None


@pytest.mark.parametrize(
    ("value", "path"), [(12345678, ""), (1.5, ""), (["hunter2"], "[0]"), ({"value": "hunter2"}, ".value")]
)
def test_a_secret_may_be_wrapped(value: Any, path: str) -> None:
    """A number, or any text below such a name, is one too."""
    assert find_secret({"password": value}) == f"password{path}"


def test_a_document_that_is_a_secret() -> None:
    """A document that is only text is looked at as well."""
    assert find_secret("postgres://app:hunter2@db/app") == "it"


def test_a_secret_in_a_list_is_found_by_its_place() -> None:
    """The path says which entry it is, however deep."""
    assert find_secret({"dags": {"Job": [{}, {"urls": ["x", VALUES["URL"]]}]}}) == "dags.Job[1].urls[1]"


def test_the_first_one_is_named() -> None:
    """One is enough to refuse a document: the first in its order."""
    assert find_secret({"a": {"token": "x"}, "password": "y"}) == "a.token"


@settings(deadline=None)
@given(before=json_values("a b"), after=json_values("a b"), steps=st.lists(st.sampled_from(["a", "b", 0]), max_size=5))
def test_it_is_found_wherever_it_stands(before: Any, after: Any, steps: list[Any]) -> None:
    """Whatever surrounds it and however deep it lies, a secret is found and its path leads to it."""
    document: Any = {"before": before, "password": "x", "after": after}
    for step in steps:
        document = [document] if step == 0 else {step: document}
    path = "".join("[0]" if step == 0 else f".{step}" for step in reversed(steps)) + ".password"
    assert find_secret(document) == path.removeprefix(".")


@pytest.mark.parametrize("kind", SECRETS)
def test_each_kind_of_secret_is_found(kind: str) -> None:
    """Secrets' names, vendors' formats, connection strings, headers and signed addresses are found."""
    assert find_secret(SECRETS[kind]) is not None


@pytest.mark.parametrize("document", HARMLESS_DOCUMENTS, ids=str)
def test_a_harmless_document_is_taken(document: dict[str, Any]) -> None:
    """References into a secrets backend, ids of connections, paths, punctuation and everyday words are no secrets."""
    assert find_secret(document) is None


def test_the_names_of_airflows_masker_are_known() -> None:
    """Airflow hides what it holds to be secret; a name that it hides is refused, unless it may name a mere place."""
    from airflow._shared.secrets_masker.secrets_masker import DEFAULT_SENSITIVE_FIELDS

    places = {"proxy", "proxies", "service_account", "dsn", "connection_string"}  # with a password they are refused
    assert {name for name in DEFAULT_SENSITIVE_FIELDS if not find_secret({name: "x"})} == places


LONG = ["a", "eyJ-", "://", "://a:", "token ", "password=", "eyJaaaaaaaa.", "-----BEGIN ", "sk-", "{{", "$A", "0", "-a"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", LONG)
@pytest.mark.parametrize("name", ["note", "password"])
def test_a_long_text_takes_linear_time(name: str, part: str) -> None:
    """The largest value that a store takes costs a moment: it would be minutes, were a pattern more than linear."""
    find_secret({name: part * (524_288 // len(part))})


def test_a_path_of_long_names_is_put_together_once() -> None:
    """A long name above thousands of values is copied for none of them, and told in short."""
    inner: list[Any] = ["x"] * 5_000
    found = find_secret({"n" * 30_000: [*inner, {"password": "x"}]})
    assert found is not None
    assert found.endswith("…[5000].password")
    assert len(found) < 130
