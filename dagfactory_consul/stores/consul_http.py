"""py-consul's HTTP client on httpx: one deadline for all attempts, retries, and our errors instead of others'."""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import consul.base
import httpx

from ..errors import (
    SettingsError,
    StoreDenied,
    StoreError,
    StoreLeaderless,
    StoreRejected,
    StoreUnreachable,
)
from ..problems import printable
from .consul_settings import ConsulSettings, warn_of
from .deadline import DeadlineTransport, until

log = logging.getLogger(__name__)

T = TypeVar("T")
Parameters = Sequence[tuple[str, Any]] | Mapping[str, Any]

TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
SHOWN_BODY = 200
"""How many characters of a refusal's text an error shows."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to wait before another attempt, in seconds: doubling, and never quite the same for two clients."""

    first: float = 0.05
    longest: float = 1.0
    randomness: Callable[[], float] = random.random

    def pause(self, attempt: int, asked: float = 0.0) -> float:
        """Return the seconds to wait after that many failures; at least what the server has asked for."""
        longest = min(self.longest, self.first * 2.0 ** min(attempt, 32))
        return max(asked, longest * (0.5 + self.randomness() / 2))


class HTTPClient(consul.base.HTTPClient):  # type: ignore[misc]  # py-consul has no types
    """The transport that py-consul asks `http_connect` for.

    Every call answers, or raises a `StoreError`, within `timeout` seconds or by the `deadline` that it is given, a
    moment of `clock`. 404 is an answer; other refusals are errors. The token travels in the header X-Consul-Token,
    which is set where the request leaves, and is in no argument, variable or error on the way there.

    Args:
        settings: resolved ones: where Consul is, and the secrets.
        shown: the store's address, for errors.
        timeout: seconds for one call with all its attempts.
        transport: httpx's transport, one with a real deadline unless given.
        clock, sleep: a monotonic clock, and what waits; `sleep` is ended by `close` unless given.
    """

    def __init__(
        self,
        settings: ConsulSettings,
        *,
        shown: str,
        timeout: float = 2.0,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        super().__init__(settings.host, settings.port, settings.scheme, settings.verify)
        warn_of(settings)
        self.base_uri = settings.base_url
        self.shown = shown
        self.timeout = timeout
        self.clock = clock
        self._settings = settings
        self._retry = retry or Retry()
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait
        self._client = httpx.Client(
            transport=transport or DeadlineTransport(context=_tls(settings), socket=settings.socket),
            auth=_Secrets(settings),
            # A Consul is an agent next door: packing an answer costs both sides more than sending it.
            headers={"Accept-Encoding": "identity"},
            trust_env=False,
        )

    def get(
        self,
        callback: Callable[[Any], T],
        path: str,
        params: Parameters | None = None,
        headers: dict[str, str] | None = None,
        raw: bool = False,
        deadline: float | None = None,
    ) -> T:
        return self._call("GET", callback, path, params, headers=headers, raw=raw, deadline=deadline)

    def put(
        self,
        callback: Callable[[Any], T],
        path: str,
        params: Parameters | None = None,
        data: str | bytes | None = "",
        headers: dict[str, str] | None = None,
        deadline: float | None = None,
    ) -> T:
        return self._call("PUT", callback, path, params, data=data, headers=headers, deadline=deadline)

    def delete(
        self,
        callback: Callable[[Any], T],
        path: str,
        params: Parameters | None = None,
        data: str | bytes | None = "",
        headers: dict[str, str] | None = None,
        deadline: float | None = None,
    ) -> T:
        return self._call("DELETE", callback, path, params, data=data, headers=headers, deadline=deadline)

    def post(
        self,
        callback: Callable[[Any], T],
        path: str,
        params: Parameters | None = None,
        data: str | bytes | None = "",
        headers: dict[str, str] | None = None,
        deadline: float | None = None,
    ) -> T:
        return self._call("POST", callback, path, params, data=data, headers=headers, deadline=deadline)

    def close(self) -> None:
        """Give back the connections, and end a wait between two attempts."""
        self._closed.set()
        self._client.close()

    def _call(
        self,
        method: str,
        callback: Callable[[Any], T],
        path: str,
        params: Parameters | None,
        *,
        data: str | bytes | None = None,
        headers: dict[str, str] | None = None,
        raw: bool = False,
        deadline: float | None = None,
    ) -> T:
        """Make attempts until one is answered for good, and hand that answer to py-consul's callback."""
        query = {**self._settings.parameters, **dict(params or {})}
        # A repeated plain write changes nothing; one that compares or locks would see its own first attempt.
        again = method in {"GET", "DELETE"} or (method == "PUT" and not query.keys() & {"cas", "acquire", "release"})
        if deadline is None:
            deadline = self.clock() + self.timeout
        request = self._client.build_request(
            method, self.uri(path), params=query, content=data or None, headers=headers
        )
        attempt = 0
        while True:
            answer, failure = self._attempt(request, deadline)
            if failure is None:
                return callback(consul.base.Response(answer.code, answer.headers, answer.body if raw else answer.text))
            pause = self._retry.pause(attempt, answer.asked)
            if not (again and answer.may_pass) or self.clock() + pause >= deadline or self._closed.is_set():
                raise failure
            log.debug("%s; another attempt in %.2f s", failure, pause)
            self._sleep(pause)
            attempt += 1

    def _attempt(self, request: httpx.Request, deadline: float) -> tuple[_Answer, StoreError | None]:
        """Send the request once. The one place where the driver's errors become ours.

        httpx's errors hold the request, and so the token: ours name them and let them go.
        """
        # On a clock of a test's own the network's waits are its transport's affair.
        moment = time.monotonic() + max(0.0, deadline - self.clock())
        extensions: dict[str, Any] = until(moment)
        if self._settings.tls_server_name:
            extensions["sni_hostname"] = self._settings.tls_server_name
        request.extensions = extensions
        try:
            response = self._client.send(request, stream=True)
            try:
                body = self._body(response, deadline)
            finally:
                response.close()
        except SettingsError as exc:
            return _Answer(), StoreDenied(str(exc), store=self.shown)
        except httpx.TimeoutException as exc:
            waited = "accepted no connection" if isinstance(exc, httpx.ConnectTimeout) else "did not answer in full"
            return _Answer(), StoreUnreachable(f"{waited} within {self.timeout:g} s", store=self.shown)
        except httpx.TransportError as exc:
            if (trust := _certificate_error(exc)) is not None:
                return _Answer(), StoreUnreachable(
                    f"its certificate is not trusted ({trust}): see CONSUL_CACERT and CONSUL_TLS_SERVER_NAME",
                    store=self.shown,
                )
            said = printable(self._without_secrets(str(exc))) or type(exc).__name__
            return _Answer(may_pass=True), StoreUnreachable(said, store=self.shown)
        except StoreUnreachable as exc:
            return _Answer(), exc
        answer = _Answer(
            response.status_code,
            response.headers,
            body,
            may_pass=response.status_code in TRY_AGAIN,
            asked=_retry_after(response.headers),
        )
        return answer, self._failure(answer)

    def _body(self, response: httpx.Response, deadline: float) -> bytes:
        """Read an answer's body, as it was sent.

        Raises:
            StoreUnreachable: it is larger than may be, or packed although that was not asked for: a few kilobytes of
                it could unpack to gigabytes.
            httpx.ReadTimeout: the deadline is over.
        """
        packed = response.headers.get("Content-Encoding", "identity").strip().lower()
        if packed not in {"", "identity"}:
            raise StoreUnreachable("sent a packed answer, which was not asked for", store=self.shown)
        parts: list[bytes] = []
        left = self._settings.max_bytes
        for part in response.iter_bytes():
            parts.append(part)
            left -= len(part)
            if left < 0:
                limit = f"more than {self._settings.max_bytes:,} bytes (max_bytes)"
                raise StoreUnreachable(f"sent {limit}, which is not read any further", store=self.shown)
            if self.clock() >= deadline:
                raise httpx.ReadTimeout("the deadline is over")
        return b"".join(parts)

    def _failure(self, answer: _Answer) -> StoreError | None:
        """Return what a status means; None for an answer."""
        code = answer.code
        if 200 <= code < 300 or code == 404:
            return None
        said = self._without_secrets(" ".join(answer.text.split()))
        said = printable(said, SHOWN_BODY) or "no reason given"
        kind: type[StoreError] = StoreRejected
        if code in {401, 403} or (code == 409 and "Permission denied" in said):  # 409 is a transaction's refusal
            kind = StoreDenied
        elif code >= 500 and "leader" in said:
            kind = StoreLeaderless
        elif code >= 500 or code == 429:
            kind = StoreUnreachable
        elif code < 400:
            kind, said = StoreUnreachable, "no Consul does so: is the address right?"
        return kind(f"answered {code}: {said}", store=self.shown)

    def _without_secrets(self, text: str) -> str:
        """Return a text from outside without the secrets, in case a gateway repeats what it was sent."""
        for secret in (self._settings.token, self._settings.login):
            try:
                text = text.replace(secret.reveal(), "***") if secret is not None else text
            except SettingsError:  # it is no longer readable: better no text than a leak
                return ""
        return text


class Consul(consul.base.Consul):  # type: ignore[misc]  # py-consul has no types
    """py-consul's client over `HTTPClient`: `kv`, `txn`, `session` and the rest, with the settings' token alone."""

    http: HTTPClient

    def __init__(self, http: HTTPClient) -> None:
        self._given = http
        super().__init__(host=http.host, port=http.port, scheme=http.scheme, verify=http.verify)
        # It has taken CONSUL_HTTP_TOKEN over any token in code; the transport adds the right one.
        self.token = None

    def http_connect(
        self, host: str, port: int, scheme: str, verify: bool | str = True, cert: Any = None
    ) -> HTTPClient:
        """Return the transport; everything py-consul would tell it, it knows better."""
        return self._given


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one attempt brought: nothing, where the transport failed."""

    code: int = 0
    headers: Mapping[str, str] | None = None
    body: bytes = b""
    may_pass: bool = False
    """Whether another attempt may fare better."""
    asked: float = 0.0
    """The seconds that the server asked to wait."""

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", errors="replace")


class _Secrets(httpx.Auth):
    """Adds the token and the login at the last moment."""

    def __init__(self, settings: ConsulSettings) -> None:
        self._settings = settings

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._settings.token is not None:
            request.headers["X-Consul-Token"] = self._settings.token.reveal()
        if self._settings.login is not None:
            user, _, password = self._settings.login.reveal().partition(":")
            yield from httpx.BasicAuth(user, password).auth_flow(request)
        else:
            yield request


def _tls(settings: ConsulSettings) -> ssl.SSLContext | None:
    """Return how to speak TLS: the system's authorities unless others are named, and verified unless switched off."""
    if settings.scheme != "https":
        return None
    try:
        # As Consul does, every file of the folder; OpenSSL itself would look for hashed names only.
        folder = sorted(Path(settings.ca_path).iterdir()) if settings.ca_path else []
        files = [settings.ca_file] if settings.ca_file else [str(file) for file in folder if file.is_file()]
        context = ssl.create_default_context(cafile=files[0] if files else None)
        for file in files[1:]:
            context.load_verify_locations(file)
        if settings.client_cert:
            context.load_cert_chain(settings.client_cert, settings.client_key)
    except (OSError, ssl.SSLError) as exc:
        named = settings.ca_file or settings.ca_path, settings.client_cert, settings.client_key
        raise SettingsError(f"the certificates {[each for each in named if each]} cannot be used: {exc}") from exc
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _certificate_error(exc: BaseException | None) -> str | None:
    """Return why a certificate was refused, None where that was not the reason: no attempt would change it."""
    while exc is not None:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return exc.verify_message
        exc = exc.__cause__ or exc.__context__
    return None


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that Retry-After asks for; a date, which needs a common clock, counts as none."""
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return 0.0
