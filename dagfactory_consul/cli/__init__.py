"""The commands, one in each module, with the same settings as the DAG files."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from ..errors import DagFactoryError
from .accept import accept
from .delete import delete
from .get import get
from .list_keys import list_keys
from .plan import plan
from .push import push
from .put import put
from .status import status
from .terminal import fail

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(push)
app.command()(put)
app.command()(get)
app.command("list")(list_keys)
app.command()(delete)
app.command()(plan)
app.command()(status)
app.command()(accept)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Tenants' DAGs from a configuration service. Settings: AIRFLOW__DAGFACTORY_CONSUL__… or airflow.cfg."""


def main() -> None:
    """Run the commands. An error of this package is one line on standard error, and exit code 2."""
    try:
        app()
    except DagFactoryError as error:
        fail(str(error))
