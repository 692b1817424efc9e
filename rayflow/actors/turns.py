"""Whose turn it is in each session: one run writes, later ones wait in order, or do with those before them what else
they want to.

The router owns a session while one of its runs lasts, so turns are never interleaved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from rayflow.actors.queue import Queue
from rayflow.actors.underway import UnderWay
from rayflow.actors.work import Work
from rayflow.errors import Conflict, Overloaded, WorkflowError
from rayflow.runtime.session import SessionSlot, SessionTable


class Turns:
    """`cached`: idle sessions of which something stays known. `strategy`: for runs that ask for none. `runs`: those of
    the router, by id. `queue` keeps what waits."""

    def __init__(self, cached: int, strategy: str, runs: Mapping[str, UnderWay], queue: Queue) -> None:
        self.sessions = SessionTable(cached)
        self._strategy = strategy
        self._runs = runs
        self._queue = queue
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def own_session(self, work: Work) -> None:
        """Wait until nobody else writes to the session of the run. Raises `Conflict` where it does not want to wait,
        `Overloaded` where too many do, and what the queue raises where it cannot be kept meanwhile."""
        if work.request.stateless:
            work.slot = SessionSlot()  # nobody else knows of it
            return
        strategy = work.request.multitask or self._strategy
        if strategy != "enqueue":
            self._clash(work, strategy)
        try:
            work.slot = self.sessions.enter(work.key, work.request.run_id)
        except OverflowError as full:
            raise Overloaded(f"session {work.request.session_id}: {full}; try again later", retry_after_s=1) from None
        if work.slot is not None:
            if not work.inherited and self._queue.claims(work.request):
                await self._queue.keep(work.request)
            return
        turn = self._waiting[work.request.run_id] = asyncio.get_running_loop().create_future()
        try:
            if not work.inherited:
                await self._queue.keep(work.request)
            await turn
        except (asyncio.CancelledError, WorkflowError):
            if turn.done() and not turn.cancelled():
                work.slot = self.sessions.slot(work.key)
            else:
                self.sessions.abandon(work.key, work.request.run_id)
            raise
        finally:
            del self._waiting[work.request.run_id]
        work.slot = self.sessions.slot(work.key)

    def release(self, work: Work) -> None:
        """The run is over: the next one, if there is one."""
        assert work.slot is not None, "it owns the session"
        if work.request.stateless:
            return
        if work.run.state != "finished":
            work.slot.forget()
        following = self.sessions.leave(work.key)
        while following is not None and self._waiting[following].done():
            # It was cancelled in this very moment: the next one, then.
            following = self.sessions.leave(work.key)
        if following is not None:
            self._waiting[following].set_result(None)

    def _clash(self, work: Work, strategy: str) -> None:
        """Refuse the run, or stop all before it, where there are any."""
        earlier = self.sessions.line(work.key)
        if earlier and strategy == "reject":
            raise Conflict(
                f"session {work.request.session_id} is busy with another run: send this when that is done, or ask for"
                " another multitask_strategy",
                session_id=work.request.session_id,
                run_id=earlier[0],
            )
        for run_id in earlier:
            self._runs[run_id].stop(f"superseded by run {work.request.run_id}", rollback=strategy == "rollback")
