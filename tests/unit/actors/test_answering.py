"""Several agents at one question: real agents, the aggregator and a client on one fabric, with models that tests hold
in their hands."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from actor_doubles import PATIENCE_S, USAGE, HeldModel, config, request, settle

from rayflow.actors.agent import Agent
from rayflow.actors.aggregator import Aggregator
from rayflow.actors.answering import Answering
from rayflow.actors.work import Work
from rayflow.api.chat_answer import ChatEncoder
from rayflow.app.client import SystemClient
from rayflow.app.inbox import StreamItem
from rayflow.chat import Message, ModelChunk, ModelRequest
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import CircuitOpen, ExecutionError, ModelRejected, Overloaded, PoisonMessage, RateLimited
from rayflow.events import Event
from rayflow.messages import AgentCall, AgentReply, RunRequest, RunResult, Token
from rayflow.policies.routing import Decision
from rayflow.runtime.part import PartState
from rayflow.runtime.run import Run

TEXTS = {
    "billing": "Refunds take 14 days. Ask for one on the orders page.",
    "support": "Refunds take 14 days. Keep the box until then.",
    "shop": "Refunds take 30 days.",
}
LEADING = {"strategy": "intelligent_merge"}


class Talker(HeldModel):
    """Says its text word by word. After `pause_after` words it waits for `resumed`; after `break_after` it fails."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.pause_after = self.break_after = -1
        self.resumed = asyncio.Event()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        await self._work(request)
        for said, piece in enumerate(re.findall(r"\S+\s*", self.text)):
            if said == self.pause_after:
                await self._count(1)
                try:
                    await self.resumed.wait()
                finally:
                    await self._count(-1)
            if said == self.break_after:
                raise ModelRejected("broken off")
            yield ModelChunk((piece,))
        yield ModelChunk(finish_reason="stop", usage=USAGE)


@dataclass
class Panel:
    """All agents get every question, in this order."""

    config: WorkflowConfig
    fabric: InProcessFabric
    client: SystemClient
    models: dict[str, Talker]
    events: list[Event] = field(default_factory=list)

    async def run(self) -> RunResult:
        return await self.client.run(request("How long do refunds take?"), PATIENCE_S)

    def start(self) -> asyncio.Task[RunResult]:
        return asyncio.create_task(self.run())

    def stream(self) -> AsyncGenerator[StreamItem, None]:
        return self.client.stream(
            request("How long do refunds take?", client=self.client.address, stream=True, progress=True), PATIENCE_S
        )

    async def answer(self, asked: RunRequest) -> RunResult:
        """What a router does with a run, but for the session."""
        run = Run(asked, "team", "router/0", SYSTEM_CLOCK.now())
        run.begin(0)
        run.enriched()
        agents = tuple(self.models)
        confidences = tuple(0.9 - 0.3 * i for i in range(len(agents)))
        run.routed(Decision(agents, confidences[0], "test", "", confidences), 0)
        answering = Answering(
            self.config, self.ask, lambda _, event: self.events.append(event), self.fabric, SYSTEM_CLOCK
        )
        await answering.answer(Work(run, context=list(asked.messages)))
        result, _ = run.finished(2, SYSTEM_CLOCK.now(), 0)
        return result

    def record(self, _: Work, event: Event) -> None:
        self.events.append(event)

    async def ask(self, work: Work, part: PartState) -> AgentReply:
        run, replica = work.run, f"agent/{part.agent}/0"
        self.events.append(run.part_started(part, replica, 0.0, SYSTEM_CLOCK.now(), 0))
        start, step = run.token_numbers(part)
        call = AgentCall(
            run_id=run.request.run_id,
            agent=part.agent,
            messages=work.context,
            client=run.tokens_to(part),
            seq_start=start,
            seq_step=step,
            attempt=run.attempt_number(part),
        )
        try:
            reply: AgentReply = await self.fabric.ask(replica, call, PATIENCE_S)
        except Exception as error:
            self.events.append(run.part_failed(part, error, SYSTEM_CLOCK.now(), 0))
            raise
        self.events.append(run.part_finished(part, reply, 0))
        return reply


