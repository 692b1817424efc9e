"""`rayflow debug`: what happened in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rayflow.cli.options import Format, Output


def register(app: typer.Typer) -> None:
    @app.command()
    def debug(
        run: Annotated[
            str,
            typer.Argument(metavar="[RUN]", help="Id of the run, or of its chat completion; without it, the last one."),
        ] = "",
        state: Annotated[Path, typer.Option(help="State folder of the system.")] = Path(".rayflow"),
        events: Annotated[
            Path | None,
            typer.Option(help="Folder of the event log, where storage.events moved it.", show_default=False),
        ] = None,
        output: Output = Format.TABLE,
    ) -> None:
        """Tell the story of one run: who was chosen and why, who was asked when, what failed, where the time went."""
        import json

        from rayflow.analytics.database import open_log
        from rayflow.analytics.story import read_story
        from rayflow.app.feedback import COMPLETION
        from rayflow.app.story_view import as_json, as_text

        with open_log(events or state / "events") as log:
            story = read_story(log, run.removeprefix(COMPLETION))
            for path, reason in log.unreadable.items():
                typer.echo(f"warning: {path} is left out: {reason}", err=True)
        typer.echo(json.dumps(as_json(story), indent=2) if output is Format.JSON else as_text(story))
