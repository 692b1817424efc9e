"""The life of a run as those outside it see it: it may be stopped, and others may come to wait for its end.

A run that somebody joined stops when the last who waits for it has left. Once its answer is on its way into the
session, nobody stops it any more: it ends in a moment, and well.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b

import msgspec

from rayflow.actors.work import Work
from rayflow.errors import Conflict, KeyReused
from rayflow.messages import RunRequest, RunResult, Shown, Spent

DIGEST_BYTES = 16


class UnderWay:
    """Made when the run is taken in; `begin` and `ended` frame the work on it."""

    __slots__ = ("_askers", "_end", "_news", "_shown", "_spent", "_task", "inherited", "partial", "request",
                 "rollback", "safe", "stopped", "work")  # fmt: skip

    def __init__(self, request: RunRequest, *, inherited: bool = False) -> None:
        self.request = request
        self.inherited = inherited
        """Whoever asked for it asked the router that was here before."""
        self.stopped = ""
        """Why `stop` was called."""
        self.rollback = False
        """It is stopped as if it had never been."""
        self.safe = False
        """Its answer is being made durable."""
        self.partial = ""
        """What stays of the answer where it was cut."""
        self.work: Work | None = None
        self._task: asyncio.Task[object] | None = None
        self._askers = 0
        self._end: asyncio.Future[RunResult] | None = None
        self._spent: dict[str, Spent] = {}
        self._shown: str | None = None
        self._news = asyncio.Event()

    def begin(self) -> None:
        """The current task works on it from now on."""
        self._task = asyncio.current_task()
        if self.stopped:
            self._cancel()

    async def end(self) -> RunResult:
        """Wait for the result, as one of those for whom it is worked on. Raises what the run raises."""
        self._askers += 1
        try:
            return await self.over()
        finally:
            self._askers -= 1
            if not (self._askers or self._over.done()):
                self._cancel()

    async def over(self) -> RunResult:
        """Wait for the result, and do not mind whether there will be one. Raises what the run raises."""
        return await asyncio.shield(self._over)

    async def gone(self) -> None:
        """Wait for its end, whatever that is."""
        await asyncio.wait([self._over])

    def check_same(self, request: RunRequest) -> None:
        """Whether `request` may wait for this run.

        Raises `Conflict` where it did not say that it is a repetition, or does not want to wait, `KeyReused` where it
        asks for something else.
        """
        if not (request.repeatable or request.attempt):
            raise Conflict(f"run {request.run_id} is under way already: give each run an id of its own")
        if _question(request) != _question(self.request):
            raise KeyReused(run_id=request.run_id)
        if not (request.joins or request.attempt):
            raise Conflict(
                "the request with this Idempotency-Key is still being worked on: ask again when it is done, or wait",
                run_id=request.run_id,
            )

    def heard_by(self, request: RunRequest) -> None:
        """Its client has come back before it had its turn: then it gets its tokens, too."""
        if self.inherited and self.work is not None and self.work.slot is None:
            self.request = self.work.run.request = request

    def stop(self, reason: str, *, rollback: bool = False) -> None:
        """Somebody other than its askers wants it to end."""
        if not (self.stopped or self.safe):
            self.stopped, self.rollback = reason, rollback
            self._cancel()

    @property
    def deserted(self) -> bool:
        """Whether it is ending because nobody waited for it any more."""
        return self._task is not None and bool(self._task.cancelling() or self._task.done()) and not self.stopped

    def cut(self) -> bool:
        """Whether the cancellation that its task has just met is the one of `stop`; then it is used up."""
        return bool(self.stopped) and self._task is not None and not self._task.uncancel()

    def ended(self, outcome: RunResult | BaseException) -> None:
        """It is over: tell those who joined it."""
        if self._end is None:
            return
        if isinstance(outcome, RunResult):
            self._end.set_result(outcome)
        elif isinstance(outcome, asyncio.CancelledError):
            self._end.cancel()
        else:
            self._end.set_exception(outcome)
            self._end.exception()  # those who joined it may all have left

    # --- what is known of a run that was cut ---

    def spent(self, message: Spent) -> None:
        """A replica says how far its part had come."""
        self._spent[message.agent] = message
        self._news.set()

    def shown(self, message: Shown) -> None:
        """The client says what it was given."""
        if message.client == self.request.client:
            self._shown = message.text
            self._news.set()

    def spent_by(self, agent: str) -> Spent | None:
        return self._spent.get(agent)

    async def hear_spent(self, agent: str, patience_s: float) -> Spent | None:
        try:
            async with asyncio.timeout(patience_s):
                while agent not in self._spent:
                    await self._next_news()
        except TimeoutError:
            return None
        return self._spent[agent]

    async def hear_shown(self, patience_s: float) -> str:
        """What the client was given; "" where it does not say."""
        try:
            async with asyncio.timeout(patience_s):
                while self._shown is None:
                    await self._next_news()
        except TimeoutError:
            return ""
        return self._shown

    async def _next_news(self) -> None:
        self._news.clear()
        await self._news.wait()

    @property
    def _over(self) -> asyncio.Future[RunResult]:
        if self._end is None:
            self._end = asyncio.get_running_loop().create_future()
        return self._end

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def digest(request: RunRequest) -> str:
    """Of all in a request that makes a difference to its answer."""
    return blake2b(msgspec.msgpack.encode(_question(request)), digest_size=DIGEST_BYTES).hexdigest()


def _question(request: RunRequest) -> tuple[object, ...]:
    return request.messages, request.params, request.agent, request.instructions, request.system_prompt
