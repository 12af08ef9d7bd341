"""Where a Consul is and how to speak to it, as a URL, the environment or an Airflow connection says it."""

from __future__ import annotations

import dataclasses
import os
import pickle
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from dagfactory_consul.errors import SettingsError, StoreUnreachable
from dagfactory_consul.stores import consul_settings, open_store
from dagfactory_consul.stores.consul import ConsulStore
from dagfactory_consul.stores.consul_http import HTTPClient
from dagfactory_consul.stores.consul_settings import ConsulSettings, Secret

TOKEN = "3f0c-secret-token-9a1e"  # noqa: S105  # it opens nothing


def from_url(url: str, environment: Mapping[str, str] | None = None) -> ConsulSettings:
    return ConsulSettings.from_url(urlsplit(url), environment or {})


def connection(**fields: Any) -> SimpleNamespace:
    extra = fields.pop("extra", {})
    given: dict[str, Any] = {"conn_id": "c", "host": None, "port": None, "schema": None, "password": None}
    return SimpleNamespace(**(given | fields), extra_dejson=extra)


@pytest.mark.parametrize(
    ("address", "base_url"),
    [
        (None, "http://127.0.0.1:8500"),
        ("consul.example:8500", "http://consul.example:8500"),
        ("consul.example", "http://consul.example:80"),
        ("https://consul.example", "https://consul.example:443"),
        ("http://consul.example:8080/gateway/consul/", "http://consul.example:8080/gateway/consul"),
        ("10.0.0.1:8500/path", "http://10.0.0.1:8500/path"),
        ("[::1]:8500", "http://[::1]:8500"),
        ("https://[2001:db8::1]:8501", "https://[2001:db8::1]:8501"),
    ],
)
def test_address_of_the_environment(address: str | None, base_url: str) -> None:
    """CONSUL_HTTP_ADDR means the server that the `consul` program would ask, port or none, path or none."""
    environment = {"CONSUL_HTTP_ADDR": address} if address else {}
    assert from_url("consul://", environment).base_url == base_url


def test_unix_socket_of_the_environment() -> None:
    """CONSUL_HTTP_ADDR may name a Unix socket."""
    settings = from_url("consul://", {"CONSUL_HTTP_ADDR": "unix:///run/consul/http.sock"})
    assert (settings.socket, settings.scheme) == ("/run/consul/http.sock", "http")
    assert settings.shown == "consul+unix:///run/consul/http.sock"


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        ("consul://host", "http://host:8500"),
        ("consul://host:1234/path", "http://host:1234/path"),
        ("consul+http://host", "http://host:8500"),
        ("consul+https://host", "https://host:8501"),
        ("consul+https://host:443/p/", "https://host:443/p"),
        ("consul://[::1]:8500", "http://[::1]:8500"),
    ],
)
def test_address_of_a_url(url: str, base_url: str) -> None:
    """A URL's address goes over the environment's, and Consul's own ports are its defaults."""
    assert from_url(url, {"CONSUL_HTTP_ADDR": "https://other:9"}).base_url == base_url


def test_unix_socket_of_a_url() -> None:
    """consul+unix:// names a Unix socket."""
    assert from_url("consul+unix:///run/consul.sock").socket == "/run/consul.sock"


@pytest.mark.parametrize("value", ["1", "t", "T", "TRUE", "true", "True"])
def test_booleans_are_those_of_go_when_true(value: str) -> None:
    """What Go's ParseBool takes for true switches TLS on, and keeps its verification on."""
    environment = {"CONSUL_HTTP_SSL": value, "CONSUL_HTTP_SSL_VERIFY": value, "CONSUL_HTTP_ADDR": "host:8501"}
    settings = from_url("consul://", environment)
    assert (settings.base_url, settings.verify) == ("https://host:8501", True)


@pytest.mark.parametrize("value", ["0", "f", "F", "FALSE", "false", "False"])
def test_booleans_are_those_of_go_when_false(value: str) -> None:
    """What Go's ParseBool takes for false leaves TLS off, and switches its verification off."""
    settings = from_url("consul://", {"CONSUL_HTTP_SSL": value, "CONSUL_HTTP_SSL_VERIFY": value})
    assert (settings.scheme, settings.verify) == ("http", False)


@pytest.mark.parametrize("name", ["CONSUL_HTTP_SSL", "CONSUL_HTTP_SSL_VERIFY"])
@pytest.mark.parametrize("value", ["yes", "on", "tRue", "2"])
def test_other_booleans_are_errors(name: str, value: str) -> None:
    """What Go's ParseBool does not take is an error that names the variable, never a guess."""
    with pytest.raises(SettingsError, match=f"{name} is '{value}'"):
        from_url("consul://", {name: value})


