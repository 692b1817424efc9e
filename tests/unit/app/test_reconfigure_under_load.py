"""A new configuration goes round while runs come in all the time: nobody notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rayflow.app.system import InProcessSystem
from rayflow.chat import Message
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.errors import ConfigurationError, Unavailable, WorkflowError
from rayflow.ids import new_run_id
from rayflow.messages import GetHistory, Reconfigure, Reconfigured, RunRequest, RunResult
from rayflow.runtime.roster import COORDINATOR

PATIENCE_S = 30.0
CALLERS = 8


def workflow(folder: Path, *agents: dict[str, Any], **sections: Any) -> WorkflowConfig:
    team = list(agents) or [{"name": "a", "system_prompt": "The office opens at nine."}]
    given = {"name": "team", "agents": team, "storage": {"state": str(folder)}, "processing": {"drain_s": 5.0}}
    return WorkflowConfig.model_validate({**given, **sections})


class Load:
    """Callers that ask again as soon as they are answered, each in a session of its own."""

    def __init__(self, system: InProcessSystem) -> None:
        self._system = system
        self.results: list[RunResult] = []
        self.failed: list[WorkflowError] = []
        self._answered = asyncio.Event()

    async def reconfigure(self, target: WorkflowConfig) -> Reconfigured:
        """In the middle of the load."""
        await self.more()
        done: Reconfigured = await self._system.fabric.ask(COORDINATOR, Reconfigure(dump(target)), PATIENCE_S)
        await self.more()
        return done

    async def more(self, answers: int = 2 * CALLERS) -> list[RunResult]:
        """Wait for so many more answers."""
        before = len(self.results)
        async with asyncio.timeout(PATIENCE_S):
            while len(self.results) < before + answers and not self.failed:
                await self._answered.wait()
        return self.results[before:]

    async def call(self, number: int) -> None:
        client = await self._system.client(f"caller-{number}")
        while True:
            request = RunRequest(new_run_id(), f"sess_{number}", [Message("user", "When does the office open?")])
            try:
                self.results.append(await client.run(request))
            except WorkflowError as error:
                self.failed.append(error)
            self._answered.set()
            self._answered = asyncio.Event()
            await asyncio.sleep(0)


@asynccontextmanager
async def loaded(config: WorkflowConfig) -> AsyncIterator[Load]:
    async with InProcessSystem(config) as system:
        load = Load(system)
        callers = [asyncio.create_task(load.call(number)) for number in range(CALLERS)]
        yield load
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        assert load.failed == []
        client = await system.client("checker")
        history = await client.session(GetHistory("", "sess_0", limit=10_000))
        roles = [turn.message.role for turn in history.turns]
        assert roles[: len(roles) // 2 * 2] == ["user", "assistant"] * (len(roles) // 2), "each run's turns, in order"


CHANGES: dict[str, Callable[[Path], WorkflowConfig]] = {
    "another prompt": lambda at: workflow(at, {"name": "a", "system_prompt": "The office opens at ten."}),
    "more replicas": lambda at: workflow(at, {"name": "a", "replicas": {"min": 3}}),
    "more routers": lambda at: workflow(at, processing={"drain_s": 5.0, "routers": 3}),
    "another agent": lambda at: workflow(at, {"name": "a"}, {"name": "b"}),
    "other agents": lambda at: workflow(at, {"name": "b"}),
    "other routing": lambda at: workflow(at, routing={"strategy": "round_robin"}),
    "another way to store": lambda at: workflow(at, session={"synchronous": "NORMAL"}),
    "no event log": lambda at: workflow(at, monitoring={"event_log": False}),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_no_run_fails_on_the_way_there_and_back(tmp_path: Path, change: str) -> None:
    before = workflow(tmp_path)
    async with loaded(before) as load:
        there = await load.reconfigure(CHANGES[change](tmp_path))
        back = await load.reconfigure(before)
    assert there.replaced == back.replaced
    assert sorted(there.added) == sorted(back.removed)
    assert sorted(there.removed) == sorted(back.added)


async def test_afterwards_the_answers_are_the_new_ones(tmp_path: Path) -> None:
    async with loaded(workflow(tmp_path)) as load:
        assert all("nine" in result.content for result in await load.more())
        await load.reconfigure(CHANGES["another prompt"](tmp_path))
        assert all("ten" in result.content for result in await load.more())


async def test_a_configuration_that_cannot_work_changes_nothing_that_a_caller_sees(tmp_path: Path) -> None:
    async with loaded(workflow(tmp_path)) as load:
        knowledge = {"name": "gone", "knowledge": str(tmp_path / "gone.md")}
        broken = workflow(tmp_path, {"name": "a"}, {"name": "b", "model": "gone"}, models=[knowledge])
        with pytest.raises((Unavailable, ConfigurationError)):
            await load.reconfigure(broken)
        assert all("nine" in result.content for result in await load.more())
