"""Where a Consul is and how to speak to it: from a URL, the CONSUL_* environment, or an Airflow connection."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..errors import SettingsError, near_miss
from .base import MAX_READING_BYTES

log = logging.getLogger(__name__)

HTTP_PORT = 8500
HTTPS_PORT = 8501
"""Consul's own ports, for a `consul://` URL or a connection that names none."""

QUERY = {
    "dc": "dc",
    "namespace": "namespace",
    "partition": "partition",
    "token_file": "token_file",
    "conn_id": "conn_id",
    "verify": "verify",
    "ca_file": "ca_file",
    "ca_path": "ca_path",
    "client_cert": "client_cert",
    "client_key": "client_key",
    "tls_server_name": "tls_server_name",
    "max_staleness": "max_staleness",
    "max_bytes": "max_bytes",
}
"""What may stand after the `?` of a `consul://` URL, or among a connection's extras → the field that it sets."""

ENVIRONMENT = {
    "CONSUL_CACERT": "ca_file",
    "CONSUL_CAPATH": "ca_path",
    "CONSUL_CLIENT_CERT": "client_cert",
    "CONSUL_CLIENT_KEY": "client_key",
    "CONSUL_TLS_SERVER_NAME": "tls_server_name",
    "CONSUL_NAMESPACE": "namespace",
    "CONSUL_PARTITION": "partition",
}
"""The plain ones of Consul's own variables. Address, token, login and the two booleans need a closer look."""

