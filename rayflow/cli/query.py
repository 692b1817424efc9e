"""`rayflow query`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from rayflow.analytics.named import NamedQuery
    from rayflow.app.answers import Answers

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
HINT = "give SQL, or --name, or --list, or --shell"


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


def register(app: typer.Typer) -> None:
    @app.command()
    def query(
        sql: Annotated[
            str | None,
            typer.Argument(metavar="SQL", help="SQL over the views; without it, what stdin says."),
        ] = None,
        name: Annotated[str | None, typer.Option(help="Ask a named query instead.")] = None,
        param: Annotated[
            list[str] | None, typer.Option(metavar="NAME=VALUE", help="Value for $NAME; repeatable.")
        ] = None,
        list_names: Annotated[bool, typer.Option("--list", help="List the named queries.")] = False,
        shell: Annotated[bool, typer.Option("--shell", help="Ask in a shell; so does no SQL on a terminal.")] = False,
        queries: Annotated[
            list[Path] | None,
            typer.Option(metavar="DIR", help="Folder of own named queries, beside STATE/queries; repeatable."),
        ] = None,
        state: Annotated[Path, typer.Option(help="State folder of the system.")] = Path(".rayflow"),
        events: Annotated[
            Path | None,
            typer.Option(help="Folder of the event log, where storage.events moved it.", show_default=False),
        ] = None,
        output: Annotated[
            Format | None, typer.Option("--format", help="How to print the answer.", show_default="table")
        ] = None,
        out: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Write the answer to a file, whole or not at all.")
        ] = None,
        limit: Annotated[int | None, typer.Option(min=1, metavar="ROWS", help="Print so many rows at most.")] = None,
        watch: Annotated[
            float | None, typer.Option(min=0.1, metavar="SECONDS", help="Ask again and again, until Ctrl-C.")
        ] = None,
        verify: Annotated[bool, typer.Option("--verify", help="First check every page of the log for damage.")] = False,
    ) -> None:
        """Ask the event log, in SQL (DuckDB), by the name of a query, or in a shell.

        Exits with 5 when damaged files had to be left out of the answer; they are named on stderr.
        """
        import sys

        if [sql is not None, name is not None, list_names, shell].count(True) > 1:
            raise typer.BadParameter(HINT)
        if watch is not None and (shell or list_names or out):
            raise typer.BadParameter("--watch prints answers again and again: it needs SQL or --name, and no --out")

        from rayflow.analytics.named import named_queries, named_query
        from rayflow.app.answers import Answers

        own = [state / "queries"] if (state / "queries").is_dir() else []
        known = named_queries([*own, *(queries or [])])
        answers = Answers(_encoding(output, out, watch is not None or shell), limit, out)
        root = events or state / "events"
        if list_names:
            answers.show(_catalogue(known))
            return
        if shell or (sql is None and name is None and sys.stdin.isatty()):
            if out is not None:
                raise typer.BadParameter("a shell prints its answers: --out needs SQL or --name")
            _shell(root, verify, known, answers)
            return
        if sql is None and name is None:
            sql = sys.stdin.read()
            if not sql.strip():
                raise typer.BadParameter(f"{HINT}; stdin says nothing")
        values = _pairs(param or [])
        if name is not None:
            named = named_query(name, known)
            sql, values = named.sql, named.bind(values)
        if watch is not None:
            _watch(watch, root, verify, sql or "", values, answers)
        elif not _ask(root, verify, sql or "", values, answers):
            from rayflow.errors import Exit

            raise typer.Exit(Exit.PARTIAL)


def _encoding(output: Format | None, out: Path | None, text_only: bool) -> str:
    import sys

    binary = output in (Format.PARQUET, Format.ARROW)
    if out is not None:
        if output is Format.TABLE:
            raise typer.BadParameter("a table is for the eye; choose another --format for a file")
        from rayflow.analytics.export import encoding_of

        return output.value if output else encoding_of(out)
    if binary and (text_only or sys.stdout.isatty()):
        raise typer.BadParameter(f"{output} is binary: name a file with --out, or pipe it")
    return (output or Format.TABLE).value


def _ask(root: Path, verify: bool, sql: str, values: dict[str, str], answers: Answers) -> bool:
    """Whether the answer is of the whole log."""
    from rayflow.analytics.database import open_log
    from rayflow.app.asking import ask

    with open_log(root, verify) as log:
        answers.show(ask(log, sql, values))
        for path, reason in log.unreadable.items():
            typer.echo(f"warning: {path} is left out of this answer: {reason}", err=True)
        return not log.unreadable


def _watch(every_s: float, root: Path, verify: bool, sql: str, values: dict[str, str], answers: Answers) -> None:
    from rayflow.app.asking import watch

    answers.redraw = True
    try:
        watch(every_s, lambda: _ask(root, verify, sql, values, answers))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _shell(root: Path, verify: bool, known: dict[str, NamedQuery], answers: Answers) -> None:
    from rayflow.analytics.database import open_log
    from rayflow.app.sql_shell import SqlShell, terminal_reader

    with open_log(root, verify) as log:
        shell = SqlShell(log, known, answers)
        shell.loop(terminal_reader(shell.vocabulary))


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for text, (key, sign, _) in zip(given, pairs, strict=True):
        if not key or not sign:
            raise typer.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--param")
    return {key: value for key, _, value in pairs}


def _catalogue(known: dict[str, NamedQuery]) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "name": list(known),
            "params": [", ".join(query.signature) for query in known.values()],
            "description": [query.description for query in known.values()],
        }
    )
