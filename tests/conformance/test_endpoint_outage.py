"""A whole system over a real endpoint that is down for a while: no storm of calls, quick refusals, one probe, and all
is well again after it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
from fault_server import USAGE, FaultServer, error, response

from rayflow.app.client import SystemClient
from rayflow.app.system import InProcessSystem
from rayflow.chat import Message
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import CircuitOpen, ModelError, ModelRateLimited, WorkflowError
from rayflow.ids import new_run_id
from rayflow.messages import RunRequest, RunResult

OPEN_S = 0.2
FLOOR_PER_S = 1.0
PATIENCE_S = 30.0
WELL = response(
    json.dumps({
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "well"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }).encode()
)  # fmt: skip
Outcome = RunResult | BaseException


class Outage:
    """The endpoint, how it is, and who asks it."""

    client: SystemClient

    def __init__(self) -> None:
        self.state: Literal["well", "down", "limited", "slow"] = "well"
        self.healed = asyncio.Event()
        self.server = FaultServer({"m": self._serve})
        self.refused_s: list[float] = []

    async def _serve(self, writer: asyncio.StreamWriter) -> None:
        match self.state:
            case "down":
                writer.write(error("500 Internal Server Error", "out of order"))
            case "limited":
                writer.write(error("429 Too Many Requests", "slow down"))
            case "slow":
                await self.healed.wait()
                writer.write(WELL)
            case "well":
                writer.write(WELL)
        await writer.drain()

    @property
    def calls(self) -> int:
        return len(self.server.requests)

    async def run(self) -> Outcome:
        begun = time.monotonic()
        run_id = new_run_id()
        try:
            return await self.client.run(RunRequest(run_id, f"sess_{run_id}", [Message("user", "hi")]))
        except WorkflowError as error:
            if isinstance(error, CircuitOpen):
                self.refused_s.append(time.monotonic() - begun)
            return error

    async def runs(self, count: int) -> list[Outcome]:
        return await asyncio.wait_for(asyncio.gather(*(self.run() for _ in range(count))), PATIENCE_S)

    async def offer(self, seconds: float) -> list[Outcome]:
        """Ten runs at a time, again and again."""
        outcomes: list[Outcome] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            outcomes += await self.runs(10)
        return outcomes


@asynccontextmanager
async def outage(**resilience: Any) -> AsyncIterator[Outage]:
    made = Outage()
    async with made.server:
        configuration = WorkflowConfig.model_validate({
            "name": "team",
            "agents": [{"name": "a", "model": "m", "replicas": {"min": 2, "max": 2}}],
            "models": [{"name": "m", "provider": "openai", "base_url": made.server.url("m")}],
            "session": {"store": "memory"},
            "monitoring": {"event_log": False},
            "resilience": {"retry_floor_per_s": FLOOR_PER_S, **resilience},
        })  # fmt: skip
        async with InProcessSystem(configuration) as system:
            made.client = await system.client("test")
            yield made


async def test_an_endpoint_that_is_down_is_left_alone_and_found_again() -> None:
    async with outage(breaker={"open_s": OPEN_S, "max_open_s": OPEN_S}) as o:
        assert all(isinstance(outcome, RunResult) for outcome in await o.runs(10))
        o.state = "down"
        before = o.calls
        outcomes = await o.offer(5 * OPEN_S)
        seen = o.calls - before
        assert seen <= 1.2 * len(outcomes)
        assert seen <= 5 + 10 + 7, "until it opened, those that were under way then, and a probe for each pause"
        assert {type(outcome) for outcome in outcomes} == {ModelError, CircuitOpen}
        refusals = [outcome for outcome in outcomes if isinstance(outcome, CircuitOpen)]
        assert all(0 < (refusal.retry_after_s or 0) <= 1.0 for refusal in refusals)
        assert min(o.refused_s) < 0.01

        o.state = "slow"
        before = o.calls
        probe = asyncio.create_task(until_called(o))
        await asyncio.wait_for(probe, PATIENCE_S)
        outcomes = await o.offer(2 * OPEN_S)
        assert {type(outcome) for outcome in outcomes} == {CircuitOpen}
        assert o.calls - before == 1, "one probe, however long it takes"
        o.state = "well"
        o.healed.set()
        async with asyncio.timeout(PATIENCE_S):
            while not isinstance(await o.run(), RunResult):
                await asyncio.sleep(0.01)
        assert all(isinstance(outcome, RunResult) for outcome in await o.runs(20))


async def until_called(o: Outage) -> None:
    """Ask until a call gets through to the endpoint, which keeps it."""
    before = o.calls
    asking: set[asyncio.Task[Outcome]] = set()
    while o.calls == before:
        asking.add(asyncio.create_task(o.run()))
        await asyncio.sleep(0.01)
    assert sum(not task.done() for task in asking) == 1


@pytest.mark.parametrize("enabled", [False, True])
async def test_an_endpoint_that_refuses_sees_a_fifth_more_calls_than_there_are_runs(enabled: bool) -> None:
    async with outage(breaker={"enabled": enabled}) as o:
        o.state = "limited"
        begun = time.monotonic()
        outcomes = await o.offer(1.0)
        floor = FLOOR_PER_S * (10 + time.monotonic() - begun)
        assert len(outcomes) < o.calls <= 1.2 * len(outcomes) + floor
        assert {type(outcome) for outcome in outcomes} == {ModelRateLimited}
        o.state = "well"
        assert all(isinstance(outcome, RunResult) for outcome in await o.runs(10)), "and is back at once"


async def test_without_a_breaker_the_budget_alone_prevents_a_storm() -> None:
    async with outage(breaker={"enabled": False}) as o:
        o.state = "down"
        begun = time.monotonic()
        outcomes = await o.offer(1.0)
        assert o.calls <= 1.2 * len(outcomes) + FLOOR_PER_S * (10 + time.monotonic() - begun)
