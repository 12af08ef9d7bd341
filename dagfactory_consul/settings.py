"""The settings, by Airflow's convention: `[dagfactory_consul]` in airflow.cfg, or `AIRFLOW__DAGFACTORY_CONSUL__…`.

Where Airflow is imported its own configuration is asked; where it is not, the environment and
`$AIRFLOW_HOME/airflow.cfg` are read here. No setting holds a secret, so there are no `_CMD` and `_SECRET` variants.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import SettingsError, near_miss

SECTION = "dagfactory_consul"
NO_PATH = Path()
_NOT_NEGATIVE = (
    "ttl",
    "timeout",
    "drain_time",
    "import_timeout",
    "build_timeout",
    "build_memory",
    "guard_minimum",
    "history_count",
    "history_age",
    "history_bytes",
    "own_files",
    "max_document_bytes",
    "max_dags",
)
_PREFIX = f"AIRFLOW__{SECTION.upper()}__"


def _setting(default: Any, about: str, *, example: str | None = None) -> Any:
    return field(default=default, metadata={"about": about, "example": example})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings and their defaults: the one table of them, of which provider info and documentation are made."""

    store: str = _setting(
        "consul://",
        "Where the configuration is read: consul:// (as the CONSUL_HTTP_* variables say), consul://host:port, "
        "consul://?conn_id=…, a path to a folder of YAML or JSON files, variable://name; several, separated by commas, "
        "are a chain in which the next answers when the one before it cannot be reached.",
        example="consul://consul.service:8500",
    )
    prefix: str = _setting("dagfactory/", "The prefix of all keys in the store.")
    environment: str = _setting(
        "production", "Whose layer of the defaults applies, and what builders see.", example="staging"
    )
    builders: tuple[str, ...] = _setting(
        (),
        "Where builders are: modules, packages or folders, separated by commas. Those that installed distributions "
        "bring by the entry point dagfactory_consul.builders are known without it.",
        example="builders",
    )
    ttl: float = _setting(30.0, "Seconds that a snapshot of the store counts as current.")
    timeout: float = _setting(2.0, "Seconds that one read of the store may take in all, its retries included.")
    state_dir: Path = _setting(  # noqa: RUF009  # a field like the others
        NO_PATH,
        "The folder for what is known locally: the last good snapshot, and what is in force. It has to outlive the "
        "processor. Default: dagfactory-consul in AIRFLOW_HOME.",
        example="/var/lib/dagfactory-consul",
    )
    fallback: str = _setting(
        "variable://dagfactory",
        "The store that is asked when the first one cannot be reached and nothing good is on disk; empty: none.",
    )
    fallback_on_missing: bool = _setting(
        default=False,
        about="Whether a project's key that is missing in the store is looked up in the fallback: for variable://name "
        "in the Airflow Variable <name>_<project>_<key>.",
    )
    drain_time: float = _setting(86_400.0, "Seconds that a DAG which is switched off may stay for its unfinished runs.")
    guard_share: float = _setting(0.2, "The share of the DAGs that may vanish at once because their keys are missing.")
    guard_minimum: int = _setting(2, "How many DAGs may vanish at once in any case, whatever the share says.")
    max_document_bytes: int = _setting(
        65_536,
        "Bytes that one document may have (of the list `tenants`: each tenant in it). A larger one is a problem of its "
        "own, and the last good one stays.",
    )
    max_dags: int = _setting(
        100, "How many DAGs one tenant may have. More are a problem of that tenant, whose last good DAGs stay."
    )
    deployment: str = _setting(
        "",
        "What the processors of one Airflow call themselves: they agree with one another under this name, beside the "
        "prefix. Two Airflows that read the same prefix need two names. Default: the environment.",
        example="eu-production",
    )
    history: str = _setting(
        "",
        "Where bundle mode keeps its versions, so that any worker can run a task as its run began: a store's URL or an "
        "fsspec URL (s3://…, gs://…). Default: beside the prefix in the store.",
        example="s3://bucket/dagfactory",
    )
    history_count: int = _setting(
        500, "How many versions the history keeps, besides those in use by an unfinished run or a current DAG."
    )
    history_bytes: int = _setting(
        268_435_456,
        "Bytes that the history may take in the store: Consul keeps all of them in memory. The oldest versions go "
        "first; those in use stay, however large.",
    )
    history_age: float = _setting(
        2_592_000.0, "Seconds that a version is kept in the history after it went out of force, unless it is in use."
    )
    require_signature: bool = _setting(
        default=False,
        about="Bundle mode: whether DAG processors refuse a deployment's head that is not signed with Airflow's "
        "fernet key in any case. Unless set, one that has never seen a signed one accepts the version "
        "that Airflow's database has.",
    )
    own_files: int = _setting(
        200, "Bundle mode: how many tenants have a DAG file of their own, at most; all others share files."
    )
    shards: int = _setting(128, "Bundle mode: how many files there are for tenants to share, at most.")
    import_timeout: float = _setting(10.0, "Seconds that one module of builders may take to import.")
    build_memory: int = _setting(
        1024,
        "MiB of memory that trying a change may take in the child process, over what the DAG processor has; 0 for no "
        "limit. The plan of 10,000 tenants takes 50. A tenant whose configuration takes more is a problem of its own.",
    )
    build_timeout: float = _setting(5.0, "Seconds that one DAG may take to build, and one document to plan.")

    @classmethod
    def read(cls, **overrides: Any) -> Settings:
        """Read the settings; `overrides` win over them, and None leaves a setting as it is.

        Raises:
            SettingsError: a setting is unknown, or its value cannot be understood; the message names both.
        """
        known = {each.name: each for each in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in _configured(known).items():
            values[name] = _convert(name, text, known[name].default)
        for name, value in overrides.items():
            if name not in known:
                raise SettingsError(f"unknown setting {name!r}{near_miss(name, known)}")
            if value is not None:
                values[name] = _convert(name, value, known[name].default)
        values["state_dir"] = values.get("state_dir") or _airflow_home() / "dagfactory-consul"
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:  # written so for nan
                raise SettingsError(f"{_where(name)} is {getattr(self, name)}, and must be 0 or more")
        if not 0 <= self.guard_share <= 1:
            raise SettingsError(f"{_where('guard_share')} is {self.guard_share}: a share is between 0 and 1")
        if not self.prefix.strip("/"):
            raise SettingsError(f"{_where('prefix')} is empty: the whole store would be read")
        if not 1 <= self.shards <= 1000:
            raise SettingsError(f"{_where('shards')} is {self.shards}, and must be between 1 and 1,000")

    @property
    def deployment_name(self) -> str:
        """The deployment's name, or the environment's where it has none. Raises SettingsError: it cannot be a key."""
        name = self.deployment or self.environment
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
            raise SettingsError(
                f"{_where('deployment')} is {name!r}, and part of a key: it takes 1 to 63 letters, digits, _, - and ."
            )
        return name

    @classmethod
    def describe(cls) -> Iterator[tuple[str, str, str, str | None, str]]:
        """Yield name, type, default (as text), example and meaning of every setting."""
        for each in fields(cls):
            default = "" if each.default in ((), NO_PATH, MISSING) else str(each.default)
            kind = {bool: "boolean", int: "integer", float: "float"}.get(type(each.default), "string")
            yield each.name, kind, default, each.metadata["example"], each.metadata["about"]


def _where(name: str) -> str:
    return f"{_PREFIX}{name.upper()}"


def _convert(name: str, value: Any, default: Any) -> Any:
    """Turn a setting's text into the type of its default; what has that type already stays."""
    if not isinstance(value, str):
        return tuple(map(str, value)) if isinstance(default, tuple) else value
    text = value.strip()
    convert: Callable[[str], Any] = str
    if isinstance(default, bool):
        convert = _boolean
    elif isinstance(default, int | float):
        convert = type(default)
    elif isinstance(default, tuple):
        return tuple(filter(None, (each.strip() for each in text.split(","))))
    elif isinstance(default, Path):
        return Path(text).expanduser()
    try:
        return convert(text)
    except ValueError:
        kind = "true or false" if isinstance(default, bool) else "a number"
        raise SettingsError(f"{_where(name)} is {text!r}, and must be {kind}") from None


def _boolean(text: str) -> bool:
    # As Airflow's own getboolean has it.
    if text.lower() in ("t", "true", "1"):
        return True
    if text.lower() in ("f", "false", "0"):
        return False
    raise ValueError(text)


def _configured(known: Mapping[str, Any]) -> dict[str, str]:
    """Return what is configured, as text. Raises SettingsError for an unknown setting."""
    in_environment = {
        name.removeprefix(_PREFIX).lower(): value for name, value in os.environ.items() if name.startswith(_PREFIX)
    }
    airflow = sys.modules.get("airflow.configuration")
    parser = airflow.conf if airflow is not None else _parse_file()
    try:
        found = {**_section_of(parser), **in_environment}
    except configparser.Error as error:
        raise SettingsError(f"section [{SECTION}] of airflow.cfg: {error}") from error
    for name in found:
        if name not in known:
            raise SettingsError(f"unknown setting {name!r} in section [{SECTION}]{near_miss(name, known)}")
    # An empty value says nothing, save where the table gives it a meaning.
    return {name: os.path.expandvars(text) for name, text in found.items() if text or name == "fallback"}


def _section_of(parser: configparser.ConfigParser) -> dict[str, str]:
    """Return what the file says; nothing of what Airflow knows as defaults from this provider's info."""
    return {name: parser.get(SECTION, name) for name in parser.options(SECTION)} if parser.has_section(SECTION) else {}


def _parse_file() -> configparser.ConfigParser:
    """Read airflow.cfg, where there is one. Airflow would also import itself and all providers."""
    path = Path(os.environ.get("AIRFLOW_CONFIG") or _airflow_home() / "airflow.cfg").expanduser()
    parser = configparser.ConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # as Airflow has it: names are in lower case
    try:
        parser.read(path)
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    return parser


def _airflow_home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
