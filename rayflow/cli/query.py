"""`rayflow query`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    @app.command()
    def query(
        sql: Annotated[
            str | None, typer.Argument(metavar="SQL", help="SQL over the views events, runs and turns.")
        ] = None,
        name: Annotated[str | None, typer.Option(help="Ask a named query instead.")] = None,
        param: Annotated[
            list[str] | None, typer.Option(metavar="NAME=VALUE", help="Value for $NAME; repeatable.")
        ] = None,
        list_names: Annotated[bool, typer.Option("--list", help="List the named queries.")] = False,
        state: Annotated[Path, typer.Option(help="State folder of the system.")] = Path(".rayflow"),
        events: Annotated[
            Path | None,
            typer.Option(help="Folder of the event log, where storage.events moved it.", show_default=False),
        ] = None,
        output: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.TABLE,
        limit: Annotated[int | None, typer.Option(min=1, metavar="ROWS", help="Print so many rows at most.")] = None,
        verify: Annotated[bool, typer.Option("--verify", help="First check every page of the log for damage.")] = False,
    ) -> None:
        """Ask the event log, in SQL (DuckDB) or by the name of a query.

        Exits with 5 when damaged files had to be left out of the answer; they are named on stderr.
        """
        if [sql is not None, name is not None, list_names].count(True) != 1:
            raise typer.BadParameter("give either SQL, or --name, or --list")
        if list_names:
            _print(_catalogue(), output, limit)
            return

        from rayflow.analytics.database import open_log
        from rayflow.analytics.named import named_query
        from rayflow.errors import Exit

        values = _pairs(param or [])
        if name is not None:
            named = named_query(name)
            sql, values = named.sql, named.bind(values)
        with open_log(events or state / "events", verify) as log:
            _print(log.query(sql or "", values), output, limit)
            for path, reason in log.unreadable.items():
                typer.echo(f"warning: {path} is left out of this answer: {reason}", err=True)
            if log.unreadable:
                raise typer.Exit(Exit.PARTIAL)


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for text, (key, sign, _) in zip(given, pairs, strict=True):
        if not key or not sign:
            raise typer.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--param")
    return {key: value for key, _, value in pairs}


def _catalogue() -> pa.Table:
    import pyarrow as pa

    from rayflow.analytics.named import named_queries

    queries = named_queries().values()
    return pa.table(
        {
            "name": [query.name for query in queries],
            "params": [", ".join(f"{name}={default}" for name, default in query.params.items()) for query in queries],
            "description": [query.description for query in queries],
        }
    )


def _print(answer: pa.Table, output: Format, limit: int | None) -> None:
    import sys

    from rayflow.analytics import render

    shown = answer if limit is None else answer.slice(0, limit)
    match output:
        case Format.JSON:
            typer.echo(render.to_json(shown), nl=False)
        case Format.CSV:
            typer.echo(render.to_csv(shown), nl=False)
        case Format.TABLE if sys.stdout.isatty():
            _print_rich(shown)
        case Format.TABLE:
            typer.echo(render.to_text(shown), nl=False)
    if shown.num_rows < answer.num_rows:
        typer.echo(f"note: {shown.num_rows} of {answer.num_rows} rows; the rest is cut by --limit", err=True)


def _print_rich(answer: pa.Table) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from rayflow.analytics import render

    table = Table(box=SIMPLE_HEAD)
    for name, is_number in zip(answer.column_names, render.numeric(answer), strict=True):
        table.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in render.cells(answer):
        table.add_row(*map(Text, row))
    Console().print(table)