def _held(model: Talker, _: str) -> Talker:
    return model


@asynccontextmanager
async def panel(*agents: str, **aggregation: Any) -> AsyncIterator[Panel]:
    configuration = config(
        *({"name": name} for name in agents),
        aggregation=aggregation,
        streaming={"flush_s": 0.0, "max_chars": 1},
    )
    fabric = InProcessFabric()
    client = SystemClient(fabric, "client/0", configuration)
    found = Panel(configuration, fabric, client, {name: Talker(TEXTS[name]) for name in agents})
    for name, model in found.models.items():
        address, entry = f"agent/{name}/0", configuration.agent(name)
        agent = Agent(address, entry, partial(_held, model), configuration.streaming, fabric, SYSTEM_CLOCK, PATIENCE_S)
        fabric.bind(address, agent.handlers)
    fabric.bind("aggregator/0", Aggregator(configuration.aggregation).handlers)
    fabric.bind("router/0", {RunRequest: found.answer})
    yield found
    await settle()
    assert all(model.calls == 0 for model in found.models.values()), "an upstream call was left open"


async def read_until(stream: AsyncGenerator[StreamItem, None], text: str) -> list[StreamItem]:
    """All items up to the one with which the tokens are this text."""
    items: list[StreamItem] = []
    async for item in stream:
        items.append(item)
        if "".join(i.text for i in items if isinstance(i, Token)) == text:
            return items
    raise AssertionError(f"{text!r} never came")


# --- agreeing, complementary, contradicting ---


async def test_two_agents_that_complement_each_other_give_one_answer() -> None:
    async with panel("billing", "support", **LEADING) as p:
        result = await p.run()
        assert result.content == (
            f"{TEXTS['billing']}\n\n**support**: Keep the box until then.\n\n*Sources: billing, support*"
        )
        assert result.agents == ["billing", "support"]
        assert result.metadata["worker_count"] == 2
        assert result.metadata["validation_rate"] == 1.0
        assert result.usage.total_tokens == 2 * USAGE.total_tokens
        joined = p.events[-1]
        assert (joined.kind, joined.strategy, joined.data["conflicts"]) == (
            "aggregate.finished",
            "intelligent_merge",
            [],
        )


async def test_two_agents_that_agree_give_the_answer_of_one() -> None:
    async with panel("billing", "support", **LEADING) as p:
        p.models["support"].text = TEXTS["billing"]
        result = await p.run()
        assert (result.content, result.agents) == (TEXTS["billing"], ["billing"])
        assert result.metadata["scores"]["billing"]["accuracy"] == 1


async def test_of_three_agents_of_whom_one_contradicts_the_experts_word_stands() -> None:
    async with panel("billing", "support", "shop", **LEADING) as p:
        result = await p.run()
        assert "30 days" not in result.content
        assert {tuple(conflict["statements"]) for conflict in result.metadata["conflicts"]} == {
            ("billing", "shop"),
            ("support", "shop"),
        }
        assert result.metadata["scores"]["shop"]["accuracy"] == 0


async def test_the_majority_of_three_is_the_consensus() -> None:
    async with panel("shop", "billing", "support", strategy="consensus") as p:
        result = await p.run()
        assert result.content == "Refunds take 14 days."
        assert result.metadata["worker_count"] == 3


# --- late and failing ---


async def test_an_agent_that_fails_is_left_out_and_named() -> None:
    async with panel("billing", "support", "shop", **LEADING) as p:
        p.models["shop"].errors = [ModelRejected("bad key")]
        result = await p.run()
        assert result.agents == ["billing", "support"]
        assert result.metadata["failed"] == {"shop": "bad key"}
        assert result.metadata["validation_rate"] == pytest.approx(2 / 3, abs=1e-4)
        assert [(part.agent, part.status) for part in result.parts] == [
            ("billing", "ok"), ("support", "ok"), ("shop", "error"),
        ]  # fmt: skip


