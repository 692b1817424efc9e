"""The asking side: lives in a process that serves, and imports neither DuckDB nor Arrow."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from rayflow.analytics.analyst.question import Answer, Question
from rayflow.analytics.analyst.wire import Task, framed, read_answer
from rayflow.errors import SqlTimeout, SqlTooLarge, StorageError, Unavailable

Sandbox = Literal["required", "best_effort"]

IDLE_S = 10.0
MAX_WAITING = 16
"""So many questions wait for their turn; the next one is refused."""
GRACE_S = 0.1
"""The kernel ends a process when its time is up; who asked waits so much longer before doing it itself."""

# It has a thread of Arrow's allocator when it forks, which Python 3.12 would warn of; jemalloc takes care of that.
_COMMAND = (sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-m", "rayflow.analytics.analyst.template")
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    # Nothing may run a thread of its own in a process that forks, and reserved memory would count against the limit.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
}


class Analyst:
    """Asks about the log in `root`. Lives in one event loop; starts nothing before the first question.

    `at_once`: so many questions are worked on at the same time. `idle_s`: so long after the last one the process that
    forks ends.
    """

    def __init__(self, root: Path, sandbox: Sandbox = "required", at_once: int = 2, idle_s: float = IDLE_S) -> None:
        self._root = root
        self._sandbox = sandbox
        self._idle_s = idle_s
        self._turns = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._busy = 0
        self._template: tuple[asyncio.subprocess.Process, socket.socket] | None = None
        self._starting = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[int]] = set()

    async def ask(self, question: Question) -> Answer:
        """The answer. Cancelling the call ends the work on it.

        Raises `SqlNotAllowed` for SQL that is wrong or reaches beyond the views, `SqlTimeout` and `SqlTooLarge` at the
        limits, `NotFound` where there is no log, `StorageError` where it cannot be read, and `Unavailable` with
        `retry_after_s` where too many questions wait, or without where the sandbox cannot be had.
        """
        until = asyncio.get_running_loop().time() + question.limits.time_s
        async with self._turn(until):
            try:
                async with asyncio.timeout_at(until + GRACE_S):
                    try:
                        return await self._ask(question, until)
                    except StorageError:  # a page is damaged in a file that was thought to be whole
                        return await self._ask(question, until, verify=True)
            except TimeoutError:
                raise _timeout(question) from None

    async def close(self) -> None:
        """End the process that forks; questions that are worked on end with it."""
        if self._idle is not None:
            self._idle.cancel()
        self._drop()
        await asyncio.gather(*self._ending)

    @property
    def pid(self) -> int | None:
        """Of the process that forks, while there is one."""
        return self._template[0].pid if self._template is not None else None

    @asynccontextmanager
    async def _turn(self, until: float) -> AsyncIterator[None]:
        if self._waiting >= MAX_WAITING:
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout_at(until):
                await self._turns.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1
        self._busy += 1
        if self._idle is not None:
            self._idle.cancel()
        try:
            yield
        finally:
            self._turns.release()
            self._busy -= 1
            if not self._busy:
                self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._retire)

    async def _ask(self, question: Question, until: float, verify: bool = False) -> Answer:
        loop = asyncio.get_running_loop()
        worker, handle = await self._fork()
        try:
            reader, writer = await asyncio.open_connection(sock=worker)
            try:
                writer.write(framed(Task(question, until - loop.time(), verify)))
                return await read_answer(reader, question)
            except (EOFError, ConnectionError, ValueError, msgspec.DecodeError) as problem:
                raise _died(question, late=loop.time() >= until) from problem
            finally:
                writer.close()
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)

    async def _fork(self) -> tuple[socket.socket, int]:
        """A process for one question: the socket to it, and a handle to end it with."""
        for _ in range(2):  # the process that forks may have been killed since the last question
            control = await self._control()
            mine, its = socket.socketpair()
            mine.setblocking(False)
            try:
                with its:
                    socket.send_fds(control, [b"\0"], [its.fileno()])
                await _readable(mine)
                _, handles, _, _ = socket.recv_fds(mine, 1, 1)
                if handles:
                    return mine, handles[0]
            except OSError:
                pass
            except asyncio.CancelledError:
                mine.close()
                raise
            mine.close()
            if self._template is not None and self._template[1] is control:
                self._drop()
        raise Unavailable("the process that answers questions does not start; see the log of the server")

    async def _control(self) -> socket.socket:
        """The socket of the process that forks, which is started where there is none."""
        async with self._starting:
            if self._template is None:
                mine, its = socket.socketpair()
                with its:
                    process = await asyncio.create_subprocess_exec(
                        *_COMMAND,
                        str(self._root),
                        self._sandbox,
                        stdin=its.fileno(),
                        stdout=asyncio.subprocess.DEVNULL,
                        env={**_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                        start_new_session=True,
                    )
                self._template = process, mine
            return self._template[1]

    def _retire(self) -> None:
        if not self._busy:
            self._drop()

    def _drop(self) -> None:
        """Let the process that forks end; at the end of its socket it does so by itself."""
        if self._template is None:
            return
        process, control = self._template
        self._template = None
        control.close()
        ending = asyncio.create_task(process.wait())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _readable(source: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(source, ready.set_result, None)
    try:
        await ready
    finally:
        loop.remove_reader(source)


def _busy() -> Unavailable:
    return Unavailable("as many questions are being answered as may be at once; ask again shortly", retry_after_s=1)


def _timeout(question: Question) -> SqlTimeout:
    limit_s = question.limits.time_s
    return SqlTimeout(f"the question took longer than {limit_s:g} s; ask about less of the log", limit_s=limit_s)


def _died(question: Question, late: bool) -> SqlTimeout | SqlTooLarge:
    if late:
        return _timeout(question)
    limit = question.limits.memory_bytes
    return SqlTooLarge(
        f"the question ended its process: it is nested too deep or needs more memory than {limit} bytes",
        limit_bytes=limit,
    )
