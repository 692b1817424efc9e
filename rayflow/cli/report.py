"""`rayflow report`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rayflow.analytics.database import Log
    from rayflow.analytics.reports import Report


class Format(StrEnum):
    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    JSON = "json"


class Compare(StrEnum):
    PREVIOUS = "previous"
    NONE = "none"


def register(app: typer.Typer) -> None:
    @app.command()
    def report(
        since: Annotated[
            str, typer.Option(metavar="TIME", help="Where it begins: a span such as 90m, 12h, 1d, 2w, or a time.")
        ] = "1d",
        until: Annotated[
            str | None, typer.Option(metavar="TIME", help="Where it ends, likewise.", show_default="now")
        ] = None,
        compare: Annotated[Compare, typer.Option(help="With the period of the same length before it.")] = (
            Compare.PREVIOUS
        ),
        output: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.TEXT,
        out: Annotated[
            Path | None, typer.Option(help="File to write instead of printing it.", show_default=False)
        ] = None,
        state: Annotated[Path, typer.Option(help="State folder of the system.")] = Path(".rayflow"),
        events: Annotated[
            Path | None,
            typer.Option(help="Folder of the event log, where storage.events moved it.", show_default=False),
        ] = None,
    ) -> None:
        """Say how the workflow did: figures, trends, tables, and what to change.

        Exits with 5 when damaged files of the log had to be left out; the report names them.
        """
        import asyncio
        from datetime import UTC, datetime

        from rayflow.analytics import kpis
        from rayflow.analytics.database import open_log
        from rayflow.analytics.reports import build
        from rayflow.app.asked_log import of_log
        from rayflow.errors import Exit

        asked = kpis.period(since, until, datetime.now(UTC))
        with open_log(events or state / "events") as log:
            answers = build(of_log(log), asked, compare=compare is Compare.PREVIOUS, unreadable=lambda: _left_out(log))
            found = asyncio.run(answers)
        text = _written(found, output)
        if out is None:
            typer.echo(text, nl=False)
        else:
            out.write_text(text, encoding="utf-8")
            typer.echo(f"wrote {out}", err=True)
        if found.unreadable:
            raise typer.Exit(Exit.PARTIAL)


def _left_out(log: Log) -> dict[str, str]:
    return {str(path): reason for path, reason in log.unreadable.items()}


def _written(report: Report, output: Format) -> str:
    import msgspec

    from rayflow.analytics.reports import markdown, page, text

    match output:
        case Format.TEXT:
            return text.to_text(report)
        case Format.MARKDOWN:
            return markdown.to_markdown(report)
        case Format.HTML:
            return page.to_html(report)
        case Format.JSON:
            return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"
