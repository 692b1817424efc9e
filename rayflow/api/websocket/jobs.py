"""What one WebSocket has under way: runs that it asked for, runs that it reads along, and stops of either.

A stop goes to the router of the run, as any cancellation does. So the run ends for all who wait for it, what the model
had said by then comes first, and when `stopped` is told, just that text is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rayflow.api.chat import Chat
from rayflow.api.exchange import Exchange
from rayflow.api.headers import Headers, safe_id, timeout_s
from rayflow.api.metrics import Metrics
from rayflow.api.problems import ClientGone, explained
from rayflow.api.runs import encoded
from rayflow.api.websocket.encoder import SocketEncoder, error_frame, frame
from rayflow.api.websocket.frames import Number, Resume, SocketMessage, Stop
from rayflow.app.inbox import StreamItem
from rayflow.errors import Cancelled, Conflict, NotFound, Overloaded, Unavailable, WorkflowError
from rayflow.ids import new_run_id

REASON = "stopped by a client"
SETTLE_S = 1.0
"""A run that its router does not know has mostly ended: its outcome may take so long to arrive."""
_OF_ALL = (b"authorization", b"x-api-key", b"x-rayflow-priority", b"x-timeout-s")
"""Headers of the handshake that hold for each message."""

Job = Callable[[], Coroutine[Any, Any, None]]
Batches = Callable[[], AsyncGenerator[list[StreamItem], None]]


@dataclass(eq=False, slots=True)
class UnderWay:
    """A run whose events are told. `ended` is set when all are."""

    run_id: str
    session_id: str
    encoder: SocketEncoder
    task: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Jobs:
    """`tell` writes frames; `exchange` is the handshake."""

    def __init__(self, chat: Chat, exchange: Exchange, tell: Callable[[bytes], Awaitable[None]]) -> None:
        self._chat = chat
        self._client = chat.runs.client
        self._tenant = exchange.tenant
        self._headers: Headers = {name: exchange.headers[name] for name in _OF_ALL if name in exchange.headers}
        self._tell = tell
        self._runs: set[UnderWay] = set()
        self._stops: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    # --- for the client ---

    def begin(self, message: SocketMessage) -> None:
        """Start a run. Raises `Overloaded`, and as `Chat.run` does."""
        self._check_room("runs", len(self._runs))
        exchange = Exchange(new_run_id(), _nowhere)
        exchange.headers, exchange.tenant = {**self._headers, **message.headers()}, self._tenant
        body = message.asked(self._chat.catalogue)
        of_run = copy_context()
        run = of_run.run(self._chat.run, exchange, body, streamed=True)
        start = partial(self._client.batches, run, timeout_s(self._headers))
        accepted = frame("accepted", id=message.id, run_id=run.run_id, session_id=run.session_id)
        under_way = self._under_way(run.run_id, run.session_id)
        forward = partial(self._forward, under_way, start, self._chat.runs.metrics, accepted)
        under_way.task = of_run.run(self._start, forward)

    def resume(self, wanted: Resume) -> None:
        """Tell the events of a run from where the client has them. Raises `Overloaded`, `ValidationError`."""
        self._check_room("runs", len(self._runs))
        run_id = safe_id(wanted.run_id, "run_id")
        session_id = safe_id(wanted.session_id, "session_id") if wanted.session_id is not None else ""
        start = partial(self._client.follow, run_id, self._tenant, session_id)
        under_way = self._under_way(run_id, session_id, wanted.after)
        under_way.task = self._start(partial(self._forward, under_way, start, self._chat.runs.uncounted))

    def stop(self, wanted: Stop) -> None:
        """Stop a run of the tenant, or all of this WebSocket. Raises `Overloaded`, `NotFound`, `ValidationError`."""
        self._check_room("stops", len(self._stops))
        mine = [run for run in self._runs if wanted.run_id in (None, run.run_id)]
        if mine:
            task = self._start(partial(self._stop, mine))
        elif wanted.run_id is not None:
            task = self._start(partial(self._stop_elsewhere, safe_id(wanted.run_id, "run_id"), wanted.id))
        else:
            raise NotFound("no run is under way on this WebSocket", kind="run")
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)

    # --- for the connection ---

    async def idle(self) -> None:
        """Until there is nothing to do."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """The client has left: so do its runs, unless they outlive it."""
        for task in self._tasks:
            task.cancel()
        await self.idle()

    async def cut(self) -> None:
        """The server has no more time: tell the client what is not finished."""
        left = list(self._runs)
        await self.close()
        stopping = Unavailable("the server stopped before this run was finished: ask again", retry_after_s=1)
        for run in left:
            await self._tell(run.encoder.error(stopping))

    # --- jobs ---

    async def _forward(self, run: UnderWay, batches: Batches, metrics: Metrics, first: bytes = b"") -> None:
        try:
            with metrics.run() as meter:
                try:
                    if first:
                        await self._tell(first)
                    async with aclosing(batches()) as coming:
                        async for batch in coming:
                            if told := b"".join([encoded(item, run.encoder, meter) for item in batch]):
                                await self._tell(told)
                except ClientGone:
                    raise
                except Exception as error:
                    meter.failed(error)
                    await self._tell(run.encoder.error(explained(error, run.run_id)))
        finally:
            self._runs.discard(run)
            run.ended.set()

    async def _stop(self, runs: list[UnderWay]) -> None:
        await asyncio.gather(*(self._stop_own(run) for run in runs))

    async def _stop_own(self, run: UnderWay) -> None:
        run.encoder.stopping = True
        try:
            await self._client.cancel(run.run_id, REASON, self._tenant, run.session_id)
        except Conflict:
            pass  # it has just ended by itself, and its answer is told
        except WorkflowError:
            with suppress(TimeoutError):
                await asyncio.wait_for(run.ended.wait(), SETTLE_S)
            if not run.ended.is_set() and run.task is not None:  # no router has it: it waits for one
                run.task.cancel()
                await run.ended.wait()
                await self._tell(run.encoder.stopped(Cancelled(REASON)))

    async def _stop_elsewhere(self, run_id: str, number: Number | None) -> None:
        try:
            await self._client.cancel(run_id, REASON, self._tenant)
        except WorkflowError as error:
            await self._tell(error_frame(error, run_id, id=number, run_id=run_id))
        else:
            await self._tell(frame("stopped", id=number, run_id=run_id))

    def _under_way(self, run_id: str, session_id: str, after: int = 0) -> UnderWay:
        encoder = SocketEncoder(self._chat.catalogue.workflow, run_id, session_id, after)
        run = UnderWay(run_id, session_id, encoder)
        self._runs.add(run)
        return run

    def _start(self, job: Job) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(_until_gone(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _check_room(self, what: str, taken: int) -> None:
        limit = self._client.config.security.websocket_runs
        if taken >= limit:
            raise Overloaded(f"{limit} {what} are under way on this WebSocket: wait for one of them", limit=limit)


async def _until_gone(job: Job) -> None:
    with suppress(ClientGone):
        await job()


async def _nowhere(message: Any) -> None:
    """A message on a WebSocket has no HTTP answer."""
