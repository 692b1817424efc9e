"""One task, from its first turn to its row.

The turns of a task go one after the other; the first one that fails ends it, and what was answered before is kept. A
system that is full or not there is waited for, a bounded number of times: that is no fault of the row. What any other
row would be told as well (the key is refused, the quota used up) is no fault of the row either: it ends no row, it
pauses the job.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from rayflow.batch.judging import verdict
from rayflow.batch.pacing import Window
from rayflow.batch.row import Row
from rayflow.batch.spec import JobSpec
from rayflow.batch.tasks import BadTask, Task
from rayflow.chat import Message, Usage
from rayflow.clock import SYSTEM_CLOCK, Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import (
    AuthenticationError,
    BudgetExceeded,
    ErrorInfo,
    ModelRateLimited,
    ModelRejected,
    Overloaded,
    PeerLost,
    Unavailable,
    UnknownAddress,
    WorkflowError,
    to_info,
)
from rayflow.events import Event
from rayflow.ids import new_run_id
from rayflow.messages import RunRequest, RunResult
from rayflow.models.upstream import QUOTA_CODE
from rayflow.policies.prices import Entry, entry_of

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
"""A budget that is free again within this time is waited for; one that is not pauses the job."""
_WORTH_WAITING = (Overloaded, Unavailable, ModelRateLimited, PeerLost, UnknownAddress)
_REFUSED = (401, 403)

_log = logging.getLogger(__name__)


class RunClient(Protocol):
    """What a batch needs of the system; `rayflow.app.client.SystemClient` has it."""

    @property
    def config(self) -> WorkflowConfig:
        """What the system runs."""
        ...

    async def run(self, request: RunRequest, timeout_s: float | None = None) -> RunResult:
        """Run to the end. Raises any `WorkflowError`."""
        ...

    def emit(self, event: Event) -> None:
        """Hand an event to the log. Never blocks."""
        ...

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        ...


class Paused(Exception):
    """The job cannot go on at the moment; the task was not finished. `error` says why."""

    def __init__(self, error: WorkflowError) -> None:
        super().__init__(error.message)
        self.error = error


class Halted(Exception):
    """The job ends, and the task was waiting to be sent again: it was not finished."""


@dataclass(slots=True)
class _Done:
    """What a task has so far."""

    attempts: int = 1
    results: list[RunResult] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=list)


class Runner:
    """Runs tasks for one job. `halted`: set when the job ends. `window` is told how the system takes the runs."""

    def __init__(
        self,
        client: RunClient,
        spec: JobSpec,
        job_id: str,
        start: int,
        halted: asyncio.Event,
        window: Window,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client = client
        self._spec = spec
        self._job_id = job_id
        self._start = start
        self._halted = halted
        self._window = window
        self._clock = clock
        self._rng = random.Random(job_id)
        self._bill = Bill(client.config)

    async def run(self, task: Task) -> Row:
        """The row of one task. Raises `Paused`, `Halted`, and nothing else but `CancelledError`."""
        began = self._clock.now()
        done = _Done()
        session_id = f"batch-{self._job_id}-{self._start}-{task.ordinal}"
        stateless = len(task.turns) == 1 and not self._spec.sessions
        error: ErrorInfo | None = None
        label = score = None
        try:
            for turn in task.turns:
                await self._run_turn(task, turn, session_id, stateless, done)
            if self._spec.judging is not None:
                label, score = verdict(self._spec.judging, done.results[-1].content)
        except (Paused, Halted):
            raise
        except Exception as failure:
            if not isinstance(failure, WorkflowError):
                _log.exception("row %d of job %s failed unexpectedly", task.ordinal, self._job_id)
            error = to_info(failure)
        about, results = task.about, done.results
        last = results[-1] if results else None
        usage = sum((result.usage for result in results), Usage())
        return Row(
            ordinal=about.ordinal,
            id=about.id or str(about.ordinal),
            status="error" if error else "ok",
            key=task.key,
            source=about.source,
            line=about.line,
            byte=about.byte,
            error=error.slug if error else None,
            error_message=error.message if error else None,
            turns=task.texts,
            answers=[result.content for result in results],
            label=label,
            score=score,
            finish_reason=last.finish_reason if last else None,
            model=last.model if last else None,
            tool_calls=msgspec.json.encode(last.tool_calls).decode() if last and last.tool_calls else None,
            session_id=None if stateless else session_id,
            run_ids=done.run_ids,
            agents=[result.agents for result in results],
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_usd=self._bill.cost(results),
            duration_ms=round((self._clock.now() - began) * 1e3, 3),
            attempts=done.attempts,
        )

    async def _run_turn(self, task: Task, turn: list[Message], session_id: str, stateless: bool, done: _Done) -> None:
        request = RunRequest(
            run_id=new_run_id(),
            session_id=session_id,
            messages=turn,
            params=task.params,
            tenant=self._spec.tenant,
            user_id=self._spec.user_id,
            agent=task.agent,
            new_session=not done.results,
            channel="batch",
            system_prompt=task.system_prompt,
            instructions=task.instructions,
            job_id=self._job_id,
            item_id=task.about.id or str(task.ordinal),
            service_class="batch",
            stateless=stateless,
        )
        done.run_ids.append(request.run_id)
        done.results.append(await self._run_patiently(request, done))

    async def _run_patiently(self, request: RunRequest, done: _Done) -> RunResult:
        for tries in range(self._spec.limits.retries):
            try:
                return await self._ask(request)
            except _WORTH_WAITING as error:
                if isinstance(error, Overloaded):
                    self._window.refused(self._clock.now())
                done.attempts += 1
                await self._wait(tries, error.retry_after_s)
            # In a session a turn that is sent again keeps its run id: a message that is durable is not written twice.
            if request.stateless:
                request = msgspec.structs.replace(request, run_id=new_run_id())
                done.run_ids[-1] = request.run_id
        return await self._ask(request)

    async def _ask(self, request: RunRequest) -> RunResult:
        began = self._clock.now()
        try:
            result = await self._client.run(request)
        except WorkflowError as error:
            if concerns_all(error):
                raise Paused(error) from error
            raise
        if result.parts:
            now, served_s = self._clock.now(), max(part.duration_ms for part in result.parts) / 1e3
            self._window.ran(now, now - began - served_s, served_s)
        return result

    async def _wait(self, tries: int, named_s: float | None) -> None:
        try:
            async with asyncio.timeout(pause_s(tries, named_s, self._rng)):
                await self._halted.wait()
        except TimeoutError:
            return
        raise Halted


def pause_s(tries: int, named_s: float | None, rng: random.Random) -> float:
    """How long to wait after so many tries: as long as whoever refused has asked for, or twice as long each time."""
    wanted = FIRST_WAIT_S * 2**tries if named_s is None else named_s
    return min(wanted, LONGEST_WAIT_S) * rng.uniform(1.0, 1.25)


class Bill:
    """What answers cost at the prices of the configuration."""

    def __init__(self, config: WorkflowConfig) -> None:
        models = {model.name: entry_of(model) for model in config.models}
        self._models: Mapping[str, Entry] = {agent.name: models[agent.model] for agent in config.agents}

    @property
    def dearest(self) -> Entry:
        """The agents' model whose answers cost most."""
        return max(self._models.values(), key=lambda model: (model.completion, model.prompt))

    def cost(self, results: list[RunResult]) -> float | None:
        """In US dollars; None where no model of them has a price."""
        priced = [
            model.cost(part.usage)
            for result in results
            for part in result.parts
            if (model := self._models.get(part.agent)) is not None and model.priced
        ]
        return round(sum(priced), 9) if priced else None


def concerns_all(error: WorkflowError) -> bool:
    """Whether any other row would be told the same: a key that is refused, a quota or a budget that is used up."""
    match error:
        case AuthenticationError():
            return True
        case BudgetExceeded():
            return (error.retry_after_s or LONGEST_WAIT_S + 1) > LONGEST_WAIT_S
        case ModelRejected():
            facts = error.details
            return facts.get("upstream_status") in _REFUSED or facts.get("upstream_code") == QUOTA_CODE
    return False


def bad_row(task: BadTask) -> Row:
    """The row of what cannot be run."""
    about = task.about
    return Row(
        ordinal=about.ordinal,
        id=about.id or str(about.ordinal),
        status="error",
        key=task.key,
        source=about.source,
        line=about.line,
        byte=about.byte,
        error=task.slug,
        error_message=task.message,
    )
