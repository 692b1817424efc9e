"""`rayflow alerts`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rayflow.cli.options import Format, Output


def register(app: typer.Typer) -> None:
    @app.command()
    def alerts(
        since: Annotated[
            str, typer.Option(metavar="TIME", help="Raised since then: a span such as 90m, 12h, 1d, 2w, or a time.")
        ] = "7d",
        open_only: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
        output: Output = Format.TABLE,
        state: Annotated[Path, typer.Option(help="State folder of the system.")] = Path(".rayflow"),
        events: Annotated[
            Path | None,
            typer.Option(help="Folder of the event log, where storage.events moved it.", show_default=False),
        ] = None,
    ) -> None:
        """List the alerts that were raised, the newest first, and when they were over. Needs no running system."""
        from datetime import UTC, datetime

        from rayflow.analytics import render
        from rayflow.analytics.database import open_log
        from rayflow.analytics.kpis import kpi, period

        asked = period(since, None, datetime.now(UTC))
        with open_log(events or state / "events") as log:
            found = log.query(kpi("raised").sql, {"since": asked.params["since"], "open": open_only})
        if output is Format.JSON:
            typer.echo(render.to_json(found), nl=False)
        else:
            text, _ = render.to_text(found)
            typer.echo(text if found.num_rows else "no alerts\n", nl=False)
