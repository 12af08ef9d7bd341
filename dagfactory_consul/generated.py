"""What a generated DAG file calls: its specs become DAGs. Nothing is read but the builders' code."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Collection, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .builders import DRAINING, build_dag
from .errors import BuilderError, BuildError
from .registry import registry
from .runtime import PARSING_DAG_ID
from .spec import DagSpec
from .time_limit import TenantsShare, share_of_parse

if TYPE_CHECKING:
    from airflow.sdk import DAG

log = logging.getLogger(__name__)


def emit_from(namespace: MutableMapping[str, Any], file: str, *, code: str | None) -> None:
    """Put the DAGs of a JSON file that stands beside a generated file into that file's namespace, as `emit` does."""
    content = json.loads((Path(namespace["__file__"]).parent / file).read_text())
    _emit(namespace, code, content["dags"])


def emit(namespace: MutableMapping[str, Any], *, code: str | None, dags: str) -> None:
    """Put a generated file's DAGs into its namespace: all of them at a parse, the one that a task belongs to elsewhere.

    What stands here has passed the preflight. Should a DAG fail all the same it is left out, and the error logged: a
    file that raises loses all its DAGs, and is only right to where there are no others.

    Args:
        namespace: `globals()` of the file.
        code: where the builders' code stands, relative to the bundle; None where they are installed.
        dags: the placements, as JSON.

    Raises:
        BuilderError, BuildError: no DAG of the file, or not the one that a task needs, can be built.
    """
    _emit(namespace, code, json.loads(dags))


def _emit(namespace: MutableMapping[str, Any], code: str | None, dags: Collection[dict[str, Any]]) -> None:
    # The file stands in a folder of the bundle, which a worker and the processor have in different places.
    root = Path(namespace["__file__"]).parent.parent / code if code else None
    wanted = os.environ.get(PARSING_DAG_ID)
    failed: Exception | None = None
    built = 0
    share = _share(dags)
    for fields in dags:
        dag_id, tenant = fields["spec"]["dag_id"], fields["spec"].get("tenant")
        if wanted and dag_id != wanted:
            continue
        if reason := share.why_over(tenant):
            log.error("%s is left out: %s", dag_id, reason)
            continue
        began = time.monotonic()
        try:
            namespace[dag_id] = _build(fields, root)
            built += 1
            share.add(tenant, time.monotonic() - began)
        except (BuilderError, BuildError) as error:
            log.exception("%s was checked before, and cannot be built now", dag_id)
            failed = error
    if failed is not None and not built:
        raise failed  # there is nobody here whom it could harm, and Airflow shows it


def _share(dags: Collection[dict[str, Any]]) -> TenantsShare:
    """Return what one tenant's DAGs may take together: in a file of its own as long as they like."""
    is_shared = len({fields["spec"].get("tenant") for fields in dags}) > 1
    return TenantsShare(share_of_parse() if is_shared else math.inf)


def _build(fields: dict[str, Any], root: Path | None) -> DAG:
    # As `release.placement_of` reads it; a task's start has no time for all that comes with that.
    spec = DagSpec.from_json(fields["spec"])
    definition = registry.load_one(spec.builder, fields["origin"], root)
    return build_dag(definition, spec, draining=fields.get("state") == DRAINING, refused=fields.get("refused", 0.0))
