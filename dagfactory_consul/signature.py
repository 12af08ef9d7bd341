"""The signature of a deployment's head. It keeps a writer of the store from deciding which version is deployed.

The key is derived from Airflow's fernet key, which the DAG processors of one Airflow share, and writers of the store do
not have.
"""

from __future__ import annotations

import hmac
from typing import NamedTuple

_LABEL = b"dagfactory-consul head"
"""The purpose of the derived key, by which it differs from every other key that is derived from the fernet key."""


class Signer(NamedTuple):
    """Signs with the first key and accepts the signature of any, as Airflow does with its fernet keys.

    Without keys nothing is signed, and everything counts as signed.
    """

    keys: tuple[bytes, ...] = ()

    def sign(self, data: bytes) -> str | None:
        """Return the signature in hex; None without a key."""
        return hmac.digest(self.keys[0], data, "sha256").hex() if self.keys else None

    def is_good(self, data: bytes, signature: object) -> bool:
        """Say whether one of the keys has signed the data."""
        if not self.keys:
            return True
        text = signature.encode("utf-8", "replace") if isinstance(signature, str) else b""
        return any(hmac.compare_digest(hmac.digest(key, data, "sha256").hex().encode(), text) for key in self.keys)


def signer_of(fernet_keys: str) -> Signer:
    """Return the signer for a value of `[core] fernet_key`: keys separated by commas, of which the first one signs."""
    return Signer(tuple(_derived(key) for each in fernet_keys.split(",") if (key := each.strip())))


def signer_of_airflow() -> Signer:
    """Return the signer of this Airflow; without keys if it has none. Imports Airflow's configuration."""
    from airflow.configuration import conf

    return signer_of(conf.get("core", "fernet_key", fallback="") or "")


def _derived(key: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256  # a task's start needs none of it
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_LABEL).derive(key.encode())
