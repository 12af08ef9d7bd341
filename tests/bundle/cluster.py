"""Three real Consul servers with access rules: what Airflow reads from, and all that can befall it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from demo.consul import ConsulAgent
from demo.wait import until

PREFIX = "dagfactory/"
_BESIDE = [f"{PREFIX[:-1]}-runtime/", f"{PREFIX[:-1]}-history/"]


class Cluster:
    """Three servers, of which Airflow asks the `front` one: it never leads when a test begins.

    Used as a context.
    """

    def __init__(self, folder: Path, program: Path) -> None:
        first = ConsulAgent(program, folder=folder / "0", acls=True, expect=3)
        others = [ConsulAgent(program, folder=folder / str(n), acls=True, expect=3, join=(first,)) for n in (1, 2)]
        self.agents = [first, *others]
        self.front = first
        self.token = ""
        """The processors': reads the configuration, writes beside it."""
        self.reading_token = ""
        """The workers': only reads."""
        self._kept: dict[str, Any] = {}
        self._http = httpx.Client(trust_env=False, timeout=10)

    def __enter__(self) -> Self:
        try:
            self._start(self.agents)
            self.token = self.front.make_token(_rules([PREFIX], "read") + _rules(_BESIDE, "write"))
            self.reading_token = self.front.make_token(_rules([PREFIX, *_BESIDE], "read"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()
        for agent in self.agents:
            agent.stop()

    @property
    def url(self) -> str:
        """As the setting STORE wants it."""
        return self.front.url

    def put(self, key: str, document: Any) -> None:
        """Write one document as JSON."""
        self._kv("PUT", PREFIX + key, json.dumps(document).encode())

    def delete(self, key: str) -> None:
        """Remove one document."""
        self._kv("DELETE", PREFIX + key)

    def put_all(self, documents: Mapping[str, bytes]) -> None:
        """Write documents as they were."""
        for key, value in documents.items():
            self._kv("PUT", PREFIX + key, value)

    def delete_at_once(self, keys: Iterable[str]) -> None:
        """Remove documents in one transaction."""
        operations = [{"KV": {"Verb": "delete", "Key": PREFIX + key}} for key in keys]
        self._ask("PUT", "/v1/txn", content=json.dumps(operations).encode()).raise_for_status()

    def documents(self) -> dict[str, bytes]:
        """Return all documents by key."""
        return {key.removeprefix(PREFIX): self.get(key) or b"" for key in self.keys(PREFIX)}

    def get(self, key: str) -> bytes | None:
        """Return what stands under a key as it is called in Consul; None if nothing does."""
        answer = self._ask("GET", f"/v1/kv/{key}?raw")
        return None if answer.status_code == httpx.codes.NOT_FOUND else answer.raise_for_status().content

    def write(self, key: str, value: bytes) -> None:
        """Write a value under a key as it is called in Consul."""
        self._kv("PUT", key, value)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below a prefix."""
        answer = self._ask("GET", f"/v1/kv/{prefix}?keys")
        return [] if answer.status_code == httpx.codes.NOT_FOUND else list(answer.raise_for_status().json())

    def empty(self, prefix: str) -> None:
        """Remove all keys below a prefix."""
        self._kv("DELETE", f"{prefix}?recurse")

    def snapshot(self) -> bytes:
        """Return what `consul snapshot save` writes."""
        return self._ask("GET", "/v1/snapshot").raise_for_status().content

    def restore(self, snapshot: bytes) -> None:
        """Do what `consul snapshot restore` does."""
        self._ask("PUT", "/v1/snapshot", content=snapshot).raise_for_status()

    def revoke(self) -> None:
        """Take the processors' token away."""
        self._kept = self.front.request("GET", f"/v1/acl/token/{self._accessor()}")
        self.front.request("DELETE", f"/v1/acl/token/{self._accessor()}")

    def grant(self) -> None:
        """Give the processors' token back as it was."""
        token = {"SecretID": self.token, "Policies": self._kept["Policies"]}
        self.front.request("PUT", "/v1/acl/token", token)
        self._kept = {}

    def heal(self, documents: Mapping[str, bytes]) -> None:
        """Start what is stopped, give back what was taken away, and put the documents back to what they were.

        A tenant that was not there is switched off, since many that are deleted at once would be held.
        """
        if stopped := [agent for agent in self.agents if agent.process is None]:
            self._start(stopped)
        if self._kept:
            self.grant()
        there = self.documents()
        self.put_all({key: value for key, value in documents.items() if there.get(key) != value})
        for key in there.keys() - documents.keys():
            if key.startswith("tenants/"):
                self.put(key, {"enabled": False})
            else:
                self.delete(key)

    def stop(self, agents: Sequence[ConsulAgent]) -> None:
        """Kill servers; their data stay."""
        for agent in agents:
            agent.kill()

    def start(self, agents: Sequence[ConsulAgent]) -> None:
        """Start servers again, and return when the front one knows a leader."""
        self._start(agents)

    def leader(self) -> ConsulAgent:
        """Return the server that leads now."""
        led = self.front.request("GET", "/v1/status/leader")
        return next(each for each in self.agents if f":{each.server_port}" in led)

    def lead_elsewhere(self) -> ConsulAgent:
        """See to it that the front server does not lead, and return the one that does."""
        while self.leader() is self.front:
            self.stop([self.front])
            self._start([self.front])
        return self.leader()

    def _start(self, agents: Sequence[ConsulAgent]) -> None:
        for agent in agents:
            agent.start(wait=False)
        for agent in agents:
            agent.wait_for_leader()
        if not self.front.token:
            until(self._bootstrap, "Consul gives its first token", seconds=30)
        until(lambda: self._ask("GET", "/v1/acl/token/self").is_success, "Consul takes the token", seconds=30)

    def _bootstrap(self) -> bool:
        answer = self._ask("PUT", "/v1/acl/bootstrap")
        assert answer.is_success, answer.text  # a new leader takes a moment until its access rules are in force
        for agent in self.agents:
            agent.token = answer.json()["SecretID"]
        return True

    def _accessor(self) -> str:
        answer = self._http.get(
            f"http://{self.front.address}/v1/acl/token/self", headers={"X-Consul-Token": self.token}
        )
        return str(answer.raise_for_status().json()["AccessorID"])

    def _kv(self, method: str, path: str, content: bytes = b"") -> None:
        def written() -> bool:
            answer = self._ask(method, f"/v1/kv/{path}", content=content)
            assert answer.text.strip() == "true", f"{answer.status_code} {answer.text[:200]}"
            return True

        until(written, f"{method} {path}", seconds=10)  # while a leader is elected nothing can be written

    def _ask(self, method: str, path: str, content: bytes = b"") -> httpx.Response:
        headers = {"X-Consul-Token": self.front.token} if self.front.token else {}
        return self._http.request(method, f"http://{self.front.address}{path}", content=content, headers=headers)


def _rules(prefixes: Iterable[str], policy: str) -> str:
    return "".join(f'key_prefix "{prefix}" {{ policy = "{policy}" }}\n' for prefix in prefixes)
