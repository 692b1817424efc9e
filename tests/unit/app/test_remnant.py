"""A router dies while a client reads the answer: what was shown stays in the session, marked partial."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from rayflow.actors import persistence
from rayflow.actors.outbox import Outbox
from rayflow.actors.queue import KIND, Queue
from rayflow.actors.sessions import Sessions
from rayflow.app.client import SystemClient
from rayflow.app.inbox import StreamItem
from rayflow.app.remnant import shown
from rayflow.chat import Message
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.load import from_dict
from rayflow.errors import PeerLost
from rayflow.events import Event
from rayflow.messages import (
    AppendTurns,
    GetHistory,
    Progress,
    ReadRecords,
    RunRequest,
    RunResult,
    Token,
    TokenStream,
    Turn,
)
from rayflow.messages.records import QUEUE
from rayflow.stores.memory import MemoryStore

REQUEST = RunRequest("run_1", "s", [Message("user", "hi")], client="client/0", stream=True)
PATIENCE_S = 10.0


class Dying:
    """A router that stores the question, lets a replica speak, and dies when `end` is called."""

    def __init__(self, fabric: InProcessFabric) -> None:
        self.fabric = fabric
        self.over = asyncio.Event()
        self.died = asyncio.Event()
        fabric.bind("router/0", {RunRequest: self.take})

    async def append(self, role: Any, text: str, run_id: str = "run_1") -> None:
        append = AppendTurns("", "s", [Message(role, text)], run_id=run_id)
        await self.fabric.ask("session/0", append, PATIENCE_S)

    async def take(self, request: RunRequest) -> RunResult:
        await self.append("user", "hi")
        outlet = self.fabric.stream("client/0", TokenStream("run_1", "a", 1))
        for number in range(3):
            outlet.offer(Token("run_1", number + 3, "a", [f"{number}", " "]))
        await self.over.wait()
        self.fabric.unbind("router/0")
        self.died.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def turns(self) -> list[Turn]:
        turns: list[Turn] = (await self.fabric.ask("session/0", GetHistory("", "s"), PATIENCE_S)).turns
        return turns


@pytest.fixture
async def fabric(monkeypatch: pytest.MonkeyPatch) -> InProcessFabric:
    monkeypatch.setattr(persistence, "PAUSE_S", 0.001)
    made = InProcessFabric()
    store = Sessions("session/0", MemoryStore(1000), Outbox(made), SYSTEM_CLOCK)
    await store.start()
    made.bind("session/0", store.handlers)
    return made


@pytest.fixture
def client(fabric: InProcessFabric) -> SystemClient:
    return SystemClient(fabric, "client/0", from_dict({"name": "w", "agents": [{"name": "a"}]}))


async def read(client: SystemClient, router: Dying, before: Any = None, asked: RunRequest = REQUEST) -> PeerLost:
    """Read until the router dies, which it does when three tokens were read; the error."""
    texts: list[str] = []
    with pytest.raises(PeerLost) as lost:
        async for item in client.stream(asked):
            texts += [item.text] if isinstance(item, Token) else []
            if len(texts) == 3:
                if before is not None:
                    await before
                router.over.set()
    assert texts == ["0 ", "1 ", "2 "]
    return lost.value


async def test_what_was_read_is_in_the_session_before_the_error_is_told(
    fabric: InProcessFabric, client: SystemClient
) -> None:
    router = Dying(fabric)
    lost = await read(client, router)
    assert lost.details["partial"] == "0 1 2 "
    question, answer = await router.turns()
    assert (question.message.text, question.partial) == ("hi", False)
    assert (answer.message.text, answer.partial, answer.agent, answer.run_id) == ("0 1 2 ", True, "a", "run_1")
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.usage.estimated) == (6, True)


async def test_an_answer_that_the_dead_router_had_stored_stands(fabric: InProcessFabric, client: SystemClient) -> None:
    router = Dying(fabric)
    lost = await read(client, router, router.append("assistant", "0 1 2 3"))
    assert [(turn.message.text, turn.partial) for turn in await router.turns()] == [("hi", False), ("0 1 2 3", False)]
    assert "partial" not in lost.details


async def test_the_next_router_does_not_go_on_with_what_its_client_knows_to_be_cut(
    fabric: InProcessFabric, client: SystemClient
) -> None:
    router = Dying(fabric)
    asked = replace(REQUEST, repeatable=True)
    await Queue("router/0", ["router/0"], ["session/0"], fabric, SYSTEM_CLOCK).keep(asked)
    await read(client, router, asked=asked)
    assert [turn.message.text for turn in await router.turns()] == ["hi", "0 1 2 "]
    assert not (await fabric.ask("session/0", ReadRecords("", QUEUE, KIND), PATIENCE_S)).records


async def test_a_session_that_has_gone_on_is_left_alone(fabric: InProcessFabric, client: SystemClient) -> None:
    router = Dying(fabric)
    await read(client, router, router.append("user", "next", "run_2"))
    assert [turn.message.text for turn in await router.turns()] == ["hi", "next"]


async def test_a_run_that_has_outlived_its_client_leaves_what_that_was_given(
    fabric: InProcessFabric, client: SystemClient
) -> None:
    router = Dying(fabric)
    given: list[StreamItem] = []
    has_all = asyncio.Event()

    async def reader() -> None:
        async for batch in client.batches(replace(REQUEST, outlives=True)):
            given.extend(batch)
            if len(given) == 3:
                has_all.set()

    reading = asyncio.create_task(reader())
    await has_all.wait()
    await asyncio.sleep(0)  # it asks for more, so it has made use of these
    reading.cancel()
    await asyncio.wait([reading])
    router.over.set()
    await router.died.wait()
    async with asyncio.timeout(PATIENCE_S):
        while client._lasting:
            await asyncio.sleep(0.001)
    assert [(turn.message.text, turn.partial) for turn in await router.turns()] == [("hi", False), ("0 1 2 ", True)]


def test_of_several_agents_side_by_side_nobody_has_begun_the_answer() -> None:
    one, other = Token("r", 1, "a", ["x"]), Token("r", 2, "b", ["y"])
    routed = Event("run.routed", 0, "router/0", seq=1, data={"agents": ["a", "b"]})
    assert shown([one]) == [one]
    assert shown([one, other]) == []
    assert shown([Progress(routed), one]) == []