def test_tls_is_on_unless_switched_off() -> None:
    """TLS is verified where nobody says anything about it, and an address of http:// does not undo CONSUL_HTTP_SSL."""
    settings = from_url("consul://", {"CONSUL_HTTP_ADDR": "http://host:8501", "CONSUL_HTTP_SSL": "true"})
    assert (settings.scheme, settings.verify) == ("https", True)


def test_environment_in_full() -> None:
    """Every other variable of Consul's has its place."""
    settings = from_url(
        "consul://",
        {
            "CONSUL_HTTP_TOKEN": TOKEN,
            "CONSUL_HTTP_AUTH": "user:password",
            "CONSUL_CACERT": "/ca.pem",
            "CONSUL_CAPATH": "/ca",
            "CONSUL_CLIENT_CERT": "/cert.pem",
            "CONSUL_CLIENT_KEY": "/key.pem",
            "CONSUL_TLS_SERVER_NAME": "server.dc1.consul",
            "CONSUL_NAMESPACE": "team",
            "CONSUL_PARTITION": "part",
        },
    )
    assert settings.token is not None
    assert settings.login is not None
    assert (settings.token.reveal(), settings.login.reveal()) == (TOKEN, "user:password")
    assert (settings.ca_file, settings.ca_path, settings.tls_server_name) == ("/ca.pem", "/ca", "server.dc1.consul")
    assert (settings.client_cert, settings.client_key) == ("/cert.pem", "/key.pem")
    assert settings.parameters == {"ns": "team", "partition": "part"}


def test_token_file_wins(tmp_path: Path) -> None:
    """CONSUL_HTTP_TOKEN_FILE wins over CONSUL_HTTP_TOKEN, and a token that is rotated in it is picked up."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    settings = from_url("consul://", {"CONSUL_HTTP_TOKEN_FILE": str(file), "CONSUL_HTTP_TOKEN": "other"})
    assert settings.token is not None
    assert settings.token.reveal() == TOKEN
    file.write_text("next")
    assert settings.token.reveal() == "next"


@pytest.mark.parametrize("text", [None, "", "two\nlines", "t\u00f6ken", "a b\x07"])
def test_bad_token_file(tmp_path: Path, text: str | None) -> None:
    """A token file that is missing or holds no token is an error that names the file, and not what is in it."""
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Secret(file=str(file)).reveal()
    assert str(file) in str(caught.value)
    assert not text or text not in str(caught.value)


def test_query() -> None:
    """A URL's query goes over the environment."""
    settings = from_url(
        "consul://host?dc=dc2&namespace=n&partition=p&token_file=/t&verify=false&ca_file=/ca&max_staleness=2.5",
        {"CONSUL_NAMESPACE": "other", "CONSUL_HTTP_TOKEN": TOKEN},
    )
    assert settings.parameters == {"dc": "dc2", "ns": "n", "partition": "p"}
    assert (settings.verify, settings.ca_file, settings.max_staleness) == (False, "/ca", 2.5)
    assert repr(settings.token) == "Secret(file='/t')"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("consul://host?namspace=n", "'namspace', did you mean 'namespace'"),
        (f"consul://host?token={TOKEN}", "must not hold a token"),
        ("consul://host?verify=maybe", "verify is 'maybe'"),
        ("consul://host?max_staleness=-1", "max_staleness is '-1'"),
        ("consul://host?max_staleness=inf", "max_staleness is 'inf'"),
        ("consul://host:99999", "port"),
        ("consul://host:abc", "port"),
        ("consul://ho st", "no host name"),
        ("consul://host?conn_id=c", "not both"),
        ("consul://host#part", "'#'"),
        (f"consul://user:{TOKEN}@host", "must not hold credentials"),
    ],
)
def test_urls_that_cannot_be_understood(url: str, message: str) -> None:
    """What a URL must not contain is an error that says what is wrong, and shows no secret."""
    with pytest.raises(SettingsError, match=message) as caught:
        open_store(url)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://host", "scheme 'ftp'"),
        (f"http://u:{TOKEN}@host:1", "credentials"),
        ("host:port", "port"),
        ("h?x=1", "path"),
    ],
)
def test_addresses_that_cannot_be_understood(address: str, message: str) -> None:
    """An address that makes no sense is an error that names its variable, and shows no secret."""
    with pytest.raises(SettingsError, match=message) as caught:
        from_url("consul://", {"CONSUL_HTTP_ADDR": address})
    assert "CONSUL_HTTP_ADDR" in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_connection() -> None:
    """An Airflow connection gives host, port, schema, the token as its password, and extras as in a URL's query."""
    given = connection(
        host="consul.example",
        port=8443,
        schema="https",
        password=TOKEN,
        extra={"dc": "dc2", "verify": False, "max_staleness": 3, "namespace": "n"},
    )
    settings = from_url("consul://?conn_id=c").resolve(lambda _: given)
    assert settings.base_url == "https://consul.example:8443"
    assert settings.token is not None
    assert settings.token.reveal() == TOKEN
    assert (settings.verify, settings.max_staleness, settings.parameters) == (False, 3.0, {"dc": "dc2", "ns": "n"})


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, "http://127.0.0.1:8500"),
        ({"host": "h"}, "http://h:8500"),
        ({"host": "h", "schema": "https"}, "https://h:8501"),
        ({"host": "https://h/gateway", "port": 444}, "https://h:444/gateway"),
        ({"host": "::1", "port": 1}, "http://[::1]:1"),
    ],
)
def test_connection_address(fields: dict[str, Any], base_url: str) -> None:
    """A connection's host may be a name or a whole address; what it leaves open is Consul's own default."""
    assert ConsulSettings.from_connection(connection(**fields)).base_url == base_url


