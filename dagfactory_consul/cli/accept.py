"""The command `accept`: let go what is held."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from ..errors import StoreError
from .status import deployments
from .terminal import fail, settings_of


def accept(
    version: Annotated[str, typer.Argument(help="The held snapshot's version, as `status` shows it.")],
    *,
    show: Annotated[bool, typer.Option("--show", help="Only show which keys and DAGs would go.")] = False,
) -> None:
    """Let go what a held snapshot lacks: the keys that are missing from it, and their DAGs."""
    from ..runtime import client_of

    settings = settings_of()
    client = client_of(settings)
    found = [client.about().get("held")]
    with contextlib.suppress(StoreError):  # what this machine holds is known all the same
        found += [each["held"] for each in deployments(settings)]
    held = {each["version"]: each for each in found if each}
    if not held:
        fail("nothing is held")
    if version not in held:
        known = "; ".join(f"{each}: {one['reason']}" for each, one in held.items())
        fail(f"{version!r} is not what is held, but {known}")
    for what in ("missing", "dags"):
        for name in held[version].get(what, ()):
            print(f"- {name}")
    if not show:
        client.accept(version)
        print(f"Accepted: {held[version]['reason']}. The next refresh lets them go.")