async def test_an_agent_that_is_late_is_left_out_and_its_model_is_hung_up_on() -> None:
    async with panel("billing", "support", part_timeout_s=0.02, **LEADING) as p:
        p.models["support"].released.clear()
        result = await p.run()
        assert (result.content, result.agents) == (TEXTS["billing"], ["billing"])
        assert p.models["support"].cancelled == 1
        assert (result.metadata["late"], result.metadata["failed"]) == (["support"], {})
        assert result.parts[1].error == "deadline-exceeded"
        late = next(event for event in p.events if event.error == "deadline-exceeded")
        assert (late.kind, late.agent, late.status) == ("agent.finished", "support", "error")


async def test_the_first_agent_may_be_the_late_one() -> None:
    async with panel("billing", "support", part_timeout_s=0.02, **LEADING) as p:
        p.models["billing"].released.clear()
        result = await p.run()
        assert (result.content, result.agents) == (TEXTS["support"], ["support"])
        assert p.models["billing"].cancelled == 1


async def test_nobody_is_late_before_enough_are_there() -> None:
    async with panel("billing", "support", "shop", part_timeout_s=0.02, min_parts=2) as p:
        p.models["support"].released.clear()
        p.models["shop"].released.clear()
        run = p.start()
        while not any(event.kind == "agent.finished" for event in p.events):
            await asyncio.sleep(0.001)
        p.models["support"].released.set()
        result = await run
        assert result.agents == ["billing", "support"]
        assert result.metadata["late"] == ["shop"]


async def test_the_run_fails_as_soon_as_too_few_can_succeed() -> None:
    async with panel("billing", "support", "shop", min_parts=3) as p:
        p.models["shop"].released.clear()
        p.models["billing"].errors = [ModelRejected("bad key")]
        with pytest.raises(ExecutionError, match=r"of 3 agents answered, 3 must.*billing: bad key") as caught:
            await p.run()
        assert caught.value.details["failed"] == {"billing": "bad key"}
        assert p.models["shop"].cancelled == 1


async def test_of_fewer_agents_than_must_succeed_all_must() -> None:
    async with panel("billing", "support", min_parts=5) as p:
        assert (await p.run()).agents == ["billing", "support"]


async def test_where_all_agents_are_overloaded_so_is_the_run() -> None:
    async with panel("billing", "support") as p:
        p.models["billing"].errors = [Overloaded("full", retry_after_s=2)]
        p.models["support"].errors = [RateLimited("slow down", retry_after_s=7)]
        with pytest.raises(Overloaded, match="no agent answered: billing: full; support: slow down") as caught:
            await p.run()
        assert caught.value.retry_after_s == 7


async def test_where_no_model_is_called_for_a_while_the_run_says_so() -> None:
    async with panel("billing", "support") as p:
        for model in p.models.values():
            model.errors = [CircuitOpen("the model kept failing", retry_after_s=3)]
        with pytest.raises(CircuitOpen):
            await p.run()


async def test_an_empty_answer_is_none() -> None:
    async with panel("billing", "support", min_parts=2) as p:
        p.models["support"].text = ""
        with pytest.raises(ExecutionError, match=r"1 of 2 agents answered, 2 must.*support: empty answer"):
            await p.run()


async def test_a_poisonous_message_fails_the_run_at_once() -> None:
    async with panel("billing", "support") as p:
        p.models["support"].released.clear()
        p.models["billing"].errors = [PoisonMessage("it kills", replicas=[])]
        with pytest.raises(PoisonMessage):
            await p.run()
        assert p.models["support"].cancelled == 1


async def test_cancelling_a_run_cancels_all_its_parts() -> None:
    async with panel("billing", "support") as p:
        for model in p.models.values():
            model.released.clear()
        run = p.start()
        await asyncio.gather(*(model.busy() for model in p.models.values()))
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await asyncio.gather(*(model.busy(0) for model in p.models.values()))


# --- the leading answer ---


