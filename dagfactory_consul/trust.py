"""Trust: whether a processor may take over what the store says is deployed."""

from __future__ import annotations

from collections.abc import Callable

from .errors import SettingsError
from .head import Head, Heads
from .settings import Settings
from .stores.base import Entry


class Trust:
    """Decides whether a head in the store was written by a DAG processor of this Airflow.

    A signed head is. A head without a good signature (of this package before heads were signed, or signed with a key
    that is gone) is accepted only until this machine has seen a signed one, and only if Airflow's database has the same
    version: the name of a version is a hash of its files and code, and writers of the store do not write that database.

    Args:
        heads: reads and signs heads.
        deployed: returns the bundle's version in Airflow's database; None if there is none.
        settings: of the deployment.

    Raises:
        SettingsError: signatures are required, and Airflow has no fernet key.
    """

    def __init__(self, heads: Heads, deployed: Callable[[], str | None], settings: Settings) -> None:
        self.heads = heads
        self._deployed = deployed
        self._settings = settings
        if settings.require_signature and not heads.signer.keys:
            raise SettingsError(
                "AIRFLOW__DAGFACTORY_CONSUL__REQUIRE_SIGNATURE is set, and Airflow has no key to sign with: set "
                "AIRFLOW__CORE__FERNET_KEY, to the same key for all components"
            )
        self._has_seen = heads.has_signed()

    def refusal(self, entry: Entry, head: Head, known: Head | None) -> str | None:
        """Return why a head that the store holds is not taken over; None if it is.

        Args:
            entry: the store's.
            head: what the entry says.
            known: what this machine has deployed.
        """
        if self.heads.is_signed(entry, head):
            self._has_seen = bool(self.heads.signer.keys)
            return None
        why = self._doubt(head) if head != known else None
        return self._said(head, why) if why is not None else None

    def _doubt(self, head: Head) -> str | None:
        """Return why a head that is not signed is not accepted; None if it is."""
        if self._has_seen:
            return "this machine has seen a signed one before"
        if self._settings.require_signature:
            return "AIRFLOW__DAGFACTORY_CONSUL__REQUIRE_SIGNATURE is set"
        try:
            version = self._deployed()
        except Exception as error:  # noqa: BLE001  # whatever the database says, it does not confirm the head
            return f"Airflow's database does not say which version it has ({error})"
        if version == head.version:
            return None
        return f"Airflow's database has {f'version {version}' if version else 'no version'} instead"

    def _said(self, head: Head, why: str) -> str:
        where = f"{self.heads.store.url.rstrip('/')}/{self.heads.key}"
        return (
            f"{where} says that version {head.version!a:.80} is deployed, by "
            f"{head.by!a:.80}, and is not signed with this Airflow's [core] fernet_key. It is not taken over: {why}. "
            "Give all DAG processors of the deployment one fernet_key (while the key is changed, the former one behind "
            "the new one, after a comma). If they have one, see whether another Airflow uses the deployment's name "
            f"{self._settings.deployment_name!r}, and who else may write that key"
        )
