"""A workflow's actors on one in-process fabric: real routers, agents, pools and stores, with models that tests hold in
their hands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from support.batches import events_of

from rayflow.actors.agent import Agent
from rayflow.actors.aggregator import Aggregator
from rayflow.actors.enrichment import NO_CONTEXT_MEANS, ContextMeans
from rayflow.actors.outbox import Outbox
from rayflow.actors.router import Router
from rayflow.actors.sessions import Sessions
from rayflow.chat import Message, ModelChunk, ModelReply, ModelRequest, Usage
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import PeerLost
from rayflow.events import Event
from rayflow.ids import new_run_id
from rayflow.messages import (
    EventBatch,
    GetHistory,
    History,
    Payload,
    Progress,
    RunRequest,
    RunResult,
    Token,
    TokenStream,
    VoidAttempt,
    Voided,
)
from rayflow.runtime.ports import Inlet, ModelClient, SessionStore, StreamHandler
from rayflow.stores.memory import MemoryStore

USAGE = Usage(3, 2)
PATIENCE_S = 5.0


def config(*agents: dict[str, Any], **sections: Any) -> WorkflowConfig:
    team = list(agents) or [{"name": "a"}, {"name": "b"}]
    return WorkflowConfig.model_validate({"name": "team", "agents": team, **sections})


def request(text: str = "hello", session: str = "sess_1", **more: Any) -> RunRequest:
    return RunRequest(more.pop("run_id", new_run_id()), session, [Message("user", text)], tenant="t", **more)


class HeldModel:
    """Answers `text`, in pieces when streamed, once it is `released`; raises `errors` first, one for each call."""

    def __init__(self, text: str = "done", *, held: bool = False) -> None:
        self.text = text
        self.errors: list[BaseException] = []
        self.requests: list[ModelRequest] = []
        self.calls = 0
        """Calls under way."""
        self.most = 0
        self.cancelled = 0
        self.closed = False
        self.changed = asyncio.Condition()
        self.released = asyncio.Event()
        if not held:
            self.released.set()

    async def complete(self, request: ModelRequest) -> ModelReply:
        await self._work(request)
        return ModelReply(self.text, "stop", USAGE, "held")

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        await self._work(request)
        for piece in self.text.split():
            yield ModelChunk((piece,))
        yield ModelChunk(finish_reason="stop", usage=USAGE)

    async def close(self) -> None:
        self.closed = True

    async def busy(self, calls: int = 1) -> None:
        """Wait until so many calls are under way."""
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: self.calls == calls), PATIENCE_S)

    async def _work(self, request: ModelRequest) -> None:
        self.requests.append(request)
        if self.errors:
            raise self.errors.pop(0)
        await self._count(1)
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            await self._count(-1)

    async def _count(self, change: int) -> None:
        self.calls += change
        self.most = max(self.most, self.calls)
        async with self.changed:
            self.changed.notify_all()


@dataclass
class Team:
    """The actors of a workflow, and what they said."""

    config: WorkflowConfig
    fabric: InProcessFabric
    router: Router
    models: dict[str, HeldModel]
    events: list[Event] = field(default_factory=list)
    heard: list[Payload] = field(default_factory=list)
    """What the client was told."""

    async def run(
        self, text: str = "hello", session: str = "sess_1", timeout_s: float = PATIENCE_S, **more: Any
    ) -> RunResult:
        result: RunResult = await self.fabric.ask("router/0", request(text, session, **more), timeout_s)
        return result

    def start(self, text: str = "hello", session: str = "sess_1", **more: Any) -> asyncio.Task[RunResult]:
        return asyncio.create_task(self.run(text, session, **more))

    def voided(self, void: VoidAttempt) -> Voided:
        """What the client has of a part."""
        heard = [m for m in self.heard if isinstance(m, Token) and (m.run_id, m.agent) == (void.run_id, void.agent)]
        return Voided(len(heard), "".join(token.text for token in heard))

    async def turns(self, session: str = "sess_1") -> list[tuple[str, str]]:
        history: History = await self.fabric.ask("session/0", GetHistory("t", session, limit=1000), PATIENCE_S)
        return [(turn.message.role, turn.message.text) for turn in history.turns]

    async def trail(self, run_id: str) -> list[Event]:
        """Events of a run, in the order of recording."""
        self.router._outbox.flush()
        await settle()
        return [event for event in self.events if event.run_id == run_id]


async def settle() -> None:
    """Let everything run that can run now."""
    for _ in range(20):
        await asyncio.sleep(0)


def hearing(
    take: Callable[[Any], None], opened: Callable[[TokenStream], None] = lambda _: None
) -> dict[type[Payload], StreamHandler]:
    """The streams of a client that reads every token at once."""

    def listen(opening: TokenStream, inlet: Inlet) -> None:
        def read() -> None:
            with suppress(PeerLost):
                for token in inlet.take():
                    take(token)

        opened(opening)
        inlet.on_readable(read)

    return {TokenStream: listen}


@asynccontextmanager
async def team(
    configuration: WorkflowConfig | None = None,
    *,
    store: SessionStore | None = None,
    model: Callable[[str], ModelClient] = lambda _: HeldModel(),
    replicas: bool = True,
    context: ContextMeans = NO_CONTEXT_MEANS,
) -> AsyncIterator[Team]:
    """One replica of each agent, one router, one store; `replicas`: False leaves the pools empty."""
    configuration = configuration or config()
    fabric = InProcessFabric()
    rng = random.Random(1)
    models: dict[str, Any] = {agent.name: model(agent.name) for agent in configuration.agents}
    router = Router("router/0", configuration, fabric, Outbox(fabric), SYSTEM_CLOCK, rng, context=context)
    found = Team(configuration, fabric, router, models)
    fabric.bind("eventlog/0", {EventBatch: lambda batch: found.events.extend(events_of(batch))})
    reading: dict[type[Payload], Any] = {Progress: found.heard.append, VoidAttempt: found.voided}
    fabric.bind("client/0", reading, hearing(found.heard.append))
    sessions = Sessions("session/0", store or MemoryStore(1000), Outbox(fabric), SYSTEM_CLOCK)
    await sessions.start()
    fabric.bind("session/0", sessions.handlers)
    fabric.bind("aggregator/0", Aggregator(configuration.aggregation).handlers)
    if replicas:
        for name in models:
            bind_agent(found, name)
    await router.start()
    fabric.bind("router/0", router.handlers)
    yield found
    fabric.unbind("router/0")
    await router.stop()
    await sessions.stop()
    await settle()


def bind_agent(team: Team, name: str, replica: int = 0, model: ModelClient | None = None) -> Agent:
    """One more replica, or a new one in the place of one that died. `model`: its own, or the team's. Fallback models
    are the team's of that name."""
    agent = team.config.agent(name)
    address = f"agent/{name}/{replica}"
    made = Agent(
        address,
        agent,
        lambda entry: (model or team.models[name]) if entry == agent.model else team.models[entry],
        team.config.streaming,
        team.fabric,
        SYSTEM_CLOCK,
        team.config.processing.request_timeout_s,
        team.config.monitoring.otel.enabled,
    )
    team.fabric.bind(address, made.handlers)
    return made
