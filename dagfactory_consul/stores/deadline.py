"""An httpx transport that answers or fails by one moment, however many bytes a server sends, and however slowly.

httpx counts its time-outs anew at every read of the socket: a server that sends a byte a second, or a header line now
and then, is never late. Here a request carries the moment at which it must be over, on the monotonic clock, in the
place where httpx keeps its time-outs; each operation on the socket gets what remains until then.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx


def until(moment: float) -> dict[str, dict[str, float]]:
    """Return the `extensions` of a request that must be over at this moment of `time.monotonic`."""
    # The wait for a connection of the pool is the one that httpcore counts itself: it stays a duration.
    waits = {"connect": moment, "read": moment, "write": moment, "pool": max(0.0, moment - time.monotonic())}
    return {"timeout": waits}


class DeadlineTransport(httpx.BaseTransport):
    """Requests over TCP, TLS or a Unix socket, each with its deadline from `until`."""

    def __init__(self, *, context: ssl.SSLContext | None = None, socket: str | None = None) -> None:
        self._pool = httpcore.ConnectionPool(ssl_context=context, uds=socket, network_backend=_Backend())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with _as_httpx():
            answer = self._pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        with _as_httpx():
            self._answer.close()


class _Stream(httpcore.NetworkStream):
    """A connection whose time-outs are moments."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _left(timeout, httpcore.ConnectTimeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Makes connections whose time-outs are moments."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, left, local_address, socket_options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.connect_unix_socket(path, _left(timeout, httpcore.ConnectTimeout), socket_options))


def _left(moment: float | None, late: type[Exception]) -> float | None:
    """Return the seconds until the moment; a request that carries none waits for ever."""
    if moment is None:
        return None
    left = moment - time.monotonic()
    if left <= 0:
        raise late("the deadline is over")
    return left


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Turn httpcore's errors into httpx's, as every httpx transport does."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as exc:
        # Both libraries name them alike; an unknown one is still a failure of the transport.
        raise getattr(httpx, type(exc).__name__, httpx.TransportError)(str(exc)) from exc
