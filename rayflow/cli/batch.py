"""`rayflow batch run`: the workflow over a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rayflow.cli import batch_jobs
from rayflow.cli.batch_here import exit_code, line, run_here

if TYPE_CHECKING:
    from rayflow.batch.directory import Job, JobDirectory
    from rayflow.batch.spec import Judging
    from rayflow.batch.status import JobStatus
    from rayflow.config.schema import WorkflowConfig

MODE = Literal["replay", "prompt", "judge"]
KIND = Literal["", "jsonl", "json", "csv", "tsv", "parquet", "openai"]


def register(app: typer.Typer) -> None:
    batch = typer.Typer(help="Run the workflow over datasets.", no_args_is_help=True)
    app.add_typer(batch, name="batch")
    batch.command()(run)
    batch_jobs.register(batch)


def run(
    inputs: Annotated[list[str], typer.Argument(metavar="IN...", help="Files, folders, globs, or - for stdin.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the job; the same one again goes on.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Workflow file.")] = None,
    state: Annotated[Path | None, typer.Option(help="State folder of the system.")] = None,
    form: Annotated[KIND, typer.Option("--format", help="Of the input; by its name if not given.")] = "",
    field: Annotated[list[str] | None, typer.Option(help="Field or column of the input.")] = None,
    id_field: Annotated[list[str] | None, typer.Option("--id-field", help="Field or column of the id.")] = None,
    where: Annotated[str, typer.Option(metavar="SQL", help="Only rows that fulfil this condition.")] = "",
    sample: Annotated[int | None, typer.Option(min=1, help="Only so many rows, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.")] = None,
    mode: Annotated[MODE, typer.Option(help="How a row is run.")] = "replay",
    instruction: Annotated[str, typer.Option(help="What a judge is asked.")] = "",
    label: Annotated[list[str] | None, typer.Option(help="A label that a judge may give.")] = None,
    score: Annotated[tuple[float, float] | None, typer.Option(help="Lowest and highest score of a judge.")] = None,
    agent: Annotated[str, typer.Option(help="Run this agent instead of routing.")] = "",
    system_prompt: Annotated[str, typer.Option(help="Replaces the agents' own.")] = "",
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="Of the models.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of an answer.")] = None,
    sessions: Annotated[bool, typer.Option("--sessions", help="Keep a session of every row.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=4096, help="Rows in flight.")] = 64,
    feeders: Annotated[int, typer.Option(min=1, max=64, help="Actors that run the rows; 1: this command does.")] = 1,
    rows_per_s: Annotated[float | None, typer.Option(min=0.001, help="At most so many rows a second.")] = None,
    tokens_per_min: Annotated[int | None, typer.Option(min=1, help="At most so many tokens a minute.")] = None,
    max_cost: Annotated[float | None, typer.Option(min=0, metavar="USD", help="Pause at this cost.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed rows again.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Forget what the folder holds.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count rows, tokens and cost; run nothing.")] = False,
    in_process: Annotated[bool, typer.Option("--in-process", help="Run without Ray, in this process.")] = False,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster to join.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="Override a key.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run every row of a dataset through the workflow; a failed row is a row of the results, not the end.

    Exit code 0: all rows are ok; 5: finished with failed rows, or paused; 130 or 143: interrupted. The same command
    again goes on.
    """
    import asyncio
    import secrets
    import sys
    import time

    import msgspec

    from rayflow.app.state import read_run_file
    from rayflow.batch.directory import JobDirectory
    from rayflow.batch.inputs.places import STDIN, spool
    from rayflow.batch.inputs.source import Source
    from rayflow.batch.left import Left
    from rayflow.batch.spec import Inputs, JobSpec, Limits, Selection, workflow_version
    from rayflow.batch.work import bounds_of
    from rayflow.chat import ModelParams
    from rayflow.config.load import load_or_example

    settings = load_or_example(config, set_ or ())
    job_id, folder = secrets.token_hex(16), state or Path(settings.storage.state)
    directory = JobDirectory(out or folder / "batches" / job_id)
    if STDIN in inputs:
        directory.path.mkdir(parents=True, exist_ok=True)
        inputs = [str(spool(sys.stdin.buffer, directory.path, form)) if name == STDIN else name for name in inputs]
    spec = JobSpec(
        Inputs(inputs, form, field or [], id_field or [], bounds=bounds_of(settings.batch)),
        mode="prompt" if form == "openai" else mode,
        selection=Selection(where, sample, seed),
        judging=_judging(mode, instruction, label, score),
        agent=agent,
        params=ModelParams(temperature=temperature, max_tokens=max_tokens),
        row_params=form == "openai",
        adds_instructions=form == "openai",
        system_prompt=system_prompt,
        sessions=sessions,
        limits=Limits(concurrency, limit, rows_per_s, tokens_per_min, max_cost, feeders=feeders),
    )
    source = Source(spec.inputs, whole=bool(where))
    if dry_run:
        from rayflow.batch.estimate import estimate

        typer.echo(estimate(spec, settings, source, directory).to_json())
        return
    total = None if where or sample else min(source.count(), limit or sys.maxsize)

    def plan(workflow: WorkflowConfig) -> Job:
        own = msgspec.structs.replace(spec, workflow=workflow.name, version=workflow_version(workflow))
        return directory.plan(own, time.time_ns() // 1000, job_id=job_id, overwrite=overwrite)

    # What can be refused or answered without a running system needs none to be started.
    if read_run_file(folder) is None:
        left = Left(directory, plan(settings).spec, source, retry_failed=retry_failed)
        if not overwrite and _finished(directory) and not left.any():
            _tell(directory, as_json)
            raise typer.Exit(exit_code(directory.status(), None))

    async def work() -> tuple[JobStatus | None, int | None]:
        from rayflow.app.attach import open_client
        from rayflow.batch.run import JobRun

        opened = open_client(config, state=state, address=address, in_process=in_process, overrides=set_ or ())
        async with opened as client:
            job = plan(client.config)
            begun = JobRun(
                client,
                directory,
                job,
                source,
                total=total,
                retry_failed=retry_failed,
                overwrite=overwrite,
                fabric=client.fabric,
            )
            return await run_here(begun)

    ended, interrupted = asyncio.run(work())
    _tell(directory, as_json)
    raise typer.Exit(exit_code(ended, interrupted))


def _judging(
    mode: str, instruction: str, labels: list[str] | None, score: tuple[float, float] | None
) -> Judging | None:
    from rayflow.batch.spec import Judging
    from rayflow.errors import ValidationError

    if (mode == "judge") != bool(instruction):
        raise ValidationError("--mode judge needs an --instruction, and other modes take none", param="instruction")
    return Judging(instruction, labels or [], score) if instruction else None


def _finished(directory: JobDirectory) -> bool:
    from rayflow.errors import NotFound

    try:
        return directory.status().state == "finished"
    except NotFound:
        return False


def _tell(directory: JobDirectory, as_json: bool) -> None:
    status = directory.status()
    if as_json:
        typer.echo(status.to_json())
        return
    totals = status.totals
    lines = [line(status), f"tokens    {totals.prompt_tokens} in, {totals.completion_tokens} out"]
    if status.reason:
        lines.insert(1, f"reason    {status.reason}")
    if totals.errors:
        lines.insert(1, "errors    " + ", ".join(f"{slug} {count}" for slug, count in totals.errors.items()))
    if status.blank_lines:
        lines.append(f"skipped   {status.blank_lines} blank lines")
    lines.append(f"last start  {status.run} rows in {status.elapsed_s:.1f} s, {status.rows_per_s:.1f}/s")
    lines.append(f"results   {directory.results}")
    typer.echo("\n".join(lines))
