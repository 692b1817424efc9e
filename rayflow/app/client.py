"""How everything outside the system talks to it: HTTP ingress, batch jobs, the chat command and the Python API.

A client joins the fabric under an address of its own. A run is one `ask` to the router that owns the session; tokens
come to the client's address directly from the replica. The result holds the full text, so a client that missed a
token (the replica's connection broke, the answer was joined from several parts) sends the rest when the result
arrives: what was streamed is always exactly the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, overload

from rayflow.actors.persistence import persist
from rayflow.clock import SYSTEM_CLOCK
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Unavailable, UnknownAddress
from rayflow.events import Event
from rayflow.messages import (
    Ack,
    CancelRun,
    CreateSession,
    DeleteSession,
    EventBatch,
    GetHistory,
    GetSession,
    History,
    Progress,
    RunRequest,
    RunResult,
    SessionInfo,
    Token,
)
from rayflow.policies.placement import owner, shard_addresses
from rayflow.runtime.ports import Fabric

SESSION_TIMEOUT_S = 10.0

StreamItem = Token | Progress | RunResult


class SystemClient:
    """A member of the fabric that starts runs and reads sessions. `address` must be unique on the fabric."""

    def __init__(self, fabric: Fabric, address: str, config: WorkflowConfig) -> None:
        self.fabric = fabric
        self.address = address
        self.config = config
        self._streams: dict[str, asyncio.Queue[StreamItem | BaseException]] = {}
        self._been_up = False
        self._shards = shard_addresses(config.session.shards)
        fabric.bind(address, {Token: self._on_token, Progress: self._on_progress})

    @property
    def ready(self) -> bool:
        """Whether a router and every session store are up."""
        directory = self.fabric.directory
        return bool(directory.addresses("router/")) and all(directory.endpoint(s) is not None for s in self._shards)

    async def run(self, request: RunRequest, timeout_s: float | None = None) -> RunResult:
        """Run to the end. Raises any `WorkflowError`; cancelling this call cancels the run.

        `timeout_s`: shorter than `processing.request_timeout_s`, or None for just that.
        """
        until = SYSTEM_CLOCK.now() + self._deadline(timeout_s)

        async def ask() -> RunResult:
            router = self._router(request.session_id)
            result: RunResult = await self.fabric.ask(router, request, until - SYSTEM_CLOCK.now())
            return result

        return await persist(ask, SYSTEM_CLOCK)

    async def stream(self, request: RunRequest, timeout_s: float | None = None) -> AsyncGenerator[StreamItem, None]:
        """The run as it happens: `Token`s, `Progress` where `request.progress`, and `RunResult` as the last item.

        `request.client` must be this client's address. Raises as `run` does. Closing the generator cancels the run.
        """
        queue: asyncio.Queue[StreamItem | BaseException] = asyncio.Queue()
        self._streams[request.run_id] = queue
        run = asyncio.ensure_future(self.run(request, timeout_s))
        run.add_done_callback(lambda done: queue.put_nowait(_outcome(done)))
        last_seq, whole = 0, True
        try:
            while True:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, Token) and not request.progress:
                    # One agent streams, and numbers its tokens one by one. After a gap (its connection broke) the rest
                    # comes with the result.
                    whole = whole and (last_seq == 0 or item.seq == last_seq + 1)
                    last_seq = item.seq
                    if not whole:
                        continue
                yield item
                if isinstance(item, RunResult):
                    return
        finally:
            del self._streams[request.run_id]
            if not run.done():
                run.cancel()

    def cancel(self, run_id: str, session_id: str, reason: str) -> None:
        """Stop a run that somebody else started."""
        self.fabric.tell(self._router(session_id), CancelRun(run_id, reason))

    @overload
    async def session(self, message: CreateSession | GetSession) -> SessionInfo: ...
    @overload
    async def session(self, message: GetHistory) -> History: ...
    @overload
    async def session(self, message: DeleteSession) -> Ack: ...
    async def session(self, message: CreateSession | GetSession | GetHistory | DeleteSession) -> Any:
        """Ask the store that owns the session. Raises `NotFound`, `Conflict`, `StorageError`, `FabricError`."""
        shard = owner(message.session_id, self._shards)
        reads = isinstance(message, GetSession | GetHistory)
        ask = partial(self.fabric.ask, shard, message, SESSION_TIMEOUT_S)
        return await persist(ask, SYSTEM_CLOCK, repeatable=reads)

    def emit(self, event: Event) -> None:
        """Hand an event to the log."""
        self.fabric.tell("eventlog/0", EventBatch([event]))

    def now_us(self) -> int:
        return SYSTEM_CLOCK.wall_us()

    def close(self) -> None:
        self.fabric.unbind(self.address)

    def _router(self, session_id: str) -> str:
        routers = self.fabric.directory.addresses("router/")
        if routers:
            self._been_up = True
            return owner(session_id, routers)
        if self._been_up:
            # It is being replaced: worth a moment's patience.
            raise UnknownAddress("no router is up at the moment: try again shortly", retry_after_s=1)
        raise Unavailable("the workflow is not ready: no router is up yet; try again shortly", retry_after_s=1)

    def _deadline(self, timeout_s: float | None) -> float:
        limit = self.config.processing.request_timeout_s
        return limit if timeout_s is None else min(limit, timeout_s)

    def _on_token(self, token: Token) -> None:
        if queue := self._streams.get(token.run_id):
            queue.put_nowait(token)

    def _on_progress(self, progress: Progress) -> None:
        if queue := self._streams.get(progress.event.run_id):
            queue.put_nowait(progress)


def _outcome(done: asyncio.Future[RunResult]) -> RunResult | BaseException:
    if done.cancelled():
        return asyncio.CancelledError()
    return done.exception() or done.result()
