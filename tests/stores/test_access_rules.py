"""The access rules that SECURITY.md gives, on a real Consul: what each token may read and write, and no more."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from demo.consul import ConsulAgent

PAGE = Path(__file__).resolve().parents[2] / "SECURITY.md"
CONFIG = ["_ready", "defaults", "tenants", "tenants/acme", "tenants/acme2", "tenants/acme/x", "flags/x", "projects/p"]
CONFIGURATION = {f"dagfactory/{key}" for key in CONFIG}
HISTORY = {"dagfactory-history/production/versions/v1"}
RUNTIME = {"dagfactory-runtime/production/head", "dagfactory-runtime/accepted"}
ALL = CONFIGURATION | HISTORY | RUNTIME | {"dagfactory2/tenants/acme", "other/x"}

MAY = {
    "DAG processor": (CONFIGURATION | HISTORY | RUNTIME, HISTORY | RUNTIME),
    "worker": (CONFIGURATION | HISTORY | RUNTIME, set()),
    "platform's team": (CONFIGURATION | RUNTIME, CONFIGURATION),
    "who releases": (CONFIGURATION, {"dagfactory/flags/x"}),
    "team with the tenant acme": ({"dagfactory/tenants/acme"}, {"dagfactory/tenants/acme"}),
    "who accepts what is held": (RUNTIME, {"dagfactory-runtime/accepted"}),
}
"""By token, what it reads and what it writes."""


def rules() -> dict[str, str]:
    """Return the rules of each token, as the page has them."""
    found = re.findall(r"^\| ([^|]+) \| (`key.*`) \|$", PAGE.read_text(), re.MULTILINE)
    return {who: text.replace("`", "") for who, text in found}


class Probe:
    """What a token with these rules may do with each key, below a name that no other test uses."""

    def __init__(self, agent: ConsulAgent, name: str, rules: str) -> None:
        self.agent = agent
        self.name = name
        self.token = agent.make_token(rules.replace('"dagfactory', f'"{name}'))
        for key in ALL:
            agent.request("PUT", f"/v1/kv/{self._own(key)}", "value")

    def reads(self) -> set[str]:
        return {key for key in ALL if self._is_allowed("GET", key)}

    def writes(self) -> set[str]:
        return {key for key in ALL if self._is_allowed("PUT", key)}

    def deletes(self) -> set[str]:
        return {key for key in ALL if self._is_allowed("DELETE", key)}

    def _own(self, key: str) -> str:
        return key.replace("dagfactory", self.name, 1) if key.startswith("dagfactory") else f"{self.name}-{key}"

    def _is_allowed(self, method: str, key: str) -> bool:
        url = f"http://{self.agent.address}/v1/kv/{self._own(key)}"
        data = b"new" if method == "PUT" else None
        request = urllib.request.Request(url, data, {"X-Consul-Token": self.token}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10):  # noqa: S310  # a Consul on this machine
                return True
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in {403, 404}:  # 404: Consul's answer to a reader without rights
                    raise
                return False


def test_every_token_of_the_page_is_tried() -> None:
    """The page and this file know the same tokens."""
    assert rules().keys() == MAY.keys()


@pytest.mark.parametrize("who", MAY)
def test_a_token_may_do_what_it_needs_and_no_more(consul_with_acls: ConsulAgent, consul_prefix: str, who: str) -> None:
    """Each token of the page reads and writes what is said here, and deletes what it writes."""
    probe = Probe(consul_with_acls, consul_prefix.rstrip("/"), rules()[who])
    reads, writes = MAY[who]
    assert probe.reads() == reads
    assert probe.writes() == writes
    assert probe.deletes() == writes


@pytest.mark.parametrize(
    ("prefix", "too"),
    [
        ("dagfactory/tenants/acme", "dagfactory/tenants/acme2"),
        ("dagfactory/tenants", "dagfactory/tenants"),
        ("dagfactory", "dagfactory-runtime/production/head"),
        ("dagfactory", "dagfactory2/tenants/acme"),
    ],
)
def test_a_prefix_without_its_slash(consul_with_acls: ConsulAgent, consul_prefix: str, prefix: str, too: str) -> None:
    """The page warns of prefixes that do not end with a slash: they match more than they say."""
    probe = Probe(consul_with_acls, consul_prefix.rstrip("/"), f'key_prefix "{prefix}" {{ policy = "write" }}')
    assert too in probe.writes()
    with_slash = Probe(consul_with_acls, consul_prefix.rstrip("/"), f'key_prefix "{prefix}/" {{ policy = "write" }}')
    assert too not in with_slash.writes()


def test_no_prefix_of_the_page_lacks_its_slash() -> None:
    """Every `key_prefix` of the table ends with a slash."""
    prefixes = re.findall(r'key_prefix "([^"]*)"', " ".join(rules().values()))
    assert prefixes
    assert [each for each in prefixes if not each.endswith("/")] == []