async def test_the_leading_answer_is_streamed_while_the_others_are_at_work() -> None:
    async with panel("billing", "support", **LEADING) as p:
        p.models["support"].released.clear()
        stream = p.stream()
        items = await read_until(stream, TEXTS["billing"])
        assert {item.agent for item in items if isinstance(item, Token)} == {"billing"}
        p.models["support"].released.set()
        result = [item async for item in stream][-1]
        assert isinstance(result, RunResult)
        assert result.content.startswith(TEXTS["billing"] + "\n\n**support**: ")
        assert (result.streamed, result.agents) == ("billing", ["billing", "support"])


async def test_what_a_client_reads_of_a_leading_answer_is_the_whole_answer_once() -> None:
    async with panel("billing", "support", **LEADING) as p:
        encoder, said = ChatEncoder("team", "req_1"), ""
        content = ""
        async for item in p.stream():
            if isinstance(item, RunResult):
                content = item.content
                events = encoder.result(item)
            elif isinstance(item, Token):
                events = encoder.token(item)
            else:
                continue
            for line in events.decode().splitlines():
                if line.startswith("data: {"):
                    said += json.loads(line.removeprefix("data: ")).get("content", "")
        assert said == content


async def test_the_streamed_answer_and_the_plain_one_are_the_same() -> None:
    async with panel("support", "billing", "shop", **LEADING) as p:
        plain = await p.run()
        streamed = [item async for item in p.stream()][-1]
        assert isinstance(streamed, RunResult)
        assert streamed.content == plain.content


async def test_a_leading_agent_that_fails_before_it_says_anything_is_left_out() -> None:
    async with panel("billing", "support", **LEADING) as p:
        p.models["billing"].errors = [ModelRejected("bad key")]
        items = [item async for item in p.stream()]
        result = items[-1]
        assert isinstance(result, RunResult)
        assert (result.content, result.streamed) == (TEXTS["support"], "")
        assert result.metadata["failed"] == {"billing": "bad key"}
        assert not any(isinstance(item, Token) and item.agent == "billing" for item in items)


async def test_a_leading_agent_that_breaks_off_while_it_is_read_fails_the_run() -> None:
    async with panel("billing", "support", **LEADING) as p:
        p.models["support"].released.clear()
        billing = p.models["billing"]
        billing.pause_after = billing.break_after = 2
        stream = p.stream()
        await read_until(stream, "Refunds take ")
        billing.resumed.set()
        with pytest.raises(ModelRejected, match="broken off"):
            [item async for item in stream]
        assert p.models["support"].cancelled == 1


async def test_a_leading_agent_that_says_nothing_in_time_is_late() -> None:
    async with panel("billing", "support", part_timeout_s=0.02, **LEADING) as p:
        p.models["billing"].released.clear()
        result = [item async for item in p.stream()][-1]
        assert isinstance(result, RunResult)
        assert (result.content, result.streamed) == (TEXTS["support"], "")
        assert result.metadata["late"] == ["billing"]
        assert p.models["billing"].cancelled == 1


async def test_a_leading_agent_that_is_being_read_is_waited_for() -> None:
    async with panel("billing", "support", "shop", part_timeout_s=0.02, **LEADING) as p:
        billing = p.models["billing"]
        billing.pause_after = 2
        p.models["shop"].released.clear()
        stream = p.stream()
        await read_until(stream, "Refunds take ")
        while not p.models["shop"].cancelled:  # it was late: so is, by now, the leading one
            await asyncio.sleep(0.001)
        billing.resumed.set()
        result = [item async for item in stream][-1]
        assert isinstance(result, RunResult)
        assert result.content.startswith(TEXTS["billing"])
        assert result.streamed == "billing"
        assert result.metadata["late"] == ["shop"]


async def test_where_nobody_leads_nobody_is_streamed_as_the_answer() -> None:
    async with panel("billing", "support", strategy="best_response") as p:
        result = [item async for item in p.stream()][-1]
        assert isinstance(result, RunResult)
        assert result.streamed == ""


async def test_the_question_reaches_every_agent() -> None:
    async with panel("billing", "support") as p:
        await p.run()
        for model in p.models.values():
            assert model.requests[0].messages[-1] == Message("user", "How long do refunds take?")
