"""The commands, one in each module, with the same settings as the DAG files."""

from __future__ import annotations

import typer

from ..errors import DagFactoryError
from .accept import accept
from .plan import plan
from .push import push
from .put import put
from .status import status
from .terminal import fail

app = typer.Typer(
    help="Tenants' DAGs from a configuration service. Settings: AIRFLOW__DAGFACTORY_CONSUL__… or airflow.cfg.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (push, put, plan, status, accept):
    app.command()(command)


def main() -> None:
    """Run the commands. An error of this package is one line on standard error, and exit code 2."""
    try:
        app()
    except DagFactoryError as error:
        fail(str(error))
