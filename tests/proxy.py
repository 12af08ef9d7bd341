"""A proxy between a client and Consul that does what networks, gateways and servers do on bad days.

Each connection carries one request. What becomes of it says `proxy.behaviour`, one of the functions below.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.waiting import wait_until

Behaviour = Callable[["Exchange"], Iterator[bytes]]


@dataclass(frozen=True)
class Exchange:
    """One request that has come in."""

    proxy: Proxy
    request: bytes

    @property
    def line(self) -> str:
        """Method and target: `GET /v1/kv/x?recurse=1`."""
        return self.request.split(b" HTTP/", 1)[0].decode()

    @property
    def headers(self) -> dict[str, str]:
        """Headers, with names in lower case."""
        lines = self.request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def forward(self) -> bytes:
        """Return the whole answer of the server behind."""
        with socket.create_connection(self.proxy.target, timeout=10) as server:
            server.sendall(self.request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            return b"".join(iter(lambda: server.recv(65536), b""))

    def wait(self, seconds: float) -> None:
        """Wait, or until the proxy is closed."""
        self.proxy.closed.wait(seconds)


def passes(exchange: Exchange) -> Iterator[bytes]:
    """Hand everything on as it is."""
    yield exchange.forward()


def hangs(exchange: Exchange) -> Iterator[bytes]:
    """Take the request and say nothing."""
    exchange.wait(60)
    yield b""


def cuts(count: int) -> Behaviour:
    """Hand on that many bytes of the answer, and close."""

    def behave(exchange: Exchange) -> Iterator[bytes]:
        yield exchange.forward()[:count]

    return behave


def dribbles(seconds: float) -> Behaviour:
    """Hand on a byte every so many seconds, beginning with the headers."""

    def behave(exchange: Exchange) -> Iterator[bytes]:
        for byte in exchange.forward():
            yield bytes([byte])
            exchange.wait(seconds)

    return behave


def dribbles_body(seconds: float) -> Behaviour:
    """Hand on the headers at once, and then a byte every so many seconds."""

    def behave(exchange: Exchange) -> Iterator[bytes]:
        head, end, body = exchange.forward().partition(b"\r\n\r\n")
        yield head + end
        for byte in body:
            yield bytes([byte])
            exchange.wait(seconds)

    return behave


def answers(status: int, body: str = "", **headers: str) -> Behaviour:
    """Answer without asking anybody."""

    def behave(_: Exchange) -> Iterator[bytes]:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body.encode())}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        yield "\r\n".join([*lines, "", body]).encode()

    return behave


def with_headers(**headers: str) -> Behaviour:
    """Hand on the answer with these headers in place of the server's: `X_Consul_Index="7"`."""

    def behave(exchange: Exchange) -> Iterator[bytes]:
        head, _, body = exchange.forward().partition(b"\r\n\r\n")
        new = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        first, *lines = head.decode().split("\r\n")
        kept = [line for line in lines if line.partition(":")[0].lower() not in new]
        yield "\r\n".join([first, *kept, *(f"{name}: {value}" for name, value in new.items()), "", ""]).encode() + body

    return behave


def with_body(body: bytes) -> Behaviour:
    """Hand on the answer's headers, with another body that is as long as they say."""

    def behave(exchange: Exchange) -> Iterator[bytes]:
        answer = b"".join(with_headers(Content_Length=str(len(body)))(exchange))
        yield answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body

    return behave


def when(matches: Callable[[str], bool], behaviour: Behaviour, otherwise: Behaviour = passes) -> Behaviour:
    """Behave so where the request's line matches, else otherwise."""

    def behave(exchange: Exchange) -> Iterator[bytes]:
        return (behaviour if matches(exchange.line) else otherwise)(exchange)

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Behave differently at each request; the last one stays."""
    left = list(behaviours)

    def behave(exchange: Exchange) -> Iterator[bytes]:
        return (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return behave


class Proxy:
    """Listens on a free port of the loopback address. `exchanges` holds what has come in.

    Args:
        target: host and port of the server behind.
        tls: speak TLS with the client, and plain with the server.
    """

    def __init__(self, target: tuple[str, int], *, tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self.behaviour: Behaviour = passes
        self.exchanges: list[Exchange] = []
        self.closed = threading.Event()
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept, self._listener)

    @property
    def url(self) -> str:
        """The address as `open_store` wants it."""
        return f"consul://127.0.0.1:{self.port}"

    def refuse(self) -> None:
        """Stop listening: connections are refused from now on."""
        # Closing alone leaves a thread that waits in accept, and the port open, until one more has come.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        """Stop, and end what hangs."""
        self.closed.set()
        self.refuse()
        wait_until(lambda: not any(thread.is_alive() for thread in self._threads))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # closed
            while True:
                self._start(self._serve, listener.accept()[0])

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), plain:  # the client has gone, as clients with a deadline do
            plain.settimeout(10)
            client = self._tls.wrap_socket(plain, server_side=True) if self._tls else plain
            with client:
                exchange = Exchange(self, self._request(client))
                if not exchange.request:
                    return
                self.exchanges.append(exchange)
                for part in self.behaviour(exchange):
                    client.sendall(part)
                    if self.closed.is_set():
                        return

    def _request(self, client: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            part = client.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (
                int(line.partition(b":")[2])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            ),
            0,
        )
        while len(body) < length and (part := client.recv(65536)):
            body += part
        return head + b"\r\n\r\n" + body
