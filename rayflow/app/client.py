"""How everything outside the system talks to it: HTTP ingress, batch jobs, the chat command and the Python API.

A client joins the fabric under an address of its own. A run is one `ask` to the router that owns the session; tokens
come on a stream directly from the replica. The result holds the full text, so a client that got only the beginning of
them (the stream broke, the answer was joined from several parts) sends the rest when the result arrives: what was
streamed is always exactly the answer.

Only the client knows what it has received. So it decides whether work that a death cut off may be done again: a
router asks it before a part goes to another replica, and it asks for the run again itself when the router died. When
it leaves a stream, it says what it was given, for that stays in the session. Any client can follow a run that
another one streams, from its first event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Coroutine
from contextlib import aclosing
from functools import partial
from itertools import count
from typing import Any, TypeVar

import msgspec

from rayflow.actors.outbox import Outbox
from rayflow.actors.persistence import died, persist
from rayflow.app.inbox import FollowingInbox, Inbox, StreamItem
from rayflow.app.remnant import keep
from rayflow.app.shards import Shards
from rayflow.app.users import Users
from rayflow.clock import SYSTEM_CLOCK
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import NotFound, PeerLost, Unavailable, UnknownAddress
from rayflow.events import Event
from rayflow.messages import (
    CancelRun,
    Follower,
    FollowRun,
    Payload,
    Progress,
    Replay,
    RunRequest,
    RunResult,
    ScaleCapacity,
    Scaled,
    Shown,
    Token,
    TokenStream,
    VoidAttempt,
    Voided,
)
from rayflow.policies.placement import owner, shard_addresses
from rayflow.policies.redaction import redactor
from rayflow.runtime.ports import Fabric, Handler, Inlet
from rayflow.runtime.roster import COORDINATOR

SESSION_TIMEOUT_S = 10.0
SCALE_TIMEOUT_S = 10.0
CANCEL_TIMEOUT_S = 15.0
KEEP_S = 0.5
"""So long a client may wait for the error of its stream until what it was shown is stored."""

T = TypeVar("T")


class SystemClient:
    """A member of the fabric that starts runs and reads sessions. `address` must be unique on the fabric."""

    def __init__(self, fabric: Fabric, address: str, config: WorkflowConfig) -> None:
        self.fabric = fabric
        self.address = address
        self.config = config
        self._streams: dict[str, Inbox] = {}
        self._followed: dict[str, FollowingInbox] = {}
        self._readers = count(1)
        self._lasting: set[asyncio.Future[Any]] = set()
        self._been_up = False
        monitoring = config.monitoring
        self._outbox = Outbox(
            fabric,
            monitoring.event_log,
            limit=monitoring.max_buffered_events,
            source=address,
            redactor=redactor(monitoring),
        )
        self.shards = Shards(shard_addresses(config.session.shards), self._ask_shard)
        self.users = Users(self.shards, config)
        self.session = self.shards.session
        """Ask the store that owns a session."""
        handlers: dict[type[Payload], Handler] = {
            Progress: self._on_progress,
            VoidAttempt: self._void,
            Replay: self._on_replay,
        }
        fabric.bind(address, handlers, {TokenStream: self._on_tokens})

    @property
    def ready(self) -> bool:
        """Whether a router and every session store are up."""
        directory = self.fabric.directory
        return bool(directory.addresses("router/")) and all(
            directory.endpoint(s) is not None for s in self.shards.addresses
        )

    async def run(self, request: RunRequest, timeout_s: float | None = None) -> RunResult:
        """Run to the end. Raises any `WorkflowError`; cancelling this call cancels the run, unless it `outlives` it.

        `timeout_s`: shorter than `processing.request_timeout_s`, or None for just that.
        """
        if not request.outlives:
            return await self._run(request, timeout_s, None)
        return await asyncio.shield(self._last(self._run(request, timeout_s, None)))

    async def _run(self, request: RunRequest, timeout_s: float | None, inbox: Inbox | None) -> RunResult:
        until = SYSTEM_CLOCK.now() + self._deadline(timeout_s)
        try:
            return await self._ask_router(request, until, inbox)
        except PeerLost as lost:
            if not died(lost) or (inbox is not None and not inbox.restart(request.attempt + 1)):
                raise
        # The router died and nothing of the answer is here: once more, under the same id. What the dead one has made
        # durable is recognised.
        again = msgspec.structs.replace(request, attempt=request.attempt + 1)
        return await self._ask_router(again, until, inbox)

    async def _ask_router(self, request: RunRequest, until: float, inbox: Inbox | None) -> RunResult:
        draining: set[str] = set()

        async def ask() -> RunResult:
            router = self._router(request.session_id, draining)
            if inbox is not None:
                inbox.router = router
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
        """As `stream`; what has come since the last one comes together. Who reads slowly slows the model down.

        Whoever asks for the next batch has made use of the last one: what was given of the answer when this generator
        is closed stays in the session. Closing it does not cancel a run that `outlives` it: its whole answer is stored.
        """
        inbox = Inbox(request.attempt)
        # A repetition may come in here while the first asker still listens: the tokens are the first one's.
        first = self._streams.setdefault(request.run_id, inbox) is inbox
        run = self._last(self._run(request, timeout_s, inbox))
        run.add_done_callback(lambda done: inbox.end(_outcome(done)))
        given: list[StreamItem] = []
        answered = False
        try:
            while not answered:
                batch = await inbox.read()
                answered = isinstance(batch[-1], RunResult)
                yield batch
                given += batch
        except PeerLost as lost:
            if first:
                await asyncio.wait([self._keep(request, given, lost)], timeout=KEEP_S)
            raise
        finally:
            inbox.close()
            if request.outlives and not run.done():
                run.add_done_callback(lambda _: self._forget(request.run_id, inbox))
                if first and not answered:
                    run.add_done_callback(lambda done: self._keep(request, given, _outcome(done)))
            else:
                self._forget(request.run_id, inbox)
                if first and inbox.router and not answered:
                    text = "".join(item.text for item in given if isinstance(item, Token))
                    self.fabric.tell(inbox.router, Shown(request.run_id, self.address, text))
                run.cancel()

    def _keep(self, request: RunRequest, given: list[StreamItem], outcome: object) -> asyncio.Task[None]:
        """The run ended while it was streamed: where its router died, keep what was shown of the answer."""
        ask = partial(self._ask_shard, owner(request.session_id, self.shards.addresses))
        return self._last(keep(request, given, outcome, ask, self.shards.records))

    async def follow(self, run_id: str, tenant: str, session_id: str = "") -> AsyncGenerator[list[StreamItem], None]:
        """All of a streamed run that is under way or has just ended, from its first event, in batches as of `batches`.

        `session_id`: its session, where that is known: there is less to search. Raises `NotFound`, and what the run
        raised. Closing the generator does nothing to the run.
        """
        inbox, reader = FollowingInbox(), f"reader-{next(self._readers)}"
        self._followed[reader] = inbox
        message = FollowRun(run_id, tenant, Follower(self.address, reader))
        result = asyncio.ensure_future(self._ask_owner(message, session_id, self._deadline(None)))
        result.add_done_callback(lambda done: inbox.end(_outcome(done)))
        try:
            while True:
                batch = await inbox.read()
                yield batch
                if isinstance(batch[-1], RunResult):
                    return
        finally:
            del self._followed[reader]
            inbox.close()
            result.cancel()

    async def cancel(self, run_id: str, reason: str, tenant: str = "", session_id: str = "") -> None:
        """Stop a run for all who wait for it. Returns when it has ended, and what was shown of its answer is durable.
        Raises `NotFound` where no such run is under way."""
        await self._ask_owner(CancelRun(run_id, reason, tenant), session_id, CANCEL_TIMEOUT_S)

    async def _ask_owner(self, message: CancelRun | FollowRun, session_id: str, timeout_s: float) -> Any:
        """Ask the router that has the run."""
        routers = self.fabric.directory.addresses("router/")
        if session_id and routers:
            first = owner(session_id, routers)
            routers.sort(key=lambda router: router != first)
        for router in routers:
            try:
                return await self.fabric.ask(router, message, timeout_s)
            except NotFound as unknown:
                error: Exception = unknown
            except (UnknownAddress, PeerLost) as lost:
                error = lost
        if not routers:
            raise Unavailable("no router is up at the moment: try again shortly", retry_after_s=1)
        raise error

    async def _ask_shard(self, shard: str, message: Payload, repeatable: bool) -> Any:
        ask = partial(self.fabric.ask, shard, message, SESSION_TIMEOUT_S)
        return await persist(ask, SYSTEM_CLOCK, repeatable=repeatable)

    async def scale(self, factor: float = 1.0, agent: str = "", replicas: int | None = None) -> dict[str, int]:
        """Multiply the replicas of one agent, or of all of them, or set them, within their limits. Returns how many
        there will be, by agent. Raises `NotFound`, `Unavailable`."""
        scaled: Scaled = await self.fabric.ask(COORDINATOR, ScaleCapacity(factor, agent, replicas), SCALE_TIMEOUT_S)
        return scaled.targets

    def emit(self, event: Event) -> None:
        """Hand an event to the log."""
        self._outbox.emit(event)

    async def flush(self) -> None:
        """Wait until what this client emitted is on disk, for as long as that takes."""
        await self._outbox.settle()

    def now_us(self) -> int:
        return SYSTEM_CLOCK.wall_us()

    def close(self) -> None:
        self._outbox.close()
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
        inbox = self._followed.get(opening.reader) if opening.reader else self._streams.get(opening.run_id)
        if inbox is None:
            inlet.close()
        else:
            inbox.stream(opening, inlet)

    def _on_progress(self, progress: Progress) -> None:
        if inbox := self._streams.get(progress.event.run_id):
            inbox.progress(progress)

    def _on_replay(self, message: Replay) -> None:
        if inbox := self._followed.get(message.reader):
            inbox.replay(message)

    def _void(self, message: VoidAttempt) -> Voided:
        inbox = self._streams.get(message.run_id)
        return inbox.void(message.agent, message.attempt) if inbox else Voided()

    def _forget(self, run_id: str, inbox: Inbox) -> None:
        if self._streams.get(run_id) is inbox:
            del self._streams[run_id]

    def _last(self, asking: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A question that may go on when nobody here waits for its answer any more."""
        task = asyncio.get_running_loop().create_task(asking)
        self._lasting.add(task)
        task.add_done_callback(self._lasting.discard)
        return task


def _outcome(done: asyncio.Future[RunResult]) -> RunResult | BaseException:
    if done.cancelled():
        return asyncio.CancelledError()
    return done.exception() or done.result()