def test_connection_takes_nothing_from_the_environment() -> None:
    """A token that the environment has for one server is not sent to the connection's."""
    settings = from_url("consul://?conn_id=c", {"CONSUL_HTTP_TOKEN": TOKEN, "CONSUL_NAMESPACE": "n"})
    resolved = settings.resolve(lambda _: connection(host="h"))
    assert (resolved.token, resolved.namespace) == (None, None)


def test_query_goes_over_the_connection() -> None:
    """What stands in the URL beside conn_id goes over what the connection says."""
    settings = from_url("consul://?conn_id=c&dc=dc3").resolve(lambda _: connection(extra={"dc": "dc2"}))
    assert settings.dc == "dc3"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"extra": {"datacenter": "x", "token": "y"}}, "datacenter"),
        ({"schema": "htps"}, "'htps'"),
        ({"host": "a b"}, "host"),
    ],
)
def test_connections_that_cannot_be_understood(fields: dict[str, Any], message: str) -> None:
    """An error about a connection names it."""
    with pytest.raises(SettingsError, match=message) as caught:
        ConsulSettings.from_connection(connection(**fields))
    assert "connection 'c'" in str(caught.value)


def test_connection_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is looked up by Airflow itself."""
    monkeypatch.setenv("AIRFLOW_CONN_CONFIG_CONSUL", f"consul://:{TOKEN}@consul.example:8500/?dc=dc2")
    settings = from_url("consul://?conn_id=config_consul").resolve()
    assert (settings.base_url, settings.dc) == ("http://consul.example:8500", "dc2")
    assert settings.token is not None
    assert settings.token.reveal() == TOKEN


def test_connection_that_airflow_does_not_give() -> None:
    """A connection that Airflow does not give is an error that says how to add it."""
    with pytest.raises(LookupError, match="AIRFLOW_CONN_NOWHERE"):
        from_url("consul://?conn_id=nowhere").resolve()


def test_secrets_are_not_shown() -> None:
    """No way of printing or copying settings shows a secret."""
    settings = from_url("consul://", {"CONSUL_HTTP_TOKEN": TOKEN, "CONSUL_HTTP_AUTH": f"u:{TOKEN}"})
    shown = [repr(settings), str(settings), f"{settings.token}", settings.shown, settings.base_url]
    assert not [text for text in shown if TOKEN in text]
    for copying in (pickle.dumps, dataclasses.asdict):
        with pytest.raises(TypeError, match="a secret is not written"):
            copying(settings)


def test_certificates_that_are_missing(tmp_path: Path) -> None:
    """A certificate that cannot be read is an error that names its file."""
    settings = from_url("consul+https://host", {"CONSUL_CACERT": str(tmp_path / "ca.pem")})
    with pytest.raises(SettingsError, match=r"ca\.pem"):
        HTTPClient(settings, shown="")


def test_every_file_of_the_ca_path_counts(tmp_path: Path) -> None:
    """CONSUL_CAPATH is a folder of certificates with any names, as it is to Consul."""
    bundle = ssl.get_default_verify_paths().openssl_cafile
    certificate = "-----BEGIN" + Path(bundle).read_text().split("-----BEGIN")[1]
    (tmp_path / "any-name.txt").write_text(certificate)
    (tmp_path / "broken.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=str(tmp_path)):
        HTTPClient(from_url("consul+https://host", {"CONSUL_CAPATH": str(tmp_path)}), shown="")
    os.remove(tmp_path / "broken.pem")  # noqa: PTH107
    HTTPClient(from_url("consul+https://host", {"CONSUL_CAPATH": str(tmp_path)}), shown="").close()


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process that has warned of nothing yet begin."""
    monkeypatch.setattr(consul_settings, "_warned", set())


