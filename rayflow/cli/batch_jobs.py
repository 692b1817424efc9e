"""`rayflow batch status|list|resume|cancel|results`: jobs from any terminal, whoever runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rayflow.cli.batch_here import exit_code, line, run_here

if TYPE_CHECKING:
    from rayflow.batch.catalogue import Listed
    from rayflow.batch.status import JobStatus

JOB = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, the beginning of it, or its folder.")]
STATE = Annotated[Path, typer.Option("--state", help="State folder of the system.")]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WATCH_S = 1.0


FORMAT = Annotated[Literal["jsonl", "csv", "parquet"], typer.Option("--format", help="How to write them.")]
ONLY = Annotated[Literal["all", "ok", "error"], typer.Option(help="All rows, or those that are ok, or errors.")]


def register(batch: typer.Typer) -> None:
    for command in (status, list_, cancel, resume, results):
        batch.command(command.__name__.rstrip("_"))(command)


def status(
    job: JOB,
    state: STATE = Path(".rayflow"),
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until nobody works on it any more.")] = False,
    as_json: JSON = False,
) -> None:
    """Show how far a job is: rows, failures, rate, estimate and cost.

    With --watch the exit code is that of the job: 0 when all rows are ok, 5 with failed rows or when it has not
    finished.
    """
    import time

    from rayflow.batch.catalogue import Jobs
    from rayflow.errors import Exit

    jobs = Jobs(state)
    found = jobs.find(job)
    if watch:
        while not found.over:
            typer.echo(line(found.status), err=True)
            time.sleep(WATCH_S)
            found = jobs.find(job)
    typer.echo(_json(_told(found)) if as_json else _in_words(found))
    if watch and (found.status.state != "finished" or found.status.totals.failed):
        raise typer.Exit(Exit.PARTIAL)


def list_(state: STATE = Path(".rayflow"), as_json: JSON = False) -> None:
    """List the jobs under a state folder, the newest first."""
    from rayflow.batch.catalogue import Jobs
    from rayflow.cli.listing import columns

    found = Jobs(state).all()
    if as_json:
        typer.echo(_json([_told(each) for each in found]))
        return
    rows = [("job", "state", "by", "done", "failed", "rate", "cost", "created")]
    for each in found:
        status = each.status
        rows.append(
            (
                each.folder.name,
                status.state,
                "server" if each.by_server else "command",
                f"{status.totals.rows}/{'?' if status.total is None else status.total}",
                str(status.totals.failed),
                f"{status.rows_per_s:.1f}/s" if status.state == "running" else "-",
                f"{status.totals.cost_usd:.4f}" if status.totals.cost_usd else "-",
                _when(status.created_us),
            )
        )
    typer.echo(columns(rows), nl=False)


def cancel(job: JOB, state: STATE = Path(".rayflow")) -> None:
    """Begin no further row of a job. Rows in flight are finished, and results so far are kept."""
    from rayflow.batch.catalogue import Jobs

    jobs = Jobs(state)
    found = jobs.find(job)
    jobs.cancel(found)
    if found.by_server:
        _wake(state)
    typer.echo(f"{found.folder.name} ends", err=True)


def resume(
    job: JOB,
    state: STATE = Path(".rayflow"),
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Workflow file.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, max=4096, help="Rows in flight.")] = None,
    feeders: Annotated[int | None, typer.Option(min=1, max=64, help="Actors that run the rows.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed rows again.")] = False,
    in_process: Annotated[bool, typer.Option("--in-process", help="Run without Ray, in this process.")] = False,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster to join.")] = None,
    as_json: JSON = False,
) -> None:
    """Go on with a job that was interrupted, paused, cancelled or has failed: only what has no row yet is run.

    A job that was handed in over HTTP goes on in its server; any other one in this command, which ends with 0 when all
    rows are ok, 5 with failed rows, 130 or 143 when it is interrupted.
    """
    from rayflow.batch.catalogue import Jobs
    from rayflow.errors import ValidationError

    jobs = Jobs(state)
    found = jobs.find(job)
    if found.by_server:
        if retry_failed or concurrency is not None or feeders is not None:
            raise ValidationError("a job of the server goes on as it was handed in: leave the options out")
        jobs.resume(found)
        _wake(state)
        typer.echo(f"{found.folder.name} goes on in the server", err=True)
        return
    import asyncio

    async def go_on() -> tuple[JobStatus | None, int | None]:
        import msgspec

        from rayflow.app.attach import open_client
        from rayflow.batch.directory import JobDirectory
        from rayflow.batch.inputs.source import Source
        from rayflow.batch.run import JobRun

        directory = JobDirectory(found.folder)
        job = directory.job()
        given = {"concurrency": concurrency, "feeders": feeders}
        changed = {name: number for name, number in given.items() if number is not None}
        limits = msgspec.structs.replace(job.spec.limits, **changed)
        job = msgspec.structs.replace(job, spec=msgspec.structs.replace(job.spec, limits=limits))
        source = Source(job.spec.inputs, whole=bool(job.spec.selection.where))
        opened = open_client(config, state=state, address=address, in_process=in_process)
        async with opened as client:
            # With what it was begun with, also where the workflow has changed: half of the answers are there.
            total = found.status.total
            fabric = client.fabric
            begun = JobRun(client, directory, job, source, total=total, retry_failed=retry_failed, fabric=fabric)
            return await run_here(begun)

    ended, interrupted = asyncio.run(go_on())
    after = jobs.find(str(found.folder))
    typer.echo(_json(_told(after)) if as_json else _in_words(after))
    raise typer.Exit(exit_code(ended, interrupted))


def results(
    job: JOB,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write to this file instead of stdout.")] = None,
    form: FORMAT = "jsonl",
    only: ONLY = "all",
    state: STATE = Path(".rayflow"),
) -> None:
    """Write the rows of a job so far, in the order of the input.

    Exit code 5 when the job is not finished, or has failed rows.
    """
    import sys

    from rayflow.app.durable import replacing
    from rayflow.batch.catalogue import Jobs
    from rayflow.batch.directory import JobDirectory
    from rayflow.batch.export import export
    from rayflow.errors import Exit, ValidationError

    found = Jobs(state).find(job)
    directory = JobDirectory(found.folder)
    if out is not None:
        with replacing(out) as path, path.open("wb") as file:
            export(directory, form, file, only)
    elif form == "parquet":
        raise ValidationError("Parquet is written to a file: name it with --out", param="out")
    else:
        export(directory, form, sys.stdout.buffer, only)
        sys.stdout.buffer.flush()
    if found.status.state != "finished" or found.status.totals.failed:
        raise typer.Exit(Exit.PARTIAL)


def _wake(state: Path) -> None:
    """Tell the server of this state folder, where one runs; one that starts later sees it by itself."""
    import asyncio

    from rayflow.app.control import ask_wake_batch
    from rayflow.app.state import read_run_file
    from rayflow.errors import Unavailable

    running = read_run_file(state)
    if running is not None and running.url:
        try:
            asyncio.run(ask_wake_batch(Path(running.run_dir)))
        except Unavailable as error:
            typer.echo(f"it is seen when the server looks next: {error.message}", err=True)
    else:
        typer.echo("no server runs on this state folder: it is seen when one starts", err=True)


def _in_words(job: Listed) -> str:
    from rayflow.cli.listing import harmless

    status, totals = job.status, job.status.totals
    lines = [f"{job.folder.name}  {line(status)}"]
    if status.reason:
        lines.append(f"reason   {harmless(status.reason)}")
    if totals.errors:
        lines.append("errors   " + ", ".join(f"{harmless(slug)} {number}" for slug, number in totals.errors.items()))
    lines.append(f"tokens   {totals.prompt_tokens} in, {totals.completion_tokens} out")
    if status.starts:
        lines.append(f"starts   {status.starts}, the last one {status.run} rows in {status.elapsed_s:.1f} s")
    lines.append(f"created  {_when(status.created_us)}")
    lines.append(f"folder   {job.folder}")
    return "\n".join(lines)


def _told(job: Listed) -> dict[str, object]:
    import msgspec

    return {
        "job": job.folder.name,
        "by": "server" if job.by_server else "command",
        "folder": str(job.folder),
        **msgspec.to_builtins(job.status),
        "totals": msgspec.structs.asdict(job.status.totals),
    }


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def _when(us: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if us else "-"
