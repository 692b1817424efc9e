"""`rayflow replay`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rayflow.replay.report import Summary


class Models(StrEnum):
    RECORDED = "recorded"
    LIVE = "live"
    OFFLINE = "offline"


class Pace(StrEnum):
    NONE = "none"
    RECORDED = "recorded"


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def register(app: typer.Typer) -> None:
    app.command()(replay)


def replay(
    workflow: Annotated[Path, typer.Option(help="The changed workflow file.")],
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Runs that ended since then: a span such as 90m, 1d, 2w, or a time.")
    ] = "1d",
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="And before then, likewise.", show_default="now")
    ] = None,
    where: Annotated[str, typer.Option(metavar="SQL", help="Only runs for which this holds, over `runs`.")] = "",
    sample: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only N of them, always the same.")] = None,
    models: Annotated[Models, typer.Option(help="Who answers.")] = Models.RECORDED,
    pace: Annotated[
        Pace, typer.Option(help="recorded: recorded answers take their time, so that latency can be compared.")
    ] = Pace.NONE,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="What is answered now is the history of what follows.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Sessions side by side.")] = 16,
    fail_on: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="What exits with 5: answers, routing, errors, unrecorded, latency>1.2x, cost>1.1x."
        ),
    ] = "answers,routing,errors",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="New folder for the results.", show_default="STATE/replays/TIME")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print the report.")] = Format.TEXT,
    state: Annotated[
        Path | None, typer.Option(help="State folder of the recorded system.", show_default="storage.state")
    ] = None,
    events: Annotated[Path | None, typer.Option(help="Folder of the event log.", show_default="storage.events")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="Override a key.")] = None,
) -> None:
    """Run recorded runs through a changed workflow, and say what is different.

    Exit code 0: nothing of --fail-on; 5: something of it, or damaged files were left out; 4: nothing to replay.
    """
    import asyncio
    import secrets
    from datetime import UTC, datetime

    from rayflow.analytics.database import open_log
    from rayflow.analytics.kpis import period
    from rayflow.app.attach import settled
    from rayflow.app.build import events_folder
    from rayflow.app.session_access import open_sessions
    from rayflow.config.load import load
    from rayflow.errors import Exit, ValidationError
    from rayflow.replay.replay import Choice, How
    from rayflow.replay.replay import replay as replay_runs
    from rayflow.replay.verdict import broken, conditions

    try:
        wanted = conditions(fail_on)
    except ValidationError as wrong:
        raise typer.BadParameter(wrong.message, param_hint="--fail-on") from None
    now = datetime.now(UTC)
    asked = period(since, until, now)
    config = settled(load(workflow, set_ or ()), state)
    folder = Path(config.storage.state)
    place = out or folder / "replays" / f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    choice = Choice(asked.since.isoformat(), asked.until.isoformat(), where, sample)
    how = How(models.value, pace is Pace.RECORDED, cascade, concurrency)
    with open_log(events or events_folder(config)) as log:
        summary = asyncio.run(replay_runs(log, config, place, choice, how, lambda: open_sessions(workflow, folder)))
    failed = broken(summary.figures, wanted)
    typer.echo(_written(summary, failed, output), nl=False)
    if not summary.figures.replayed:
        typer.echo("error: none of these runs can be replayed: the report says why", err=True)
        raise typer.Exit(Exit.INPUT)
    if failed or summary.unreadable:
        raise typer.Exit(Exit.PARTIAL)


def _written(summary: Summary, failed: list[str], output: Format) -> str:
    from rayflow.replay.report import to_json, to_markdown, to_text

    match output:
        case Format.TEXT:
            return to_text(summary, failed)
        case Format.MARKDOWN:
            return to_markdown(summary, failed)
        case Format.JSON:
            return to_json(summary, failed)
