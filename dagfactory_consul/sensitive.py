"""Values that look like a secret, and so have no place in a configuration.

A configuration is shown in Airflow's UI, kept on disks and read by everybody who may read the store's prefix. Secrets
belong in Airflow connections, and a configuration names those by connection id.

The names are those that Airflow's own masker hides (a test holds the two equal), and a few more. They are written out
here, since importing the masker imports all of Airflow, seconds that no command line or task has. Each pattern is tried
once where a word begins and has an upper limit, so that a text of any length takes linear time.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from .problems import printable

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:password|passwd|pwd|pass|passphrase|secret|token|bearer|authorization|auth_header|webhook_url|keyfile_dict"
    r"|(?:api|access|account|auth|client|encryption|master|private|service|shared|signing|ssh)_?key|credentials?)$"
    r"|(?:^|_)secret_"
)
"""A name of which the end, or the word secret, says that it is one; in lower case, its words parted by `_`."""
_NAMES_A_PLACE = re.compile(
    r"(?:^|_)(?:names?|ids?|file|path|dir|arn|refs?|reference|backend|engine|mount|prefix|provider|manager|store|version"
    r"|type|kind|scope|ttl|url|uri|policy|enabled|length|count)$"
)
"""A name of which the end says that the value tells where a secret is, or of what kind."""
_BESIDE_A_SECRET = re.compile(r"(?:user|username|login|host|port|schema)$")
"""Names that are no secret's although they are below one's: `credentials: {username: …, password: …}`."""

_VENDORS = (
    r"(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[0-9A-Z]{16}",  # AWS
    r"eyJ[A-Za-z0-9_-]{8,4096}\.eyJ[A-Za-z0-9_-]{8,8192}\.",  # JSON web token, RFC 7519
    r"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22}",  # GitHub
    r"gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas)-[A-Za-z0-9_-]{20}|GR1348941[A-Za-z0-9_-]{20}",  # GitLab
    r"hv[sbr]\.[A-Za-z0-9_-]{24}",  # Vault
    r"xox[abeoprs]-[A-Za-z0-9-]{10}|xapp-\d-[A-Za-z0-9-]{10}",  # Slack
    r"hooks\.slack\.com/services/T\w{4,20}/B\w{4,20}/\w{8}|discord(?:app)?\.com/api/webhooks/\d{8,20}/\S{20}",
    r"[rs]k_(?:live|test)_[0-9A-Za-z]{16}|whsec_[A-Za-z0-9+/=]{20}",  # Stripe
    r"SG\.[\w-]{22}\.[\w-]{43}",  # SendGrid
    r"SK[0-9a-f]{32}",  # Twilio
    r"sk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_-]{32}",  # OpenAI, Anthropic
    r"npm_[A-Za-z0-9]{36}|pypi-Ag[A-Za-z0-9_-]{50}",  # package registries
    r"AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20}|GOCSPX-[\w-]{20}",  # Google
    r"do[opr]_v1_[0-9a-f]{64}|dapi[0-9a-f]{32}|hf_[A-Za-z]{30}",  # DigitalOcean, Databricks, Hugging Face
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|sq0(?:atp|csp)-[0-9A-Za-z_-]{22}",  # Shopify, Square
    r"key-[0-9a-z]{32}|[0-9a-f]{32}-us\d{1,2}|\d{8,10}:[0-9A-Za-z_-]{35}",  # Mailgun, Mailchimp, Telegram
    r"ATATT3[\w-]{20}|glsa_\w{32}|dp\.pt\.\w{40}|PMAK-[0-9a-f]{24}|lin_api_\w{32}|NRAK-[A-Z0-9]{27}",
    r"AKC[a-zA-Z0-9]{60}|AGE-SECRET-KEY-1[A-Z0-9]{20}|[MNO][a-zA-Z\d_-]{23,25}\.[\w-]{6}\.[\w-]{27}",
)
"""The formats of tokens, as their vendors document them."""
_UNLESS_REFERENCE = r"(?!\{\{|\$[{(A-Za-z]|<|\*)"
_ASSIGNED = (  # connection strings, command lines, query strings
    r"(?i:password|passwd|pwd|accountkey|sharedaccesskey|client_?secret|secret_?key|secret_?access_?key"
    r"|(?:access_?|auth_?)?token|api_?key)[\"']?\s{0,3}[=:]\s{0,3}[\"']?" + _UNLESS_REFERENCE + r"[^\s;&'\",]{6}"
)
_AUTHORIZATION = r"(?i:bearer|basic|token|apikey)\s{1,3}(?=[^\s]{0,99}\d)[A-Za-z0-9._~+/=-]{16}"  # RFC 9110
_VALUE = re.compile(
    r"(?<![A-Za-z0-9_-])(?:" + "|".join((*_VENDORS, _ASSIGNED, _AUTHORIZATION)) + ")"
    r"|-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY|PuTTY-User-Key-File-\d"  # RFC 7468
    r"|(?i:[?&](?:sig|signature|x-amz-signature|x-goog-signature)=)[A-Za-z0-9%+/=_-]{20}"  # a signed URL
    r"|://[^\s/:@]{0,255}:" + _UNLESS_REFERENCE + r"[^\s/@]{1,255}@"  # a URL with a password, RFC 3986
    r"|://[0-9a-f]{32}@"  # a DSN of Sentry
)
_REFERENCE = re.compile(
    # A template that looks up what it renders. One that holds a text itself, {{ 'hunter2' }}, is no reference.
    r"\{\{[^{}'\"]{1,500}\}\}"
    r"|\{\{\s{0,9}(?:conn|var)(?:\.\w{1,60}){1,4}\(\s{0,9}(?P<quote>['\"])[\w.-]{1,250}(?P=quote)\s{0,9}\)\s{0,9}\}\}"
    r"|\$\{[A-Za-z_][\w.:/-]{0,250}\}|\$[A-Z_][A-Z0-9_]{0,250}"  # the environment's
    r"|(?:vault|env|secret|secrets|ssm|sm|op|file|gcp-?sm|aws-?sm|akv|conn|k8s|ref)(?:://?|:)[\w./#@:-]{1,500}"
    r"|arn:aws[\w-]{0,20}:(?:secretsmanager|ssm):[\w:/+=.@-]{1,500}"
    r"|projects/[\w-]{1,100}/secrets/[\w/-]{1,300}"
    r"|(?:~|\.{1,2}|/(?:app|config|data|dev|etc|home|mnt|opt|root|run|secrets|srv|tmp|usr|var|vault))"
    r"(?:/[\w.@-]{1,100}){1,20}"  # a path
    r"|\W{1,8}"  # punctuation: the token of a parser
)
_CONNECTION = re.compile(r"[a-z][a-z0-9]{1,30}(?:[_-][a-z0-9]{1,30}){1,6}(?:_default)?")
"""The id of a connection, which may be below `credentials`."""


def find_secret(value: Any, path: str = "", *, named: bool = False) -> str | None:
    """Return the path (`dags.ProcessMessages.api_key`) of the first value that looks like a secret, or None.

    Args:
        value: of a document, or a part of it.
        path: of that part.
        named: whether it stands below a name that says that it is a secret; only references may stand there.
    """
    found = _find(value, _STRONG if named else _NONE)
    if found is None:
        return None
    return (path + found if path else found.removeprefix(".")) or "it"


_NONE, _WEAK, _STRONG = 0, 1, 2


def _find(value: Any, named: int) -> str | None:
    """Return where it is, from here on. The path is put together on the way back: names may be long, and many."""
    if isinstance(value, str):
        return "" if _looks_secret(value, named) else None
    if isinstance(value, dict):
        for name, each in value.items():
            below = _below(name, named)
            if (below or type(each) in _DEEP) and (found := _find(each, below)) is not None:
                return f".{printable(name, 100)}{found}"
    elif isinstance(value, list):
        for position, each in enumerate(value):
            if (found := _find(each, named)) is not None:
                return f"[{position}]{found}"
    elif named and isinstance(value, int | float) and not isinstance(value, bool):
        return ""
    return None


def _below(name: str, named: int) -> int:
    """Say how much the name of a value, and those above it, speak for a secret."""
    own, harmless = _kind(name[-100:])
    return own or (_NONE if harmless else named)


@functools.lru_cache(4096)
def _kind(name: str) -> tuple[int, bool]:
    """Return how much a name speaks for a secret, and whether it speaks against one although one is named above."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    words = re.sub(r"[^a-z0-9]+", "_", words).strip("_").rstrip("0123456789").rstrip("_")
    if _NAMES_A_PLACE.search(words) and not words.endswith("webhook_url"):
        return _NONE, True
    if _SECRET_NAME.search(words):
        return (_WEAK if words.endswith(("credential", "credentials")) else _STRONG), False
    return _NONE, bool(_BESIDE_A_SECRET.search(words))


def explain_secret(where: str) -> str:
    """Say what to do with what looks like a secret. The value itself is not repeated."""
    return (
        f"{where} looks like a secret: keep it in an Airflow connection, and write that connection's id here, under a "
        "name that ends in conn_id"
    )


_DEEP = (str, dict, list)


def _looks_secret(value: str, named: int) -> bool:
    if not value or _REFERENCE.fullmatch(value) or (named == _WEAK and _CONNECTION.fullmatch(value)):
        return False
    return named > _NONE or (len(value) > 12 and bool(_VALUE.search(value)))
