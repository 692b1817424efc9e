"""`rayflow init`: a workflow file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    @app.command()
    def init(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")] = Path("rayflow.yaml"),
        force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
    ) -> None:
        """Write a commented workflow file that serves as it stands.

        Exits with 4 when the file exists already.
        """
        from rayflow.app.durable import replacing
        from rayflow.config.template import STARTER
        from rayflow.errors import Conflict

        if file.exists() and not force:
            raise Conflict(f"{file} exists already: choose another name, or replace it with --force", file=str(file))
        with replacing(file) as draft:
            draft.write_text(STARTER, encoding="utf-8")
        typer.echo(f"wrote {file}; start it with: rayflow serve {file}", err=True)
