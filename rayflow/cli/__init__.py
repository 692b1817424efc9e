"""The command line: parse, call app, analytics or batch, set the exit code.

Modules of this room import only typer and the standard library at the top; a command imports its work when it runs.
That keeps `rayflow --help` fast. Data goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import sys

import typer

from rayflow.cli import (
    alerts,
    batch,
    cache,
    config,
    context,
    debug,
    doctor,
    feedback,
    init,
    memory,
    model,
    query,
    replay,
    report,
    route,
    scale,
    serve,
    sessions,
    simulate,
    state,
    users,
    version,
)

app = typer.Typer(
    name="rayflow",
    help="Serve, batch and query multi-agent chat workflows on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for topic in (
    serve,
    batch,
    replay,
    query,
    debug,
    report,
    alerts,
    feedback,
    sessions,
    users,
    memory,
    state,
    scale,
    route,
    simulate,
    doctor,
    init,
    config,
    context,
    cache,
    model,
    version,
):
    topic.register(app)


def main() -> None:
    """Entry point of the `rayflow` command."""
    try:
        app()
    except Exception as error:
        from rayflow.cli.exits import report

        sys.exit(report(error))
