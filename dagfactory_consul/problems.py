"""A problem: what is wrong with one document, tenant or DAG, said so that somebody can mend it."""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """What is wrong, where, and whom it touches. It harms nothing beyond what it names."""

    key: str
    """The document that has to be mended, relative to the prefix (`tenants/acme`), or the builder's module."""
    message: str
    """What is wrong there, with the near miss and the next step."""
    tenant: str | None = None
    """The tenant that keeps its last good DAGs because of it; None where no single tenant is concerned."""
    dag_id: str | None = None
    """The one DAG concerned; None where it is all of the tenant's."""

    def __str__(self) -> str:
        where = self.key + (f" (DAG {self.dag_id})" if self.dag_id else "")
        return f"{where}: {self.message}"
