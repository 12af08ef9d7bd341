"""What looks like a secret, and so has no place in a configuration.

A configuration is shown in Airflow's UI, kept on disks and read by everybody who may read the store's prefix. Secrets
belong in Airflow connections, and a configuration names those by connection id.
"""

from __future__ import annotations

import re
from typing import Any

_NAME = re.compile(
    r"(?:^|[_\-.])(?i:password|passwd|pwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)$"
    r"|(?<=[a-z0-9])(?:Password|Passwd|Pwd|Passphrase|Secret|Token|ApiKey|AccessKey|PrivateKey|Credentials?)$"
)
_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"  # PEM, RFC 7468
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS access key id
    r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\."  # JSON web token, RFC 7519
    r"|\bgh[pousr]_[A-Za-z0-9]{36}\b"  # GitHub
    r"|\bglpat-[A-Za-z0-9_-]{20}\b"  # GitLab
    r"|\bhvs\.[A-Za-z0-9_-]{24,}"  # Vault
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"  # Slack
    # A scheme has 30 letters at most: without an end each letter of a long word would begin another search.
    r"|(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,29}://[^\s/:@]{0,255}:[^\s/@]{1,255}@"  # a URL with a password, RFC 3986
)
_REFERENCE = re.compile(r"\{\{.*\}\}", re.DOTALL)
"""A template that Airflow renders when the task runs, such as {{ conn.billing.password }}, holds no secret itself."""


def find_secret(value: Any, path: str = "", *, named: bool = False) -> str | None:
    """Return the path (`dags.ProcessMessages.api_key`) of the first value that looks like a secret, or None.

    Args:
        value: of a document, or a part of it.
        path: of that part.
        named: whether it stands below a name that says that it is a secret; only a connection's id may stand there.
    """
    if isinstance(value, str):
        return (path or "it") if _looks_secret(value, named=named) else None
    if isinstance(value, dict):
        for name, each in value.items():
            below = bool(_NAME.search(name)) or (named and not name.endswith("conn_id"))
            if (below or type(each) in _DEEP) and (found := find_secret(each, _join(path, name), named=below)):
                return found
    elif isinstance(value, list):
        for position, each in enumerate(value):
            if found := find_secret(each, f"{path}[{position}]", named=named):
                return found
    elif named and isinstance(value, int | float) and not isinstance(value, bool):
        return path
    return None


def explain_secret(where: str) -> str:
    """Say what to do with what looks like a secret. The value itself is not repeated."""
    return f"{where} looks like a secret: keep it in an Airflow connection, and write that connection's id here"


_DEEP = (str, dict, list)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _looks_secret(value: str, *, named: bool) -> bool:
    if not value or _REFERENCE.fullmatch(value):
        return False
    return named or (len(value) > 12 and bool(_VALUE.search(value)))
