"""A second builder, in a module of its own: what befalls its code must not touch the first one's DAGs."""

from __future__ import annotations

from dagfactory_consul import builder

from .jobs import Job

CODE = "one"
"""Tests write another word here, as a new version of the code."""


@builder("Other", flags={"parser": "v1"})
class Other(Job):
    """Does the same, and tells by which code."""

    def tags(self) -> list[str]:
        return [*super().tags(), f"code-{CODE}"]

    def built(self) -> dict[str, object]:
        return {**super().built(), "code": CODE}
