"""The defaults' document: the layer under every tenant's document in one environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .checks import explain_invalid, explain_templates_of_defaults
from .errors import DocumentError
from .models import explain
from .problems import Problem
from .tenants import Defaults, merge

if TYPE_CHECKING:
    from .registry import Registry
    from .snapshot import Document


def read(document: Document, registry: Registry, environment: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return the defaults with the environment's layer over them, and the problems of single entries.

    Raises:
        DocumentError: the document cannot be used.
    """
    reason = document.malformed or explain_invalid(document, Defaults)
    if reason := reason or explain_templates_of_defaults(document.value, registry):
        raise DocumentError(reason, key=document.key)
    content = layered(document.value, environment)
    if not (registry or registry.problems):  # there is nobody who could take an entry
        return content, []
    reasons = (_explain_entry(builder, entry, registry) for builder, entry in (content.get("dags") or {}).items())
    return content, [Problem(document.key, reason) for reason in reasons if reason]


def layered(content: Mapping[str, Any], environment: str) -> dict[str, Any]:
    """Lay an environment's layer over the rest of the defaults."""
    rest = dict(content)
    environments = rest.pop("environments", None) or {}
    return merge(rest, environments.get(environment) or {})


def _explain_entry(builder: str, entry: Mapping[str, Any], registry: Registry) -> str | None:
    """Say why an entry of the defaults has no builder, or one that takes it from nobody; None if one may take it."""
    if builder not in registry:
        return f"dags.{builder}: {registry.explain_unknown(builder)}"
    model = registry[builder].config
    try:
        model.model_validate({name: value for name, value in entry.items() if name not in ("name", "enabled")})
    except ValidationError as error:
        return explain(error, model, f"dags.{builder}", partial=True) or None
    except Exception:  # noqa: BLE001  # a model that breaks says so for each DAG
        return None
    return None