# What strconv.ParseBool of Go takes, and nothing else: the same file of variables must mean the same to `consul`.
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class Secret:
    """A token or a login: held in memory or in a file, and shown by nothing but `reveal`."""

    __slots__ = ("_file", "_text")

    def __init__(self, text: str | None = None, *, file: str | None = None) -> None:
        self._text = text
        self._file = file

    def reveal(self) -> str:
        """Return the text. A file is read at each call, so that a token that is rotated is picked up.

        Raises:
            SettingsError: the file cannot be read or holds nothing, or the text could not travel in a header.
        """
        text = self._text
        if self._file is not None:
            try:
                text = Path(self._file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                reason = getattr(exc, "strerror", None) or "it is not text"
                raise SettingsError(f"the token file {self._file} cannot be read: {reason}") from None
        if not text or not text.isascii() or not text.isprintable() or text != text.strip():
            where = f"the token file {self._file}" if self._file is not None else "the token or login of Consul"
            raise SettingsError(f"{where} holds no single line of plain text")
        return text

    def __repr__(self) -> str:
        return f"Secret(file={self._file!r})" if self._file is not None else "Secret(***)"

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not written anywhere")


@dataclass(frozen=True, slots=True)
class ConsulSettings:
    """Everything that is needed to speak to one Consul. Holds nothing that may not be shown, but in `Secret`s."""

    scheme: str = "http"
    """`http` or `https`."""
    host: str = "127.0.0.1"
    port: int = HTTP_PORT
    path: str = ""
    """What stands before `/v1` where Consul is behind a gateway, without a trailing slash."""
    socket: str | None = None
    """The path of a Unix socket, instead of host and port."""
    token: Secret | None = None
    login: Secret | None = None
    """`user:password` for a gateway that asks for HTTP basic authentication."""
    dc: str | None = None
    namespace: str | None = None
    partition: str | None = None
    verify: bool = True
    """Whether the server's certificate is checked."""
    ca_file: str | None = None
    ca_path: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    tls_server_name: str | None = None
    """The name that the certificate must bear, where it is not the host's."""
    max_staleness: float = 10.0
    """Seconds since a server last heard from the leader, up to which what it says counts as current."""
    max_bytes: int = MAX_READING_BYTES
    """How many bytes an answer may have."""
    conn_id: str | None = None
    """The Airflow connection that `resolve` takes all of this from."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the URL's query says: it goes over what the connection says."""

    @classmethod
    def from_url(cls, url: SplitResult, environment: Mapping[str, str] | None = None) -> ConsulSettings:
        """Read a `consul://` URL; what it leaves open comes from Consul's own environment variables.

        With `conn_id` nothing is taken from the environment: a token for one server must not reach another.

        Raises:
            SettingsError: the URL or a variable cannot be understood.
        """
        env = os.environ if environment is None else environment
        options = _options(url)
        where = "a consul:// URL"
        if "conn_id" in options:
            if url.netloc or url.path.strip("/"):
                raise SettingsError(f"{where} names an address or a conn_id, not both: {url.netloc}{url.path}")
            return _with_options(cls(conn_id=options["conn_id"], options=options), options, where)
        settings = _with_environment(cls(), env)
        kind = url.scheme.partition("+")[2]
        if kind == "unix":
            settings = replace(settings, scheme="http", path="", socket=unquote(url.netloc + url.path))
        elif url.netloc or kind:
            secure = kind == "https" or (not kind and _boolean(env, "CONSUL_HTTP_SSL", default=False))
            address = _Address.parse(f"http{'s' if secure else ''}://{url.netloc}{url.path}", where)
            settings = address.over(settings, HTTPS_PORT if secure else HTTP_PORT)
        return _with_options(settings, options, where)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> ConsulSettings:
        """Read Consul's own variables alone, as the `consul` program does."""
        return _with_environment(cls(), os.environ if environment is None else environment)

    @classmethod
    def from_connection(cls, connection: Any) -> ConsulSettings:
        """Read an Airflow connection: host, port, schema (http or https), the token as its password, and extras.

        Extras are named as in the URL's query. A host may be a whole address, `unix:///run/consul.sock` among them.
        """
        where = f"the connection {connection.conn_id!r}"
        extras = {name: _text(value) for name, value in (connection.extra_dejson or {}).items()}
        _refuse_unknown(extras, where)
        scheme = connection.schema or "http"
        if scheme not in {"http", "https"}:
            raise SettingsError(f"{where}: the schema is {scheme!r}, neither 'http' nor 'https'")
        host = connection.host or "127.0.0.1"
        if ":" in host and "://" not in host and not host.startswith("[") and host.count(":") > 1:
            host = f"[{host}]"  # an IPv6 address
        address = _Address.parse(host if "://" in host else f"{scheme}://{host}", where)
        settings = address.over(cls(), HTTPS_PORT if address.scheme == "https" else HTTP_PORT)
        if connection.port and settings.socket is None:
            settings = replace(settings, port=int(connection.port))
        if connection.password:
            settings = replace(settings, token=Secret(connection.password))
        return _with_options(settings, extras, where)

    def resolve(self, find: Callable[[str], Any] | None = None) -> ConsulSettings:
        """Return settings that need no further look-up: these, or those of the connection that `conn_id` names.

        Args:
            find: returns the connection of an id; Airflow's own look-up unless given.

        Raises:
            LookupError: Airflow has no such connection, or cannot be asked now: it does not tell the two apart.
            SettingsError: Airflow is not installed, or the connection cannot be understood.
        """
        if self.conn_id is None:
            return self
        connection = (find or _airflow_connection)(self.conn_id)
        found = ConsulSettings.from_connection(connection)
        return replace(_with_options(found, self.options, "a consul:// URL"), conn_id=None)

    @property
    def base_url(self) -> str:
        """What every request's URL starts with."""
        if self.socket is not None:
            return "http://localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def shown(self) -> str:
        """The address for humans, without a trailing slash: `consul://127.0.0.1:8500`."""
        if self.conn_id is not None:
            return f"consul://conn_id={self.conn_id}"
        if self.socket is not None:
            return f"consul+unix://{self.socket}"
        return self.base_url.replace("http", "consul+http", 1).replace("consul+http://", "consul://", 1)

    def risks(self) -> Iterator[str]:
        """Yield a line for each way in which somebody on the network could read or replace what is sent."""
        secret = "token" if self.token is not None else "login" if self.login is not None else None
        if secret and self.scheme == "http" and self.socket is None and not _is_this_machine(self.host):
            yield (
                f"{self.shown}: the {secret} is sent over plain http, where the network can read it and change what is "
                "answered. Use consul+https:// (CONSUL_HTTP_SSL=true, or the schema https of a connection), or an "
                "agent on this machine"
            )
        if self.scheme == "https" and not self.verify:
            yield (
                f"{self.shown}: the server's certificate is not checked, so anybody on the network can be this Consul. "
                "Set CONSUL_CACERT (ca_file) to the authority that has signed it, and remove verify=false and "
                "CONSUL_HTTP_SSL_VERIFY=false"
            )

    @property
    def parameters(self) -> dict[str, str]:
        """What every request's query carries."""
        named = {"dc": self.dc, "ns": self.namespace, "partition": self.partition}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class _Address:
    """A server's address as Consul writes it."""

    scheme: str
    host: str = ""
    port: int | None = None
    path: str = ""
    socket: str | None = None

    @classmethod
    def parse(cls, text: str, where: str) -> _Address:
        parts = urlsplit(text)
        if parts.username is not None or "@" in parts.netloc:
            raise SettingsError(f"{where}: an address must not hold credentials: use a token file, or CONSUL_HTTP_AUTH")
        if parts.scheme == "unix":
            return cls("http", socket=parts.netloc + parts.path)
        if parts.scheme not in {"http", "https"}:
            known = ["http", "https", "unix"]
            raise SettingsError(f"{where}: {text} has the scheme {parts.scheme!r}{near_miss(parts.scheme, known)}")
        try:
            port = parts.port
        except ValueError:
            raise SettingsError(f"{where}: {parts.netloc} does not end in a port, a number up to 65535") from None
        if not re.fullmatch(r"[\w.:%-]*", parts.hostname or ""):
            raise SettingsError(f"{where}: {parts.hostname!r} is no host name")
        if parts.query or parts.fragment:
            raise SettingsError(f"{where}: an address ends with its path, at the {'?' if parts.query else '#'}")
        return cls(parts.scheme, parts.hostname or "127.0.0.1", port, parts.path.rstrip("/"))

    def over(self, settings: ConsulSettings, default_port: int) -> ConsulSettings:
        """Return settings with this address in place of theirs."""
        return replace(
            settings,
            scheme=self.scheme,
            host=self.host,
            port=self.port or default_port,
            path=self.path,
            socket=self.socket,
        )


def _with_environment(settings: ConsulSettings, env: Mapping[str, str]) -> ConsulSettings:
    plain: dict[str, Any] = {name: env[variable] for variable, name in ENVIRONMENT.items() if env.get(variable)}
    settings = replace(settings, **plain)
    if address := env.get("CONSUL_HTTP_ADDR"):
        parsed = _Address.parse(address if "://" in address else f"http://{address}", "CONSUL_HTTP_ADDR")
        # As `consul` itself: without a port it is the scheme's, 80 or 443.
        settings = parsed.over(settings, 443 if parsed.scheme == "https" else 80)
        if _boolean(env, "CONSUL_HTTP_SSL", default=False) and settings.socket is None and parsed.scheme == "http":
            settings = replace(settings, scheme="https", port=parsed.port or 443)
    elif _boolean(env, "CONSUL_HTTP_SSL", default=False):
        settings = replace(settings, scheme="https")
    settings = replace(settings, verify=_boolean(env, "CONSUL_HTTP_SSL_VERIFY", default=True))
    if file := env.get("CONSUL_HTTP_TOKEN_FILE"):
        settings = replace(settings, token=Secret(file=file))
    elif token := env.get("CONSUL_HTTP_TOKEN"):
        settings = replace(settings, token=Secret(token))
    if login := env.get("CONSUL_HTTP_AUTH"):
        settings = replace(settings, login=Secret(login))
    return settings


def _with_options(settings: ConsulSettings, options: Mapping[str, str], where: str) -> ConsulSettings:
    """Return these settings with what a query or a connection's extras say."""
    known: dict[str, Any] = {QUERY[name]: value for name, value in options.items()}
    if "verify" in known:
        known["verify"] = _boolean({"verify": known["verify"]}, "verify", default=True, where=f"{where}: ")
    if "max_staleness" in known:
        known["max_staleness"] = _seconds(known["max_staleness"], f"{where}: max_staleness")
    if "max_bytes" in known:
        known["max_bytes"] = _count(known["max_bytes"], f"{where}: max_bytes")
    if "token_file" in known:
        known["token"] = Secret(file=known.pop("token_file"))
    return replace(settings, **known)


def _options(url: SplitResult) -> dict[str, str]:
    if url.fragment:
        raise SettingsError("a consul:// URL has no part after a '#'")
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    _refuse_unknown(options, "a consul:// URL")
    return options


def _refuse_unknown(names: Mapping[str, str], where: str) -> None:
    for name in names:
        if name == "token":
            raise SettingsError(f"{where} must not hold a token: use token_file, CONSUL_HTTP_TOKEN, or a connection")
        if name not in QUERY:
            raise SettingsError(f"{where} has no {name!r}{near_miss(name, QUERY)}")


def _boolean(values: Mapping[str, str], name: str, *, default: bool, where: str = "") -> bool:
    value = values.get(name) or ""
    if value in _TRUE or value in _FALSE:
        return value in _TRUE
    if value:
        raise SettingsError(f"{where}{name} is {value!r}: write true or false (as Go does: 1, t, true, 0, f, false)")
    return default


def _seconds(text: str, where: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SettingsError(f"{where} is {text!r}: write a number of seconds, 0 or more")
    return seconds


def _count(text: str, where: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,17}", text):
        raise SettingsError(f"{where} is {text!r}: write a number of bytes, 1 or more")
    return int(text)


_warned: set[str] = set()
"""What this process has warned of."""


def warn_of(settings: ConsulSettings) -> None:
    """Log the risks of settings, each once in a process."""
    for line in settings.risks():
        if line not in _warned:
            _warned.add(line)
            log.warning("%s", line)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:  # a name
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def _text(value: Any) -> str:
    """Write a connection's extra, which is JSON, as a query would."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _airflow_connection(conn_id: str) -> Any:
    """Return Airflow's connection of that id."""
    try:
        from airflow.sdk import Connection
        from airflow.sdk.exceptions import AirflowNotFoundException
    except ImportError:
        raise SettingsError(f"conn_id={conn_id} needs Airflow, which is not installed: use CONSUL_HTTP_ADDR") from None
    try:
        return Connection.get(conn_id)
    except AirflowNotFoundException:
        raise LookupError(
            f"Airflow gives no connection {conn_id!r}: add it, or set AIRFLOW_CONN_{conn_id.upper()}"
        ) from None
