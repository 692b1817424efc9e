"""`rayflow batch run`: the workflow over a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rayflow.batch.summary import Summary


def register(app: typer.Typer) -> None:
    batch = typer.Typer(help="Run the workflow over datasets.", no_args_is_help=True)
    app.add_typer(batch, name="batch")

    # Without a callback typer makes a group that has one command into that command.
    @batch.callback()
    def group() -> None:
        pass

    @batch.command()
    def run(
        input: Annotated[Path, typer.Argument(metavar="IN", help="Dataset: JSONL, JSON, CSV or Parquet.")],
        out: Annotated[Path, typer.Option(help="Folder for the results; the same one again resumes.")],
        config: Annotated[Path | None, typer.Option("--config", "-c", help="Workflow file.")] = None,
        state: Annotated[Path | None, typer.Option(help="State folder of the system.")] = None,
        concurrency: Annotated[int, typer.Option(min=1, max=4096, help="Items in flight.")] = 16,
        limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many items.")] = None,
        field: Annotated[str | None, typer.Option(help="Field or column of the input.")] = None,
        retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed items again.")] = False,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Forget what --out holds.")] = False,
        in_process: Annotated[bool, typer.Option("--in-process", help="Run without Ray, in this process.")] = False,
        address: Annotated[str | None, typer.Option(help="Address of a Ray cluster to join.")] = None,
        set_: Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="Override a key.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
    ) -> None:
        """Run every item of a dataset through the workflow; a failed item is a row, not the end.

        Exit code 0: all rows are ok; 5: finished with failed rows; 130 or 143: interrupted, run it again to go on.
        """
        import asyncio
        import time

        from rayflow.batch.engine import BatchJob
        from rayflow.batch.folder import JobFolder
        from rayflow.batch.source import Source
        from rayflow.cli.batch_watch import Interrupts, watched
        from rayflow.errors import Exit

        # What can be refused or answered without a running system needs none to be started.
        source, folder, interrupts = Source(input, field, limit), JobFolder(out), Interrupts()
        total, identity = source.count(), source.identity()
        folder.plan(identity, time.time_ns() // 1000, overwrite)
        summary = None if overwrite else folder.finished()

        async def run_job() -> Summary | None:
            from rayflow.app.attach import open_client

            system = open_client(config, state=state, address=address, in_process=in_process, overrides=set_ or ())
            async with system as client:
                job = BatchJob(
                    client,
                    source,
                    folder,
                    identity=identity,
                    total=total,
                    concurrency=concurrency,
                    retry_failed=retry_failed,
                    overwrite=overwrite,
                )
                async with watched(job):
                    return await interrupts.guard(job)

        if summary is None or not summary.covers(total) or (retry_failed and summary.failed):
            summary = asyncio.run(run_job())
        if summary is not None:
            typer.echo(summary.to_json() if as_json else _in_words(summary))
        if interrupts.signal is not None and (summary is None or summary.state == "interrupted"):
            raise typer.Exit(128 + interrupts.signal)
        raise typer.Exit(Exit.PARTIAL if summary is None or summary.failed else Exit.OK)


def _in_words(summary: Summary) -> str:
    head = f"{summary.items} of {summary.total} items: {summary.ok} ok, {summary.failed} failed"
    lines = [
        f"{head}, {summary.turns} turns answered" + (" (interrupted)" if summary.state == "interrupted" else ""),
        f"last start  {summary.run} items in {summary.elapsed_s:.1f} s, {summary.items_per_s:.1f}/s",
        f"tokens      {summary.prompt_tokens} in, {summary.completion_tokens} out",
        f"results     {summary.out}/results.parquet, results.jsonl",
    ]
    if summary.errors:
        lines.insert(1, "errors      " + ", ".join(f"{slug} {count}" for slug, count in summary.errors.items()))
    if summary.blank_lines:
        lines.append(f"skipped     {summary.blank_lines} blank lines")
    return "\n".join(lines)
