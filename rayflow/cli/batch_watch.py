"""What a person sees and does while a batch runs: progress on stderr, and Ctrl-C.

On a terminal a bar, otherwise a plain line every few seconds, so that logs stay readable.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rayflow.batch.engine import BatchJob, Progress
    from rayflow.batch.summary import Summary

BAR_INTERVAL_S = 0.2
LINE_INTERVAL_S = 5.0


class Interrupts:
    """The first signal lets the items in flight finish, the second one drops them. `signal`: the number that came."""

    def __init__(self) -> None:
        self.signal: int | None = None

    async def guard(self, job: BatchJob) -> Summary | None:
        """Run the job; None where it was dropped."""
        loop = asyncio.get_running_loop()
        running = asyncio.create_task(job.run())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number, job, running)
        try:
            return await running
        except asyncio.CancelledError:
            if self.signal is None:
                raise
            return None
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int, job: BatchJob, running: asyncio.Task[Summary]) -> None:
        if self.signal is None:
            self.signal = number
            typer.echo(f"finishing {job.progress.in_flight} items in flight; again to drop them", err=True)
            job.stop()
        else:
            running.cancel()


@asynccontextmanager
async def watched(job: BatchJob) -> AsyncIterator[None]:
    """Show the progress of the job while the block runs."""
    began = time.monotonic()
    with ExitStack() as stack:
        show, interval_s = (bar(stack), BAR_INTERVAL_S) if sys.stderr.isatty() else (_print_line, LINE_INTERVAL_S)

        async def keep_showing() -> None:
            while True:
                await asyncio.sleep(interval_s)
                show(job.progress, time.monotonic() - began)

        showing = asyncio.create_task(keep_showing())
        try:
            yield
        finally:
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing
            show(job.progress, time.monotonic() - began)


def pace(progress: Progress, elapsed_s: float) -> str:
    """Failures, rate and estimate in words. Items of earlier starts do not count for the rate."""
    words = [f"{progress.failed} failed"]
    if progress.run and elapsed_s > 0:
        rate = progress.run / elapsed_s
        words.append(f"{rate:.1f}/s")
        if left := progress.total - progress.done:
            minutes, seconds = divmod(round(left / rate), 60)
            words.append(f"about {minutes}:{seconds:02d} left")
    return ", ".join(words)


def _print_line(progress: Progress, elapsed_s: float) -> None:
    typer.echo(f"batch: {progress.done}/{progress.total} done, {pace(progress, elapsed_s)}", err=True)


def bar(stack: ExitStack) -> Callable[[Progress, float], None]:
    """A bar on stderr until the stack is closed; call what this returns with each news."""
    from rich import progress as rich_progress
    from rich.console import Console

    display = stack.enter_context(
        rich_progress.Progress(
            rich_progress.TextColumn("batch"),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TextColumn("{task.fields[pace]}"),
            console=Console(stderr=True),
        )
    )
    task = display.add_task("batch", pace="")

    def show(progress: Progress, elapsed_s: float) -> None:
        display.update(task, completed=progress.done, total=progress.total, pace=pace(progress, elapsed_s))

    return show
