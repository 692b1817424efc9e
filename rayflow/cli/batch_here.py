"""A batch job that runs in this command: its progress on stderr, and what Ctrl-C does to it."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rayflow.batch.run import JobRun
    from rayflow.batch.status import JobStatus

TERMINAL_S = 1.0
LOG_S = 5.0
"""How often progress is shown, to people and to files."""


def line(status: JobStatus) -> str:
    """Progress in one line."""
    totals = status.totals
    words = [f"{totals.rows}/{'?' if status.total is None else status.total} rows", f"{totals.failed} failed"]
    if status.state == "running":
        words.append(f"{status.rows_per_s:.1f}/s")
        if status.left_s is not None:
            minutes, seconds = divmod(round(status.left_s), 60)
            words.append(f"about {minutes}:{seconds:02d} left")
    if totals.cost_usd:
        words.append(f"{totals.cost_usd:.4f} USD")
    return f"{status.state}: " + ", ".join(words)


async def run_here(job: JobRun) -> tuple[JobStatus | None, int | None]:
    """Run it to its end. Its status, None where it was dropped, and the signal that ended it, None where none did.

    The first signal lets the rows in flight finish, the second one drops them; rows that are finished are kept.
    """
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(job.run())
    came: list[int] = []

    def interrupt(number: int) -> None:
        came.append(number)
        if len(came) == 1:
            typer.echo(f"finishing {job.status.in_flight} rows in flight; again to drop them", err=True)
            job.stop()
        else:
            running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt, number)
    showing = asyncio.create_task(_show(job))
    try:
        return await running, came[0] if came else None
    except asyncio.CancelledError:
        if not came:
            raise
        return None, came[0]
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def exit_code(status: JobStatus | None, interrupted: int | None) -> int:
    """Of a command whose job ended like this."""
    from rayflow.errors import Exit

    if interrupted is not None and (status is None or status.state == "interrupted"):
        return 128 + interrupted
    finished = status is not None and status.state == "finished" and not status.totals.failed
    return Exit.OK if finished else Exit.PARTIAL


async def _show(job: JobRun) -> None:
    while True:
        await asyncio.sleep(TERMINAL_S if sys.stderr.isatty() else LOG_S)
        typer.echo(f"batch {line(job.status)}", err=True)
