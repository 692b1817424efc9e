"""Who answers in a replay: the record, or models that are really called.

A call belongs to the run in whose task it is made, and to the agent whose replica makes it. It is answered as that
agent's part of that run ended: with the text and the tokens, or with the error; of the agent's models, as many fail
first as failed then. An agent that had no part in the run has no answer here. It gets an empty one, and the run is
marked: what it would have said is not known, and nothing is invented.

The router's own model is answered with the choice that it made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import msgspec

from rayflow.actors.side_calls import under_way
from rayflow.chat import FinishReason, ModelChunk, ModelReply, ModelRequest, ToolCallDelta, Usage
from rayflow.config.schema import ModelConfig, WorkflowConfig
from rayflow.errors import ModelRejected
from rayflow.models.factory import build
from rayflow.policies.routing import Decision
from rayflow.replay.isolation import Models
from rayflow.replay.recorded import Failed, Recorded
from rayflow.runtime.ports import ModelClient

ROUTER = "router"
"""Who is missing where a model should have chosen the agents."""


@dataclass(slots=True)
class Heard:
    """What models learn of a run. `missing`: who was asked and has no recorded answer: agents, `router`.
    `decision`: None where nobody was asked."""

    run: Recorded
    missing: set[str] = field(default_factory=set)
    decision: Decision | None = None


class Record:
    """The runs that are being replayed, and who answers in them. `paced`: answers take as long as they took."""

    def __init__(self, config: WorkflowConfig, models: Models = "recorded", *, paced: bool = False) -> None:
        self._agents = {agent.name: [agent.model, *agent.fallback_models] for agent in config.agents}
        self._models = models
        self._paced = paced
        self._heard: dict[str, Heard] = {}

    @contextmanager
    def replaying(self, run: Recorded) -> Iterator[Heard]:
        self._heard[run.run_id] = heard = Heard(run)
        try:
            yield heard
        finally:
            del self._heard[run.run_id]

    def client(self, entry: ModelConfig, address: str) -> ModelClient:
        """Whoever stands for this entry of `models`, as the actor at `address` calls it."""
        role, _, rest = address.partition("/")
        if role == "router" and self._models != "live":
            return _FromRecord(self._choice)
        if self._models != "recorded":
            return _Overheard(build(entry), self._now)
        agent = rest.rpartition("/")[0]
        return _FromRecord(partial(self._answer, agent, self._agents[agent].index(entry.name)))

    def _now(self) -> Heard:
        """Of the run in whose task this is asked."""
        work = under_way.get()
        assert work is not None, "models are called in the tasks of runs"
        heard = self._heard[work.request.run_id]
        heard.decision = work.run.decision
        return heard

    async def _answer(self, agent: str, before: int) -> ModelReply:
        """`before`: how many models of the agent come before the one that is called."""
        heard = self._now()
        run = heard.run
        if before < run.failures.get(agent, 0):
            raise ModelRejected("this model failed then, and another one of the agent answered", agent=agent)
        outcome = run.outcomes.get(agent)
        if isinstance(outcome, Failed):
            raise outcome.error(alone=len(run.agents) == 1)
        if outcome is None or outcome.text is None:
            return _nothing(heard, agent)
        if self._paced:
            await asyncio.sleep(outcome.duration_ms / 1000)
        reason = cast(FinishReason, outcome.finish_reason)
        return ModelReply(outcome.text, reason, outcome.usage, outcome.model, outcome.tool_calls)

    async def _choice(self) -> ModelReply:
        heard = self._now()
        run = heard.run
        if not run.chosen_by_model:
            return _nothing(heard, ROUTER)
        sure = {**run.scores, **({run.agents[0]: run.confidence} if run.agents and run.strategy == "llm" else {})}
        choices = [{"name": name, "confidence": share} for name, share in sure.items() if name in self._agents]
        return ModelReply(msgspec.json.encode({"agents": choices}).decode(), "stop", Usage(), "")


def _nothing(heard: Heard, who: str) -> ModelReply:
    heard.missing.add(who)
    return ModelReply("", "stop", Usage(), "")


class _FromRecord:
    """A `ModelClient`. It streams an answer in one piece: when which came is not recorded."""

    def __init__(self, answer: Callable[[], Awaitable[ModelReply]]) -> None:
        self._answer = answer

    async def complete(self, request: ModelRequest) -> ModelReply:
        return await self._answer()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        reply = await self._answer()
        calls = [
            ToolCallDelta(index, call.id, call.function.name, call.function.arguments)
            for index, call in enumerate(reply.tool_calls)
        ]
        yield ModelChunk(
            (reply.text,) if reply.text else (), tuple(calls), reply.finish_reason, reply.usage, reply.model
        )

    async def close(self) -> None: ...


class _Overheard:
    """A `ModelClient` that is really called, and tells that it is. `heard` is called for each call."""

    def __init__(self, model: ModelClient, heard: Callable[[], Heard]) -> None:
        self._model = model
        self._heard = heard
        self.close = model.close

    async def complete(self, request: ModelRequest) -> ModelReply:
        self._heard()
        return await self._model.complete(request)

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        self._heard()
        return self._model.stream(request)
