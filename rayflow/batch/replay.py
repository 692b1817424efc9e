"""One item, from its first turn to its row.

The turns of an item go one after the other into one session; the first turn that fails ends it, and what was answered
before is kept. A system that is full or not ready is waited for, a bounded number of times: that is no fault of the
item.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from rayflow.batch.items import BadItem, Item
from rayflow.batch.row import Row
from rayflow.chat import Message, Usage
from rayflow.clock import SYSTEM_CLOCK, Clock
from rayflow.errors import ErrorInfo, Overloaded, Unavailable, WorkflowError, to_info
from rayflow.events import Event
from rayflow.ids import new_run_id
from rayflow.messages import RunRequest, RunResult

MAX_TRIES = 6
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0

_log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


class RunClient(Protocol):
    """What a batch needs of the system; `rayflow.app.client.SystemClient` has it."""

    async def run(self, request: RunRequest, timeout_s: float | None = None) -> RunResult:
        """Run to the end. Raises any `WorkflowError`."""
        ...

    def emit(self, event: Event) -> None:
        """Hand an event to the log. Never blocks."""
        ...

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        ...


@dataclass(slots=True)
class _Done:
    """What an item has so far."""

    attempts: int
    answers: list[str] = field(default_factory=list)
    agents: list[list[str]] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)


class Replay:
    """Runs items for one job. `rng` spreads the waits of items that were refused together."""

    def __init__(
        self,
        client: RunClient,
        job_id: str,
        *,
        clock: Clock = SYSTEM_CLOCK,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or random.Random(job_id)

    async def run(self, item: Item, session_id: str, attempts: int = 0) -> Row:
        """The row of one item. `attempts`: those of earlier starts. Raises nothing but `CancelledError`."""
        began = self._clock.now()
        done = _Done(attempts + 1)
        error: ErrorInfo | None = None
        try:
            for turn in item.turns:
                await self._run_turn(item, turn, session_id, done)
        except Exception as failure:
            if not isinstance(failure, WorkflowError):
                _log.exception("item %d of job %s failed unexpectedly", item.ordinal, self._job_id)
            error = to_info(failure)
        return Row(
            ordinal=item.ordinal,
            id=item.id,
            status="error" if error else "ok",
            line=item.line,
            byte=item.byte,
            error=error.slug if error else None,
            error_message=error.message if error else None,
            turns=item.turns,
            answers=done.answers,
            session_id=session_id,
            run_ids=done.run_ids,
            agents=done.agents,
            prompt_tokens=done.usage.prompt_tokens,
            completion_tokens=done.usage.completion_tokens,
            duration_ms=round((self._clock.now() - began) * 1e3, 3),
            attempts=done.attempts,
        )

    async def _run_turn(self, item: Item, turn: str, session_id: str, done: _Done) -> None:
        request = RunRequest(
            run_id=new_run_id(),
            session_id=session_id,
            messages=[Message("user", turn)],
            new_session=not done.answers,
            channel="batch",
            system_prompt=item.system_prompt,
            job_id=self._job_id,
            item_id=item.id,
            service_class="batch",
        )
        done.run_ids.append(request.run_id)
        result = await self._run_patiently(request, done)
        done.answers.append(result.content)
        done.agents.append(result.agents)
        done.usage += result.usage

    async def _run_patiently(self, request: RunRequest, done: _Done) -> RunResult:
        # A turn that is tried again keeps its run id: a message that is already durable is then not written twice.
        for waits in range(MAX_TRIES - 1):
            try:
                return await self._client.run(request)
            except (Overloaded, Unavailable) as error:
                done.attempts += 1
                await self._sleep(self._wait_s(waits, error.retry_after_s))
        return await self._client.run(request)

    def _wait_s(self, waits: int, retry_after_s: float | None) -> float:
        wanted = FIRST_WAIT_S * 2**waits if retry_after_s is None else retry_after_s
        return min(wanted, LONGEST_WAIT_S) * self._rng.uniform(1.0, 1.25)


def bad_row(item: BadItem) -> Row:
    """The row of an item that cannot be run."""
    return Row(
        ordinal=item.ordinal,
        id=item.id,
        status="error",
        line=item.line,
        byte=item.byte,
        error=item.slug,
        error_message=item.message,
    )
