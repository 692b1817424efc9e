"""The life of a run as those outside it see it: it may be stopped, and others may come to wait for its end.

A run that somebody joined stops when the last who waits for it has left.
"""

from __future__ import annotations

import asyncio

from rayflow.errors import Conflict, KeyReused
from rayflow.messages import RunRequest, RunResult


class UnderWay:
    """Made when the run is taken in; `begin` and `ended` frame the work on it."""

    __slots__ = ("_askers", "_end", "_task", "request", "stopped")

    def __init__(self, request: RunRequest) -> None:
        self.request = request
        self.stopped = ""
        """Why `stop` was called."""
        self._task: asyncio.Task[object] | None = None
        self._askers = 0
        self._end: asyncio.Future[RunResult] | None = None

    def begin(self) -> None:
        """The current task works on it from now on."""
        self._task = asyncio.current_task()
        if self.stopped:
            self._cancel()

    async def end(self) -> RunResult:
        """Wait for the result. Raises what the run raises."""
        end = self._end = self._end or asyncio.get_running_loop().create_future()
        self._askers += 1
        try:
            return await asyncio.shield(end)
        finally:
            self._askers -= 1
            if not self._askers and not end.done():
                self._cancel()

    def check_same(self, request: RunRequest) -> None:
        """Whether `request` may wait for this run.

        Raises `Conflict` where it did not say that it is a repetition, `KeyReused` where it asks for something else.
        """
        if not (request.repeatable or request.attempt):
            raise Conflict(f"run {request.run_id} is under way already: give each run an id of its own")
        if _question(request) != _question(self.request):
            raise KeyReused(
                "this Idempotency-Key belongs to a request with another body: use a new key for a new request",
                param="idempotency-key",
                run_id=request.run_id,
            )

    def stop(self, reason: str) -> None:
        """Somebody other than its askers wants it to end."""
        if not self.stopped:
            self.stopped = reason
            self._cancel()

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

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _question(request: RunRequest) -> tuple[object, ...]:
    """All of a request that makes a difference to its answer."""
    return request.messages, request.params, request.agent, request.instructions, request.system_prompt
