"""`rayflow reload`: a running system goes over to its changed workflow file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    @app.command()
    def reload(
        state: Annotated[Path, typer.Option("--state", help="State folder.")] = Path(".rayflow"),
        workflow: Annotated[
            Path | None, typer.Option("--workflow", help="Read this file instead of the one that is served.")
        ] = None,
    ) -> None:
        """Have the running system take over its changed workflow file, without failing a request.

        Exits with 3, and nothing has changed, when the file is wrong or asks for what only a restart can change.
        """
        import asyncio

        from rayflow.app.attach import reload_running

        changed = asyncio.run(reload_running(state, workflow))
        for what in ("replaced", "added", "removed"):
            if addresses := getattr(changed, what):
                typer.echo(f"{what} {', '.join(addresses)}")
        typer.echo("reloaded", err=True)
