"""Replicas die: what nobody has seen is done again elsewhere, what somebody has seen is not, and a message that kills
is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from actor_doubles import PATIENCE_S, HeldModel, Team, bind_agent, config, hearing, settle, team

from rayflow.actors import delivery, trials
from rayflow.actors.aggregator import Aggregator
from rayflow.chat import ModelChunk, ModelReply, ModelRequest
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import PeerLost, PoisonMessage, Unavailable
from rayflow.messages import JoinParts, RunResult, VoidAttempt, Voided
from rayflow.policies import quarantine
from rayflow.policies.budget import RetryBudget

BOTH = {"rules": [{"keywords": ["both"], "target_agents": ["a", "b"]}]}


class Mortal(HeldModel):
    """The model of one replica, which dies over calls whose last message holds a word of `Fleet.deadly`: before its
    answer, or after the first piece of it."""

    def __init__(self, fleet: Fleet, address: str) -> None:
        super().__init__(f"one two from {address}")
        self.fleet = fleet
        self.address = address

    async def complete(self, request: ModelRequest) -> ModelReply:
        await self.fleet.meet(self.address, request)
        return await super().complete(request)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        if not self.fleet.talkative:
            await self.fleet.meet(self.address, request)
        async for chunk in super().stream(request):
            yield chunk
            await self.fleet.meet(self.address, request)


class Fleet:
    """Replicas of the agents of a team. A dead one is soon replaced, as the coordinator would."""

    def __init__(self, t: Team, replicas: int) -> None:
        self.team = t
        self.deadly = {"deadly"}
        self.merciful = False
        """Whether the first death is the last."""
        self.talkative = False
        """Whether replicas say something before they die."""
        self.deaths: list[str] = []
        self.calls: list[str] = []
        for name in t.models:
            for replica in range(replicas):
                self.bind(f"agent/{name}/{replica}")

    def bind(self, address: str) -> None:
        _, name, replica = address.split("/")
        bind_agent(self.team, name, int(replica), Mortal(self, address))

    async def meet(self, address: str, request: ModelRequest) -> None:
        text = request.messages[-1].text
        self.calls.append(text)
        if self._kills(text):
            await settle()  # others come to the same replica
            if self._kills(text):
                self.deaths.append(address)
                self.team.fabric.unbind(address)
                asyncio.get_running_loop().call_later(0.01, self.bind, address)
                await asyncio.sleep(0)

    def _kills(self, text: str) -> bool:
        return any(word in text for word in self.deadly) and not (self.merciful and self.deaths)


@asynccontextmanager
async def fleet(replicas: int = 2, configuration: WorkflowConfig | None = None) -> AsyncIterator[Fleet]:
    async with team(configuration, replicas=False) as t:
        yield Fleet(t, replicas)


@pytest.fixture(autouse=True)
def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "pause_s", lambda attempt, policy, rng: 0.0)
    monkeypatch.setattr(trials, "PAUSE_S", 0.0)
    for module in (trials, quarantine):  # deaths here follow each other at once, and are incidents of their own
        monkeypatch.setattr(module, "ONE_INCIDENT_S", 0.0)


async def test_what_a_dead_replica_was_asked_another_one_answers() -> None:
    async with fleet() as f:
        f.merciful = True
        result = await f.team.run("deadly")
        (dead,) = f.deaths
        assert result.content == f"one two from {'agent/a/1' if dead == 'agent/a/0' else 'agent/a/0'}"
        assert await f.team.turns() == [("user", "deadly"), ("assistant", result.content)]
        trail = [e for e in await f.team.trail(result.run_id) if e.kind.startswith("agent.")]
        assert [(e.kind, e.attempt) for e in trail] == [
            ("agent.started", 1),
            ("agent.retried", 2),
            ("agent.started", 2),
            ("agent.finished", 2),
        ]
        assert trail[1].replica == dead != trail[2].replica


async def test_where_there_is_no_other_its_successor_is_waited_for() -> None:
    async with fleet(replicas=1) as f:
        f.merciful = True
        assert (await f.team.run("deadly")).content == "one two from agent/a/0"
        assert f.deaths == ["agent/a/0"]


async def test_a_stream_of_which_nothing_was_seen_is_begun_again() -> None:
    async with fleet() as f:
        f.merciful = True
        voided: list[VoidAttempt] = []
        attempts: list[int] = []
        f.team.fabric.bind(
            "client/0",
            {VoidAttempt: lambda void: voided.append(void) or Voided(0)},
            hearing(f.team.heard.append, lambda opening: attempts.append(opening.attempt)),
        )
        result = await f.team.run("deadly", client="client/0", stream=True)
        assert voided == [VoidAttempt(result.run_id, "a", 1)]
        await settle()
        assert attempts == [2]
        assert f.team.heard


async def test_a_stream_that_was_seen_fails_with_its_replica() -> None:
    async with fleet() as f:
        f.talkative = True
        f.team.fabric.bind("client/0", {VoidAttempt: lambda _: Voided(len(f.team.heard))}, hearing(f.team.heard.append))
        with pytest.raises(PeerLost) as caught:
            await f.team.run("deadly", client="client/0", stream=True, run_id="run_1")
        assert caught.value.details["via"] == "router/0"
        assert len(f.deaths) == 1
        last = (await f.team.trail("run_1"))[-1]
        assert (last.kind, last.error) == ("run.finished", "peer-lost")


async def test_what_a_client_that_is_gone_has_seen_nobody_knows() -> None:
    """Its reader may pick the stream up elsewhere, and must not find another answer there."""
    async with fleet() as f:
        f.merciful = True
        f.team.fabric.unbind("client/0")
        with pytest.raises(PeerLost):
            await f.team.run("deadly", client="client/0", stream=True)


async def test_a_client_that_does_not_say_what_it_has_seen_may_have_seen_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "CLIENT_S", 0.01)

    async def silent(_: VoidAttempt) -> Voided:
        await asyncio.Event().wait()
        raise AssertionError

    async with fleet() as f:
        f.team.fabric.bind("client/0", {VoidAttempt: silent}, hearing(lambda _: None))
        with pytest.raises(PeerLost):
            await f.team.run("deadly", client="client/0", stream=True)
        assert len(f.deaths) == 1


async def test_beyond_its_budget_an_agent_is_not_asked_again() -> None:
    async with fleet() as f:
        f.team.router._stages.dispatch._trials._budgets["a"] = RetryBudget(share=0.0, floor_per_s=0.1)
        f.merciful = True
        await f.team.run("deadly")
        f.merciful = False
        with pytest.raises(PeerLost):
            await f.team.run("deadly")
        assert len(f.deaths) == 2


async def test_a_wait_that_the_deadline_does_not_allow_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "pause_s", lambda attempt, policy, rng: 1000.0)
    async with fleet() as f:
        with pytest.raises(PeerLost):
            await f.team.run("deadly")


async def test_a_draining_replica_is_passed_over_without_counting() -> None:
    async with fleet() as f:
        draining = bind_agent(f.team, "a", 0, Mortal(f, "agent/a/0"))
        await draining.drain(0)
        results = [await f.team.run(str(i), f"sess_{i}") for i in range(20)]
        assert {result.content for result in results} == {"one two from agent/a/1"}
        for result in results:
            trail = await f.team.trail(result.run_id)
            asked = [event.replica for event in trail if event.kind == "agent.started"]
            assert asked in (["agent/a/1"], ["agent/a/0", "agent/a/1"])
            assert "agent.retried" not in [event.kind for event in trail]


async def test_an_agent_whose_only_replica_goes_on_draining_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "PATIENCE_S", 0.02)
    async with fleet(replicas=1) as f:
        await bind_agent(f.team, "a", 0, Mortal(f, "agent/a/0")).drain(0)
        with pytest.raises(Unavailable, match="draining") as caught:
            await f.team.run()
        assert caught.value.details["via"] == "router/0"


async def test_a_message_that_kills_two_replicas_is_quarantined() -> None:
    async with fleet() as f:
        with pytest.raises(PoisonMessage, match="ended 2 processes") as caught:
            await f.team.run("deadly", run_id="run_1")
        assert sorted(f.deaths) == sorted(caught.value.details["replicas"]) == ["agent/a/0", "agent/a/1"]
        trail = await f.team.trail("run_1")
        (letter,) = [event for event in trail if event.kind == "run.quarantined"]
        assert (letter.agent, letter.error, letter.attempt, letter.data) == (
            "a", "poison-message", 2, {"replicas": f.deaths},
        )  # fmt: skip
        calls = [(event.replica, event.status, event.error) for event in trail if event.kind == "model.finished"]
        assert calls == [(dead, "error", "peer-lost") for dead in f.deaths]
        assert (trail[-1].kind, trail[-1].error) == ("run.finished", "poison-message")


async def test_what_is_in_quarantine_is_refused_at_the_door() -> None:
    async with fleet() as f:
        for _ in range(2):
            with pytest.raises(PoisonMessage):
                await f.team.run("deadly", run_id="run_1")
        assert len(f.deaths) == 2
        assert (await f.team.run("hello", "sess_2")).content


async def test_innocents_that_were_there_are_answered_whoever_was_there_how_often() -> None:
    roomy = config({"name": "a", "replicas": {"max_in_flight": 4}}, {"name": "b"})
    async with fleet(configuration=roomy) as f:
        runs = [f.team.start("deadly", "sess_p", run_id="run_p")]
        runs += [f.team.start(f"innocent {i}", f"sess_{i}") for i in range(20)]
        poison, *others = await asyncio.wait_for(asyncio.gather(*runs, return_exceptions=True), PATIENCE_S)
        assert isinstance(poison, PoisonMessage)
        assert all(isinstance(other, RunResult) for other in others), others
        assert 2 <= len(f.deaths) <= 3


async def test_suspects_that_died_together_are_tried_one_at_a_time() -> None:
    roomy = config({"name": "a", "replicas": {"max_in_flight": 8}}, {"name": "b"})
    async with fleet(replicas=1, configuration=roomy) as f:
        f.deadly = {"twin"}
        outcomes = await asyncio.wait_for(
            asyncio.gather(*(f.team.start(f"twin {i}", f"sess_{i}") for i in range(3)), return_exceptions=True),
            PATIENCE_S,
        )
        assert all(isinstance(outcome, PoisonMessage) for outcome in outcomes), outcomes
        assert len(f.deaths) == 1 + 1 + 3, "all together twice, then each alone"


async def test_a_part_that_dies_is_retried_and_the_others_are_not() -> None:
    async with fleet(configuration=config(routing=BOTH)) as f:
        f.deadly = {"both"}
        f.merciful = True
        result = await f.team.run("both")
        assert sorted(result.agents) == ["a", "b"]
        assert [part.status for part in result.parts] == ["ok", "ok"]
        assert len(f.calls) == 3


async def test_a_part_that_is_poison_fails_the_whole_run() -> None:
    async with fleet(configuration=config(routing=BOTH)) as f:
        f.deadly = {"both"}
        with pytest.raises(PoisonMessage):
            await f.team.run("both")


async def test_when_the_aggregator_dies_the_agents_are_not_asked_again() -> None:
    async with fleet(configuration=config(routing=BOTH)) as f:
        fabric = f.team.fabric
        joining = asyncio.Event()

        async def never(_: Any) -> None:
            joining.set()
            await asyncio.Event().wait()

        fabric.unbind("aggregator/0")
        fabric.bind("aggregator/0", {JoinParts: never})
        run = f.team.start("both")
        await asyncio.wait_for(joining.wait(), PATIENCE_S)
        fabric.unbind("aggregator/0")
        await settle()
        fabric.bind("aggregator/0", Aggregator(f.team.config.aggregation).handlers)
        assert (await asyncio.wait_for(run, PATIENCE_S)).agents == ["a", "b"]
        assert f.calls == ["both", "both"]
