"""How a command asks something of the serve command of a running system: a line of JSON each way, over a socket in the
run folder, which only its owner can enter.

The serve command answers itself and is no member of the fabric, because it outlives whatever is on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from rayflow.errors import Unavailable, WorkflowError, from_info, to_info
from rayflow.messages import Failure, Reconfigured

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 1 << 20

Reload = Callable[[Path | None], Awaitable[Reconfigured]]
"""Reads the workflow file again, or another one, and goes over to it. Raises `WorkflowError`."""


class ReloadRequest(msgspec.Struct, frozen=True, tag=True):
    """`file`: read this workflow file instead of the one that is served."""

    file: str = ""


class WakeBatch(msgspec.Struct, frozen=True, tag=True):
    """There is a batch job to run, or to end."""


class Woken(msgspec.Struct, frozen=True, tag=True):
    """The answer."""


Wake = Callable[[], None]


@asynccontextmanager
async def controlled(run_dir: Path, reload: Reload, wake: Wake = lambda: None) -> AsyncIterator[None]:
    """Answer commands for as long as the context lasts. A command that leaves does not stop what it asked for."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reply = await _answer(await reader.readline(), reload, wake)
        writer.write(msgspec.json.encode(reply) + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(converse, _socket(run_dir), limit=MAX_LINE_BYTES)
    try:
        yield
    finally:
        server.close()


async def _answer(line: bytes, reload: Reload, wake: Wake) -> Reconfigured | Woken | Failure:
    try:
        request = msgspec.json.decode(line, type=ReloadRequest | WakeBatch)
        if isinstance(request, WakeBatch):
            wake()
            return Woken()
        return await reload(Path(request.file) if request.file else None)
    except Exception as error:
        if not isinstance(error, WorkflowError):
            log.error("a command failed unexpectedly: %r", line[:200], exc_info=error)
        return Failure(to_info(error))


async def ask_reload(run_dir: Path, file: Path | None) -> Reconfigured:
    """Have the serve command reload, and wait for the outcome. Raises `ConfigurationError` when nothing was changed,
    `Unavailable` where no serve command listens, and any other `WorkflowError` on the way."""
    reply = await _asked(run_dir, ReloadRequest(str(file.absolute()) if file else ""))
    assert isinstance(reply, Reconfigured)
    return reply


async def ask_wake_batch(run_dir: Path) -> None:
    """Have the serve command look at the batch jobs. Raises `Unavailable` where none listens."""
    await _asked(run_dir, WakeBatch())


async def _asked(run_dir: Path, request: ReloadRequest | WakeBatch) -> Reconfigured | Woken:
    try:
        reader, writer = await asyncio.open_unix_connection(_socket(run_dir), limit=MAX_LINE_BYTES)
    except OSError as error:
        raise Unavailable(
            f"no serve command listens in {run_dir} ({error.strerror}): only what `rayflow serve` started can reload"
        ) from error
    try:
        writer.write(msgspec.json.encode(request) + b"\n")
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise Unavailable("the serve command ended before it could answer: see its log")
    reply: Reconfigured | Woken | Failure = msgspec.json.decode(line, type=Reconfigured | Woken | Failure)
    if isinstance(reply, Failure):
        raise from_info(reply.error)
    return reply


def _socket(run_dir: Path) -> Path:
    return run_dir / "serve.sock"
