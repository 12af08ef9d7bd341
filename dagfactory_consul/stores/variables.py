"""A whole tree of entries in one Airflow Variable: the fallback for when no other store answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult

from ..errors import SettingsError, StoreDenied, StoreRejected, StoreUnreachable
from .base import FOLDERS, MAX_READING_BYTES, Entry, Reading, Store


class VariableStore(Store):
    """One Airflow Variable, whose JSON is an object of entries.

        {"tenants": {"acme": {…}}, "flags": {"process-messages": true}, "projects": {…}, "defaults": {…}}

    `tenants` may also be one list, which then is the entry `tenants`. The Variable is edited where Airflow's Variables
    are (its UI, `airflow variables import`, a secrets backend); this package does not write it.

    **A missing Variable is an unreachable store, not an empty one.** Airflow says "not found" when the Variable does
    not exist, and just so when its API or a secrets backend failed, and in a process without a supervisor, which sees
    the environment's AIRFLOW_VAR_… alone. Taking that for "no tenants" would remove every DAG in force. What is really
    meant to be empty is a Variable that holds `{}`.

    How long a look-up takes is Airflow's affair: it has no deadline.

    Args:
        name: the Variable's.
        find: returns a Variable's text, None where there is none; Airflow's own look-up unless given.
    """

    def __init__(self, name: str, *, find: Callable[[str], str | None] | None = None) -> None:
        self.name = name
        self.url = f"variable://{name}"
        self._find = find or _airflow_variable

    @classmethod
    def from_url(cls, url: SplitResult, *, prefix: str, timeout: float) -> VariableStore:
        """Open what a `variable://name` URL names. A Variable is its own prefix.

        Raises:
            SettingsError: the URL names no Variable, or has more than a name.
        """
        if not url.netloc or url.path.strip("/") or url.query or url.fragment:
            raise SettingsError(f"a variable:// URL is a Variable's name and nothing else: {url.geturl()}")
        return cls(url.netloc)

    def read(self) -> Reading:
        text = self._text(self.name)
        if text is None:
            raise StoreUnreachable(
                f"Airflow gives no Variable {self.name!r}: it does not exist, or cannot be seen from this process",
                store=self.url,
            )
        entries = sorted(self._entries(text), key=lambda entry: entry.key)
        mark = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return Reading.of(entries, mark=mark, source=self.url)

    def single(self, project: str, key: str) -> Any | None:
        """Return what the single Variable `<name>_<project>_<key>` holds, for one key of a project.

        Returns:
            what its JSON says where it is JSON, else its text; None where Airflow gives no such Variable.

        Raises:
            StoreDenied: a secrets backend refuses it.
        """
        text = self._text(f"{self.name}_{project}_{key}")
        if text is None:
            return None
        try:
            return json.loads(text)
        except ValueError:
            return text

    def beside(self, name: str) -> VariableStore:
        return VariableStore(f"{self.name}-{name}", find=self._find)

    def _text(self, name: str) -> str | None:
        try:
            return self._find(name)
        except PermissionError as exc:
            raise StoreDenied(f"the Variable {name!r} may not be read: {exc}", store=self.url) from exc

    def _entries(self, text: str) -> list[Entry]:
        """Take the tree apart: each member of one of `FOLDERS` is an entry, and so is every other part."""
        if len(text) > MAX_READING_BYTES:
            message = f"the Variable {self.name!r} has {len(text):,} characters; {MAX_READING_BYTES:,} are read at most"
            raise StoreRejected(message, store=self.url)
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise StoreRejected(f"the Variable {self.name!r} is not JSON: {exc}", store=self.url) from None
        if not isinstance(tree, dict):
            raise StoreRejected(
                f"the Variable {self.name!r} holds a {type(tree).__name__}, not an object such as "
                '{"tenants": {"acme": {…}}}',
                store=self.url,
            )
        entries = []
        for part, value in tree.items():
            if part in FOLDERS and isinstance(value, dict):
                entries += [Entry(f"{part}/{name}", _bytes(member)) for name, member in value.items()]
            else:
                entries.append(Entry(part, _bytes(value)))
        return entries


def _bytes(value: Any) -> bytes:
    """Write a part of the tree as another store would hold it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _airflow_variable(name: str) -> str | None:
    """Return the text of Airflow's Variable of that name; None where Airflow gives none.

    Raises:
        PermissionError: a secrets backend refuses it.
    """
    from airflow.sdk import Variable

    text: str | None = Variable.get(name, default=None)
    return text
