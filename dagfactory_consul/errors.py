"""Every error this package raises, and the near miss that goes with a wrong name.

DagFactoryError
├── SettingsError              a setting is unknown or cannot be understood
├── FolderError                a folder belongs to another user, or every user may write it
├── StoreError                 a store did not do what it was asked
│   ├── StoreUnreachable       refused, timed out, broke off, or answered with a server's error
│   ├── StoreLeaderless        Consul answers, but has no leader or its copy is too old
│   ├── StoreDenied            the token may not read or write there
│   ├── StoreFiltered          the answer came, with a part of it hidden by access rules
│   └── StoreRejected          the request can never succeed: too large, malformed, read-only
├── SnapshotError              a local copy cannot be used: damaged, of another format
├── VersionGoneError          a run's version of the bundle is no longer in the history
├── PointerRefusedError        the store's word on what is deployed is not signed, and there is no other
├── NothingKnownError          no store answers, and there is no local copy: never "no DAGs"
│   └── NotYetError            nothing is deployed yet, and what has to happen first is under way
├── DocumentError              a tenant, flag, project or default is not what it should be
│   └── BrokenOffError         work on it took too long, or has ended a process before
├── BuilderError               a builder is defined wrongly, cannot be imported, or is not known
├── BuildError                 a builder could not turn its configuration into a DAG
│   └── NotTriedError          there was no time left to build it: it stays as it was
├── UnknownKeyError            a configuration has no such key
└── ProblemsError              what `load_problems()` raises for Airflow's list of import errors
"""

from __future__ import annotations

from collections.abc import Iterable


class DagFactoryError(Exception):
    """The root of all errors of this package."""


class SettingsError(DagFactoryError):
    """A setting is unknown or has a value that cannot be understood."""


class FolderError(DagFactoryError):
    """A folder on this machine belongs to another user, or every user may write it."""


class StoreError(DagFactoryError):
    """A store did not do what it was asked.

    `store` is its address for humans: it holds no credentials.
    """

    def __init__(self, message: str, *, store: str) -> None:
        super().__init__(f"{store}: {message}")
        self.store = store


class StoreUnreachable(StoreError):
    """Refused, timed out, broke off, or answered with a server's error until the deadline."""


class StoreLeaderless(StoreError):
    """The store answers, but cannot say what is current: no leader, or a copy that is too old."""


class StoreDenied(StoreError):
    """The token in use may not read or write there."""


class StoreFiltered(StoreError):
    """The answer came, but access rules hid a part of it: what is absent may exist."""


class StoreRejected(StoreError):
    """The request can never succeed as it is: too large, malformed, or the store is read-only."""


class SnapshotError(DagFactoryError):
    """A local copy cannot be used: damaged, or written in another format."""


class VersionGoneError(DagFactoryError):
    """A version of the bundle, or what it consists of, is not in the history any more, or never was."""


class PointerRefusedError(DagFactoryError):
    """The store's word on what is deployed is not signed by a processor of this Airflow, and there is no other."""


class NothingKnownError(DagFactoryError):
    """No store answers and there is no local copy. An error, never an empty set of DAGs."""


class NotYetError(NothingKnownError):
    """Nothing is deployed on this machine yet, and what has to happen first is under way: no fault."""


class DocumentError(DagFactoryError):
    """A document is not what it should be. `key` says which one, relative to the prefix, and `reason` what is wrong."""

    def __init__(self, reason: str, *, key: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


class BrokenOffError(DocumentError):
    """Work on a document took too long, or has ended a process before."""


class BuilderError(DagFactoryError):
    """A builder is defined wrongly, cannot be imported, or is not known by that name."""


class BuildError(DagFactoryError):
    """A builder could not turn its configuration into a DAG."""


class NotTriedError(BuildError):
    """There was no time to try a DAG. It stays as it was until there is."""


class UnknownKeyError(DagFactoryError, AttributeError, KeyError):
    """A configuration has no such key.

    Both an AttributeError and a KeyError, so that `getattr(config, name, default)` and `config[name]` behave as they
    do elsewhere in Python.
    """

    __str__ = Exception.__str__  # KeyError's own shows the repr of the message


class ProblemsError(DagFactoryError):
    """The problems of the tenants, as Airflow's list of import errors shows them."""


_COMPARED = 100
"""How many characters of a name are compared, and ten times as many names: a document's writer chooses both."""


def _short(names: list[str]) -> list[str]:
    return [each for each in names[: _COMPARED * 10] if len(each) <= _COMPARED]


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` for the nearest of the known names, else `; known: …`, else nothing."""
    import difflib  # only an error pays for it

    names = sorted(known)
    # Comparing two texts takes quadratic time in their lengths.
    if close := difflib.get_close_matches(name[:_COMPARED], _short(names), n=2, cutoff=0.6):
        return ", did you mean " + " or ".join(repr(each) for each in close) + "?"
    if not names:
        return ""
    shown = ", ".join(each[:_COMPARED] for each in names[:8])
    return f"; known: {shown}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def describe(error: BaseException) -> str:
    """Say what somebody's code has raised; of memory that has run out, also which setting bounds it."""
    said = f"{type(error).__name__}: {error}" if str(error) or not isinstance(error, MemoryError) else "MemoryError"
    if isinstance(error, MemoryError):
        said += " (the setting AIRFLOW__DAGFACTORY_CONSUL__BUILD_MEMORY says how much a change may take)"
    return said