def _connected(fields: dict[str, Any]) -> ConsulSettings:
    return ConsulSettings(conn_id="c").resolve(lambda _: connection(**fields))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(lambda: from_url("consul://consul.example", {"CONSUL_HTTP_TOKEN": "t"}), id="url"),
        pytest.param(lambda: from_url("consul://10.0.0.7", {"CONSUL_HTTP_TOKEN_FILE": "/t"}), id="token file"),
        pytest.param(
            lambda: from_url("consul://", {"CONSUL_HTTP_ADDR": "consul.example", "CONSUL_HTTP_TOKEN": "t"}),
            id="address",
        ),
        pytest.param(lambda: from_url("consul://consul.example", {"CONSUL_HTTP_AUTH": "a:b"}), id="login"),
        pytest.param(lambda: from_url("consul://consul.example?token_file=/t"), id="query"),
        pytest.param(lambda: _connected({"host": "consul.example", "password": "t"}), id="connection"),
    ],
)
def test_a_token_over_plain_http_is_a_risk(settings: Callable[[], ConsulSettings]) -> None:
    """A token or a login that is sent to another machine in clear is warned of, however it was configured."""
    (line,) = settings().risks()
    assert "over plain http" in line
    assert "https" in line.partition("Use ")[2]


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("consul://consul.example", {}),
        ("consul://127.0.0.1", {"CONSUL_HTTP_TOKEN": "t"}),
        ("consul://localhost", {"CONSUL_HTTP_TOKEN": "t"}),
        ("consul://[::1]:8500", {"CONSUL_HTTP_TOKEN": "t"}),
        ("consul+unix:///run/consul.sock", {"CONSUL_HTTP_TOKEN": "t"}),
        ("consul://", {"CONSUL_HTTP_ADDR": "unix:///run/consul.sock", "CONSUL_HTTP_TOKEN": "t"}),
        ("consul+https://consul.example", {"CONSUL_HTTP_TOKEN": "t"}),
        ("consul://consul.example", {"CONSUL_HTTP_TOKEN": "t", "CONSUL_HTTP_SSL": "true"}),
    ],
)
def test_what_is_no_risk(url: str, variables: dict[str, str]) -> None:
    """Nothing is said where there is no secret, where it stays on this machine, and where TLS hides it."""
    assert list(from_url(url, variables).risks()) == []


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(lambda: from_url("consul+https://consul.example?verify=false"), id="query"),
        pytest.param(lambda: from_url("consul+https://consul.example", {"CONSUL_HTTP_SSL_VERIFY": "0"}), id="variable"),
        pytest.param(lambda: from_url("consul+https://127.0.0.1?verify=false"), id="loopback"),
        pytest.param(lambda: _connected({"schema": "https", "extra": {"verify": False}}), id="connection"),
    ],
)
def test_verification_that_is_off_is_a_risk(settings: Callable[[], ConsulSettings]) -> None:
    """A certificate that is not checked is warned of, however that was configured."""
    (line,) = settings().risks()
    assert "certificate is not checked" in line


@pytest.mark.usefixtures("warned")
def test_risks_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A process warns of each risk once, when it first connects, and without the token."""
    for _ in range(3):
        store = ConsulStore(from_url("consul://consul.invalid", {"CONSUL_HTTP_TOKEN": "s3cret-token"}), timeout=0.01)
        with pytest.raises(StoreUnreachable):
            store.probe()
        store.close()
    (said,) = [record.getMessage() for record in caplog.records if "plain http" in record.getMessage()]
    assert "s3cret-token" not in caplog.text + said


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1e9", "9" * 30])
def test_max_bytes_is_a_count(text: str) -> None:
    """The limit on an answer is a number of bytes."""
    assert from_url("consul://?max_bytes=1000").max_bytes == 1000
    with pytest.raises(SettingsError, match="max_bytes"):
        from_url(f"consul://?max_bytes={text}")
