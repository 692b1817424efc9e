"""What a client of the system streams is always exactly the answer, whoever died on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rayflow.actors import persistence
from rayflow.app.client import SystemClient
from rayflow.chat import Message, Usage
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.load import from_dict
from rayflow.errors import NotFound, PeerLost, Unavailable, WorkflowError
from rayflow.messages import RunRequest, RunResult, Token, TokenStream, VoidAttempt, Voided
from rayflow.messages.runs import PART_ATTEMPTS
from rayflow.policies.placement import owner
from rayflow.runtime.ports import Outlet

STREAMED = RunRequest("run_1", "s", [Message("user", "hi")], client="client/0", stream=True)
PLAIN = RunRequest("run_1", "s", [Message("user", "hi")])

Route = Callable[[RunRequest], Awaitable[RunResult]]


@pytest.fixture(autouse=True)
def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "PAUSE_S", 0.001)


@pytest.fixture
def fabric() -> InProcessFabric:
    return InProcessFabric()


@pytest.fixture
def client(fabric: InProcessFabric) -> SystemClient:
    return SystemClient(fabric, "client/0", from_dict({"name": "w", "agents": [{"name": "a"}]}))


def result(request: RunRequest, content: str = "all") -> RunResult:
    return RunResult(request.run_id, request.session_id, content, "stop", Usage(), "m", ["a"])


async def texts(client: SystemClient, request: RunRequest = STREAMED) -> list[str]:
    return [item.text for item in [item async for item in client.stream(request)] if isinstance(item, Token)]


class Routers:
    """Routers that do what a list says, one entry for each request."""

    def __init__(self, fabric: InProcessFabric, *steps: Callable[[Routers, RunRequest], Awaitable[RunResult]]) -> None:
        self.fabric = fabric
        self.steps = list(steps)
        self.asked: list[RunRequest] = []
        self.outlets: dict[int, Outlet] = {}
        fabric.bind("router/0", {RunRequest: self.take})

    async def take(self, request: RunRequest) -> RunResult:
        self.asked.append(request)
        return await self.steps.pop(0)(self, request)

    def token(self, number: int, attempt: int = 1) -> None:
        outlet = self.outlets.get(attempt)
        if outlet is None:
            outlet = self.outlets[attempt] = self.fabric.stream("client/0", TokenStream("run_1", "a", attempt))
        outlet.offer(Token("run_1", number, "a", [f"{number} "]))


async def die(routers: Routers, request: RunRequest) -> RunResult:
    routers.fabric.unbind("router/0")
    asyncio.get_running_loop().call_later(0.01, routers.fabric.bind, "router/0", {RunRequest: routers.take})
    await asyncio.Event().wait()
    raise AssertionError


async def answer(routers: Routers, request: RunRequest) -> RunResult:
    return result(request)


def raising(error: WorkflowError) -> Callable[[Routers, RunRequest], Awaitable[RunResult]]:
    async def step(routers: Routers, request: RunRequest) -> RunResult:
        raise error

    return step


def telling(*numbers: int, attempt: int = 1) -> Callable[[Routers, RunRequest], Awaitable[RunResult]]:
    async def step(routers: Routers, request: RunRequest) -> RunResult:
        for number in numbers:
            routers.token(number, attempt)
        return result(request)

    return step


async def test_tokens_come_through_in_order(fabric: InProcessFabric, client: SystemClient) -> None:
    Routers(fabric, telling(5, 6, 7))
    assert await texts(client) == ["5 ", "6 ", "7 "]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_router_that_dies_unheard_is_asked_again_under_the_same_id(
    fabric: InProcessFabric, client: SystemClient, streamed: bool
) -> None:
    routers = Routers(fabric, die, telling(1, 2, attempt=PART_ATTEMPTS + 1))
    if streamed:
        assert await texts(client) == ["1 ", "2 "]
    else:
        assert (await client.run(PLAIN)).content == "all"
    assert [(request.run_id, request.attempt) for request in routers.asked] == [("run_1", 0), ("run_1", 1)]


async def test_late_tokens_of_a_dead_routers_attempt_are_dropped(fabric: InProcessFabric, client: SystemClient) -> None:
    async def both(routers: Routers, request: RunRequest) -> RunResult:
        routers.token(1, attempt=1)
        routers.token(3, attempt=PART_ATTEMPTS + 1)
        return result(request)

    Routers(fabric, die, both)
    assert await texts(client) == ["3 "]


async def test_a_router_dies_only_once(fabric: InProcessFabric, client: SystemClient) -> None:
    routers = Routers(fabric, die, die)
    with pytest.raises(PeerLost):
        await client.run(PLAIN)
    assert len(routers.asked) == 2


async def test_what_was_heard_is_not_asked_for_again(fabric: InProcessFabric, client: SystemClient) -> None:
    async def speak_and_die(routers: Routers, request: RunRequest) -> RunResult:
        routers.token(1)
        await asyncio.sleep(0.01)
        return await die(routers, request)

    routers = Routers(fabric, speak_and_die)
    with pytest.raises(PeerLost):
        await texts(client)
    assert len(routers.asked) == 1


@pytest.mark.parametrize("error", [PeerLost("a replica died", via="router/0"), NotFound("no agent")])
async def test_what_a_living_router_says_is_the_answer(
    fabric: InProcessFabric, client: SystemClient, error: WorkflowError
) -> None:
    routers = Routers(fabric, raising(error))
    with pytest.raises(type(error)):
        await client.run(PLAIN)
    assert len(routers.asked) == 1


async def test_a_draining_router_sends_its_clients_to_another_one(
    fabric: InProcessFabric, client: SystemClient
) -> None:
    asked: list[str] = []
    both = ["router/0", "router/1"]
    first = owner("s", both)

    def route(address: str) -> Route:
        async def take(request: RunRequest) -> RunResult:
            asked.append(address)
            if address == first:
                raise Unavailable("stopping", draining=address)
            return result(request)

        return take

    for address in both:
        fabric.bind(address, {RunRequest: route(address)})
    assert (await client.run(PLAIN)).content == "all"
    assert asked == [first, next(address for address in both if address != first)]


async def voided(fabric: InProcessFabric, attempt: int = 1) -> int:
    answer: Voided = await fabric.ask("client/0", VoidAttempt("run_1", "a", attempt), 1)
    return answer.delivered


async def test_an_attempt_of_which_nothing_came_is_void_and_its_late_tokens_are_dropped(
    fabric: InProcessFabric, client: SystemClient
) -> None:
    async def step(routers: Routers, request: RunRequest) -> RunResult:
        assert await voided(fabric) == 0
        routers.token(1, attempt=1)
        routers.token(4, attempt=2)
        return result(request)

    Routers(fabric, step)
    assert await texts(client) == ["4 "]


async def test_an_attempt_of_which_something_came_stays_the_one(fabric: InProcessFabric, client: SystemClient) -> None:
    async def step(routers: Routers, request: RunRequest) -> RunResult:
        routers.token(1)
        await asyncio.sleep(0.01)
        assert await voided(fabric) == 1
        routers.token(2)
        return result(request)

    Routers(fabric, step)
    assert await texts(client) == ["1 ", "2 "]


async def test_of_a_run_that_nobody_streams_nothing_was_heard(fabric: InProcessFabric, client: SystemClient) -> None:
    assert await voided(fabric) == 0


async def test_a_repetition_in_the_same_process_gets_the_answer_and_leaves_the_tokens_to_the_first(
    fabric: InProcessFabric, client: SystemClient
) -> None:
    both_here = asyncio.Event()

    async def first(routers: Routers, request: RunRequest) -> RunResult:
        await both_here.wait()
        routers.token(1)
        await asyncio.sleep(0)
        return result(request)

    async def second(routers: Routers, request: RunRequest) -> RunResult:
        both_here.set()
        return result(request)

    Routers(fabric, first, second)
    heard = asyncio.create_task(texts(client))
    await asyncio.sleep(0.01)
    assert await texts(client) == []
    assert await heard == ["1 "]
    assert not client._streams
