"""How everything outside the system talks to it: HTTP ingress, batch jobs, the chat command and the Python API.

A client joins the fabric under an address of its own. A run is one `ask` to the router that owns the session; tokens
come on a stream directly from the replica. The result holds the full text, so a client that got only the beginning of
them (the stream broke, the answer was joined from several parts) sends the rest when the result arrives: what was
streamed is always exactly the answer.

Only the client knows what it has received. So it decides whether work that a death cut off may be done again: a
router asks it before a part goes to another replica, and it asks for the run again itself when the router died.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from functools import partial
from typing import Any, overload

import msgspec

from rayflow.actors.persistence import died, persist
from rayflow.app.inbox import Inbox, StreamItem
from rayflow.clock import SYSTEM_CLOCK
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import PeerLost, Unavailable, UnknownAddress
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
    ScaleCapacity,
    Scaled,
    SessionInfo,
    TokenStream,
    VoidAttempt,
    Voided,
)
from rayflow.policies.placement import owner, shard_addresses
from rayflow.runtime.ports import Fabric, Inlet
from rayflow.runtime.roster import COORDINATOR

SESSION_TIMEOUT_S = 10.0
SCALE_TIMEOUT_S = 10.0


class SystemClient:
    """A member of the fabric that starts runs and reads sessions. `address` must be unique on the fabric."""

    def __init__(self, fabric: Fabric, address: str, config: WorkflowConfig) -> None:
        self.fabric = fabric
        self.address = address
        self.config = config
        self._streams: dict[str, Inbox] = {}
        self._been_up = False
        self._shards = shard_addresses(config.session.shards)
        fabric.bind(address, {Progress: self._on_progress, VoidAttempt: self._void}, {TokenStream: self._on_tokens})

    @property
    def ready(self) -> bool:
        """Whether a router and every session store are up."""
        directory = self.fabric.directory
        return bool(directory.addresses("router/")) and all(directory.endpoint(s) is not None for s in self._shards)

    async def run(self, request: RunRequest, timeout_s: float | None = None) -> RunResult:
        """Run to the end. Raises any `WorkflowError`; cancelling this call cancels the run.

        `timeout_s`: shorter than `processing.request_timeout_s`, or None for just that.
        """
        return await self._run(request, timeout_s, None)

    async def _run(self, request: RunRequest, timeout_s: float | None, inbox: Inbox | None) -> RunResult:
        until = SYSTEM_CLOCK.now() + self._deadline(timeout_s)
        try:
            return await self._ask_router(request, until)
        except PeerLost as lost:
            if not died(lost) or (inbox is not None and not inbox.restart(request.attempt + 1)):
                raise
        # The router died and nothing of the answer is here: once more, under the same id. What the dead one has made
        # durable is recognised.
        again = msgspec.structs.replace(request, attempt=request.attempt + 1)
        return await self._ask_router(again, until)

    async def _ask_router(self, request: RunRequest, until: float) -> RunResult:
        draining: set[str] = set()

        async def ask() -> RunResult:
            router = self._router(request.session_id, draining)
            try:
                result: RunResult = await self.fabric.ask(router, request, until - SYSTEM_CLOCK.now())
            except Unavailable:
                draining.add(router)
                raise
            return result

        return await persist(ask, SYSTEM_CLOCK)

    async def stream(self, request: RunRequest, timeout_s: float | None = None) -> AsyncGenerator[StreamItem, None]:
        """The run as it happens: `Token`s, `Progress` where `request.progress`, and `RunResult` as the last item.

        `request.client` must be this client's address. Raises as `run` does. Closing the generator cancels the run.
        """
        async with aclosing(self.batches(request, timeout_s)) as batches:
            async for batch in batches:
                for item in batch:
                    yield item

    async def batches(
        self, request: RunRequest, timeout_s: float | None = None
    ) -> AsyncGenerator[list[StreamItem], None]:
        """As `stream`; what has come since the last one comes together. Who reads slowly slows the model down."""
        inbox = Inbox(request.attempt)
        # A repetition may come in here while the first asker still listens: the tokens are the first one's.
        self._streams.setdefault(request.run_id, inbox)
        run = asyncio.ensure_future(self._run(request, timeout_s, inbox))
        run.add_done_callback(lambda done: inbox.end(_outcome(done)))
        try:
            while True:
                batch = await inbox.read()
                yield batch
                if isinstance(batch[-1], RunResult):
                    return
        finally:
            inbox.close()
            if self._streams.get(request.run_id) is inbox:
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

    async def scale(self, factor: float = 1.0, agent: str = "", replicas: int | None = None) -> dict[str, int]:
        """Multiply the replicas of one agent, or of all of them, or set them, within their limits. Returns how many
        there will be, by agent. Raises `NotFound`, `Unavailable`."""
        scaled: Scaled = await self.fabric.ask(COORDINATOR, ScaleCapacity(factor, agent, replicas), SCALE_TIMEOUT_S)
        return scaled.targets

    def emit(self, event: Event) -> None:
        """Hand an event to the log."""
        self.fabric.tell("eventlog/0", EventBatch([event]))

    def now_us(self) -> int:
        return SYSTEM_CLOCK.wall_us()

    def close(self) -> None:
        self.fabric.unbind(self.address)

    def _router(self, session_id: str, avoid: Collection[str] = ()) -> str:
        """The session's router; another one only while that is one of `avoid`."""
        routers = self.fabric.directory.addresses("router/")
        if avoid:
            routers = [router for router in routers if router not in avoid] or routers
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

    def _on_tokens(self, opening: TokenStream, inlet: Inlet) -> None:
        inbox = self._streams.get(opening.run_id)
        if inbox is None:
            inlet.close()
        else:
            inbox.stream(opening, inlet)

    def _on_progress(self, progress: Progress) -> None:
        if inbox := self._streams.get(progress.event.run_id):
            inbox.progress(progress)

    def _void(self, message: VoidAttempt) -> Voided:
        inbox = self._streams.get(message.run_id)
        return Voided(inbox.void(message.agent, message.attempt) if inbox else 0)


def _outcome(done: asyncio.Future[RunResult]) -> RunResult | BaseException:
    if done.cancelled():
        return asyncio.CancelledError()
    return done.exception() or done.result()
