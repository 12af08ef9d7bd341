"""A real Consul agent on this machine, in a folder of its own: for the demonstration and for the tests.

`python -m demo.consul` prints the path of the Consul program, and brings it first where there is none.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .consul_binary import ConsulNotFoundError, find_consul

__all__ = ["ConsulAgent", "ConsulNotFoundError", "find_consul", "free_ports"]

START_SECONDS = 30
POLL_SECONDS = 0.05


class ConsulAgent:
    """A Consul server on free ports of the loopback address, whose data lives in a temporary folder.

    Started by `start()` or as a context manager. `restart()` keeps ports and data. Unlike `consul agent -dev` it writes
    to disk, so that a restart is what it is in production.

    Args:
        program: the Consul program; found or brought by `find_consul` unless given.
        folder: where data, configuration and log go; a temporary one, removed by `stop`, unless given.
        acls: refuse everything to everybody without a token; `token` then holds the one that may do everything.
        expect: how many servers must have met before one is elected; above 1 an agent alone has no leader.
        join: agents to meet.
        http_port: the port of its API, a free one unless given.
        unix_socket: where its API is to be found besides.
    """

    def __init__(
        self,
        program: Path | None = None,
        *,
        folder: Path | None = None,
        acls: bool = False,
        expect: int = 1,
        join: tuple[ConsulAgent, ...] = (),
        http_port: int | None = None,
        unix_socket: Path | None = None,
    ) -> None:
        self.program = program or find_consul()
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="consul-"))
        self.acls = acls
        self.expect = expect
        self.unix_socket = unix_socket
        self.join = join
        chosen, self.server_port, self.serf_port = free_ports(3)
        self.port = http_port or chosen
        self.token = ""
        self.process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def address(self) -> str:
        """`host:port` of its API, as CONSUL_HTTP_ADDR wants it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address as `open_store` wants it, without a token."""
        return f"consul://{self.address}"

    @property
    def log(self) -> str:
        """What the agent has written so far."""
        file = self.folder / "consul.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def start(self, *, wait: bool = True) -> Self:
        """Start the agent; with `wait`, return when it has a leader and, with ACLs, a token."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.json"
        config.write_text(json.dumps(self._config()), encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
        with (self.folder / "consul.log").open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                [str(self.program), "agent", f"-config-file={config}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for whoever started it, who then stops it in order
            )
        atexit.register(self.kill)
        if wait:
            self.wait_for_leader()
            if self.acls and not self.token:
                # A new leader takes a moment until its access rules are in force.
                self._wait(self._bootstrap, START_SECONDS, "gives no token")
        return self

    @contextmanager
    def started_alone(self) -> Iterator[Self]:
        """Start the agent, and give it as soon as it answers, without a leader; stop it at the end."""
        try:
            self.start(wait=False)
            self.wait_for_answer()
            yield self
        finally:
            self.stop()

    def wait_for_leader(self, seconds: float = START_SECONDS) -> None:
        """Return when the agent knows a leader.

        Raises:
            RuntimeError: it stopped or has none in time; the message ends with its log.
        """
        self._wait(lambda: bool(self.request("GET", "/v1/status/leader")), seconds, "has no leader")
        # The leader's first acts, the ACL system's among them, come after its election.
        self._wait(
            lambda: self.request("GET", "/v1/kv/none?keys&consistent", missing=True) is None, seconds, "is not ready"
        )

    def wait_for_answer(self, seconds: float = START_SECONDS) -> None:
        """Return when the agent answers at all, with a leader or without."""
        self._wait(lambda: self.request("GET", "/v1/status/leader") is not None, seconds, "does not answer")

    def request(self, method: str, path: str, body: Any = None, *, missing: bool = False) -> Any:
        """Send one request with the agent's token and return the answer; with `missing`, None for 403 and 404."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Consul-Token": self.token} if self.token else {}
        request = urllib.request.Request(f"http://{self.address}{path}", data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as exc:
            with exc:
                if missing and exc.code in {403, 404}:
                    return None
                raise

    def make_token(self, rules: str) -> str:
        """Create a policy with these rules and return a new token that has it alone."""
        name = f"policy-{time.monotonic_ns()}"
        self.request("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        secret: str = self.request("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})["SecretID"]
        return secret

    def stop(self) -> None:
        """End the agent and remove its temporary folder."""
        self._end(signal.SIGINT)
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End the agent at once, as a crash does; its data stay."""
        self._end(signal.SIGKILL)

    def restart(self, *, wait: bool = True) -> None:
        """End the agent and start it again on the same ports with the same data."""
        self._end(signal.SIGINT)
        self.start(wait=wait)

    def _bootstrap(self) -> bool:
        self.token = self.request("PUT", "/v1/acl/bootstrap")["SecretID"]
        return True

    def _end(self, how: signal.Signals) -> None:
        atexit.unregister(self.kill)
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def _wait(self, condition: Any, seconds: float, complaint: str) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                # Who answers on its port before it says so is somebody else.
                if "agent running" in self.log[self._log_start :] and condition():
                    return
            except (OSError, ValueError):  # not listening yet, or a server's error while it elects
                pass
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"Consul at {self.address} stopped: {self.log[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"Consul at {self.address} {complaint} after {seconds} s: {self.log[-2000:]}")
            time.sleep(POLL_SECONDS)

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "server": True,
            "node_name": f"node-{self.port}",
            "data_dir": str(self.folder / "data"),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "addresses": {"http": f"127.0.0.1 unix://{self.unix_socket}"} if self.unix_socket else {},
            "ports": {
                "http": self.port,
                "server": self.server_port,
                "serf_lan": self.serf_port,
                "serf_wan": -1,
                "dns": -1,
                "grpc": -1,
            },
            "bootstrap_expect": self.expect,
            "retry_join": [f"127.0.0.1:{each.serf_port}" for each in self.join],
            "retry_interval": "1s",
            "performance": {"raft_multiplier": 1},
            "leave_on_terminate": False,
            "skip_leave_on_interrupt": True,
            "disable_update_check": True,
            "disable_remote_exec": True,
            "log_level": "WARN",
        }
        if self.acls:
            config["acl"] = {"enabled": True, "default_policy": "deny", "enable_token_persistence": True}
        return config

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()  # nobody else will: a `with` that is not entered is not left
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody listens on, different from each other."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{find_consul()}\n")
    except ConsulNotFoundError as exc:
        sys.exit(f"demo.consul: {exc}")
