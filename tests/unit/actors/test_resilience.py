"""Models and agents fail: calls are repeated within a budget, a dead model is left alone, and somebody else answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from actor_doubles import PATIENCE_S, HeldModel, Team, bind_agent, config, hearing, settle, team

from rayflow.actors import pools
from rayflow.chat import ModelChunk, ModelRequest
from rayflow.config.schema import BalancingConfig, WorkflowConfig
from rayflow.errors import (
    CircuitOpen,
    DeadlineExceeded,
    ModelError,
    ModelRateLimited,
    ModelRejected,
    Overloaded,
    PeerLost,
    WorkflowError,
)
from rayflow.events import Event
from rayflow.messages import Token, VoidAttempt, Voided
from rayflow.policies.budget import WINDOW_S

AT_ONCE = {"strategy": "simple", "max_attempts": 3}
ONCE = {"max_attempts": 1}
MODELS = [{"name": "large", "retries": ONCE}, {"name": "small", "retries": ONCE}]
OFF = {"breaker": {"enabled": False}}
BOTH = {"rules": [{"keywords": ["both"], "target_agents": ["a", "b"]}]}


def one(
    *, retries: dict[str, Any] = AT_ONCE, breaker: dict[str, Any] | None = None, **resilience: Any
) -> WorkflowConfig:
    """An agent with one model."""
    return config(
        {"name": "a", "model": "large"},
        models=[{"name": "large", "retries": retries}],
        resilience={"breaker": breaker or {}, **resilience},
    )


@asynccontextmanager
async def chained(
    a: dict[str, Any], b: dict[str, Any] | None = None, *, replicas: bool = True, **sections: Any
) -> AsyncIterator[tuple[Team, HeldModel, HeldModel]]:
    """Agents a and b with models `large`; the team, its agents' models, and `small`, which nobody has as its own."""
    sections = {"models": MODELS, "routing": BOTH, **sections}
    agents = [{"name": "a", "model": "large", **a}, {"name": "b", "model": "large", **(b or {})}]
    async with team(config(*agents, **sections), model=lambda name: HeldModel(f"from {name}"), replicas=replicas) as t:
        t.models["small"] = HeldModel("from small")
        yield t, t.models["a"], t.models["small"]


async def failing(t: Team, runs: int) -> list[WorkflowError]:
    """So many runs, one after the other, and what each of them raised."""
    errors = []
    for i in range(runs):
        with pytest.raises(WorkflowError) as caught:
            await t.run("hello", f"sess_{i}", agent="a")
        errors.append(caught.value)
    return errors


def down(times: int = 1000, error: type[ModelError] = ModelError, **details: Any) -> list[BaseException]:
    return [error("down", **details) for _ in range(times)]


def told(trail: Iterable[Event], *kinds: str) -> list[str]:
    return [event.kind for event in trail if event.kind.startswith(kinds or ("agent.", "breaker."))]


async def everything(t: Team) -> list[Event]:
    t.router._outbox.flush()
    await settle()
    return t.events


# --- retries ---


async def test_a_failing_model_is_called_again_and_the_failure_is_only_in_the_log() -> None:
    async with team(one()) as t:
        bind_agent(t, "a", 1)
        t.models["a"].errors = down(2)
        result = await t.run(agent="a")
        assert result.content == "done"
        assert len(t.models["a"].requests) == 3
        trail = [e for e in await t.trail(result.run_id) if e.kind.startswith("agent.")]
        assert [(e.kind, e.error, e.attempt) for e in trail] == [
            ("agent.started", "", 1),
            ("agent.retried", "model-failed", 2),
            ("agent.started", "", 2),
            ("agent.retried", "model-failed", 3),
            ("agent.started", "", 3),
            ("agent.finished", "", 3),
        ]
        asked = [e.replica for e in trail if e.kind == "agent.started"]
        assert asked[0] != asked[1], "its endpoint may be another one"


async def test_a_model_that_keeps_failing_is_called_so_often_and_no_more() -> None:
    async with team(one()) as t:
        t.models["a"].errors = [ModelError(f"busy {i}") for i in range(9)]
        with pytest.raises(ModelError, match="busy 2"):
            await t.run(agent="a")


async def test_calls_that_all_fail_are_tried_again_within_the_configured_budget_only() -> None:
    runs, floor = 100, 0.5
    async with team(one(breaker={"enabled": False}, retry_share=0.1, retry_floor_per_s=floor)) as t:
        t.models["a"].errors = down()
        await failing(t, runs)
        calls = len(t.models["a"].requests)
        assert calls == pytest.approx(1.1 * runs + floor * WINDOW_S, abs=1)


async def test_a_refusal_is_not_tried_again() -> None:
    async with team(one()) as t:
        t.models["a"].errors = down(error=ModelRejected)
        await failing(t, 1)
        assert len(t.models["a"].requests) == 1


async def test_what_the_endpoint_asks_for_beyond_the_deadline_is_not_waited_for() -> None:
    async with team(one()) as t:
        t.models["a"].errors = down(error=ModelRateLimited, retry_after_s=1000)
        await failing(t, 1)
        assert len(t.models["a"].requests) == 1


async def test_of_several_parts_only_the_one_that_failed_is_repeated() -> None:
    async with team(config(routing=BOTH)) as t:
        t.models["a"].errors = down(1)
        result = await t.run("both")
        assert [part.status for part in result.parts] == ["ok", "ok"]
        assert [len(t.models[name].requests) for name in "ab"] == [2, 1]
        assert len(await t.turns()) == 2


# --- the breaker ---


async def test_a_model_that_fails_in_a_row_is_not_called_any_more() -> None:
    async with team(one(retries=ONCE, breaker={"consecutive_failures": 3})) as t:
        model = t.models["a"]
        model.errors = down()
        assert [type(error) for error in await failing(t, 5)] == [ModelError] * 3 + [CircuitOpen] * 2
        assert len(model.requests) == 3
        refusal = (await failing(t, 1))[0]
        assert refusal.retry_after_s == pytest.approx(10.0, abs=1.5)
        assert refusal.status == 503
        assert "model-failed" in refusal.message
        trail = await everything(t)
        (opened,) = [event for event in trail if event.kind.startswith("breaker.")]
        assert (opened.kind, opened.model, opened.error) == ("breaker.opened", "large", "model-failed")
        assert opened.data == {"failures": 3, "open_s": 10.0, "probe": False}
        assert told(trail, "agent.started") == ["agent.started"] * 3, "no replica was touched"


async def test_an_agent_learns_from_the_failures_of_another_one_with_the_same_model() -> None:
    async with chained({}, resilience={"breaker": {"consecutive_failures": 2}}) as (t, a, _):
        a.errors = down()
        await failing(t, 2)
        with pytest.raises(CircuitOpen):
            await t.run(agent="b")
        assert not t.models["b"].requests


async def test_an_open_breaker_stops_the_retries_that_are_under_way() -> None:
    async with team(one(retries={"strategy": "simple", "max_attempts": 9}, breaker={"consecutive_failures": 2})) as t:
        t.models["a"].errors = down()
        assert [type(error) for error in await failing(t, 1)] == [ModelError]
        assert len(t.models["a"].requests) == 2


async def test_a_run_that_waited_for_a_replica_meets_the_breaker_before_it() -> None:
    busy = config(
        {"name": "a", "model": "large", "replicas": {"max_in_flight": 1}},
        models=[{"name": "large", "retries": ONCE}],
        resilience={"breaker": {"consecutive_failures": 1}},
    )

    class Dying(HeldModel):
        async def _work(self, request: ModelRequest) -> None:
            await super()._work(request)
            raise ModelError("down")

    async with team(busy, model=lambda _: Dying(held=True)) as t:
        runs = [t.start("hello", f"sess_{i}", agent="a") for i in range(3)]
        await t.models["a"].busy()
        await settle()
        t.models["a"].released.set()
        errors = await asyncio.wait_for(asyncio.gather(*runs, return_exceptions=True), PATIENCE_S)
        assert sorted(type(error).__name__ for error in errors) == ["CircuitOpen", "CircuitOpen", "ModelError"]
        assert len(t.models["a"].requests) == 1


@pytest.mark.parametrize("error", [ModelRejected, ModelRateLimited])
async def test_a_refusal_of_one_request_opens_nothing(error: type[ModelError]) -> None:
    async with team(one(retries=ONCE, breaker={"consecutive_failures": 2})) as t:
        t.models["a"].errors = down(error=error)
        assert {type(raised) for raised in await failing(t, 6)} == {error}


SHORT = {"consecutive_failures": 2, "open_s": 0.02, "max_open_s": 0.02}


async def until_tried(t: Team, model: HeldModel) -> asyncio.Task[Any]:
    """A run that got through to the model, as soon as one does."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            run = t.start("hello", "sess_p", agent="a")
            reached = asyncio.create_task(model.busy())
            await asyncio.wait({run, reached}, return_when=asyncio.FIRST_COMPLETED)
            if reached.done():
                return run
            reached.cancel()
            assert isinstance(run.exception(), CircuitOpen)
            await asyncio.sleep(0.001)


async def test_one_probe_goes_through_and_closes_the_breaker_with_its_answer() -> None:
    async with team(one(retries=ONCE, breaker=SHORT), model=lambda _: HeldModel(held=True)) as t:
        model = t.models["a"]
        model.errors = down(2)
        await failing(t, 2)
        probe = await until_tried(t, model)
        refused = await failing(t, 5)
        assert {type(error) for error in refused} == {CircuitOpen}
        assert len(model.requests) == 3
        model.released.set()
        await probe
        await asyncio.gather(*(t.run("hello", f"sess_{i}", agent="a") for i in range(5)))
        assert told(await everything(t), "breaker.") == ["breaker.opened", "breaker.closed"]


async def test_a_probe_that_is_cancelled_gives_its_place_to_the_next_one() -> None:
    async with team(one(retries=ONCE, breaker=SHORT), model=lambda _: HeldModel(held=True)) as t:
        model = t.models["a"]
        model.errors = down(2)
        await failing(t, 2)
        probe = await until_tried(t, model)
        probe.cancel()
        await asyncio.wait({probe})
        await model.busy(0)
        second = t.start("hello", "sess_q", agent="a")
        await model.busy()
        model.released.set()
        await second


async def test_an_endpoint_that_names_a_wait_is_left_alone_by_all() -> None:
    async with team(one(retries=ONCE)) as t:
        model = t.models["a"]
        model.errors = down(1, ModelRateLimited, retry_after_s=30)
        first, second = await failing(t, 2)
        assert isinstance(second, ModelRateLimited)
        assert second.status == first.status == 429
        assert second.retry_after_s == pytest.approx(30, abs=2)
        assert len(model.requests) == 1
        assert told(await everything(t), "breaker.") == ["breaker.cooling"]


# --- fallback ---


async def test_another_model_answers_for_the_one_that_failed() -> None:
    async with chained({"fallback_models": ["small"], "system_prompt": "be kind"}) as (t, own, small):
        own.errors = down()
        result = await t.run(agent="a")
        assert (result.content, result.agents) == ("from small", ["a"])
        assert small.requests[0].messages[0].text == "be kind"
        trail = [event for event in await t.trail(result.run_id) if event.kind.startswith("agent.")]
        assert [event.kind for event in trail] == ["agent.started", "agent.fallback", "agent.started", "agent.finished"]
        assert (trail[1].error, trail[1].attempt) == ("model-failed", 2)
        assert trail[1].data == {"agent": "a", "model": "small"}


async def test_an_open_model_is_passed_over_without_a_call() -> None:
    async with chained({"fallback_models": ["small"]}, resilience={"breaker": {"consecutive_failures": 1}}) as (
        t, own, small,
    ):  # fmt: skip
        own.errors = down()
        for i in range(5):
            assert (await t.run("hello", f"sess_{i}", agent="a")).content == "from small"
        assert (len(own.requests), len(small.requests)) == (1, 5)


async def test_a_model_that_wants_to_be_left_alone_is_passed_over_too() -> None:
    patient = [{"name": "large", "retries": AT_ONCE}, {"name": "small"}]
    async with chained({"fallback_models": ["small"]}, models=patient) as (t, own, _):
        own.errors = down(error=ModelRateLimited, retry_after_s=1)
        for i in range(3):
            assert (await t.run("hello", f"sess_{i}", agent="a")).content == "from small"
        assert len(own.requests) == 1, "and nobody waits for it"


async def test_another_agent_answers_when_all_models_have_failed() -> None:
    async with chained({"fallback_models": ["small"], "fallback_agent": "b"}) as (t, own, small):
        own.errors, small.errors = down(), down()
        result = await t.run(agent="a")
        assert (result.content, result.agents) == ("from b", ["b"])
        assert [(part.agent, part.instead_of, part.status) for part in result.parts] == [("b", "a", "ok")]
        finished = [event for event in await t.trail(result.run_id) if event.kind == "agent.finished"]
        assert [(event.agent, event.attempt) for event in finished] == [("b", 3)]
        assert await t.turns() == [("user", "hello"), ("assistant", "from b")]


async def test_when_everybody_has_failed_the_last_error_is_told() -> None:
    async with chained({"fallback_agent": "b"}) as (t, own, _):
        own.errors = down()
        t.models["b"].errors = [ModelError("b is down")]
        with pytest.raises(ModelError, match="b is down"):
            await t.run(agent="a", run_id="run_1")
        last = [event for event in await t.trail("run_1") if event.kind == "agent.finished"]
        assert [(event.agent, event.status) for event in last] == [("b", "error")]


async def test_an_agent_without_a_replica_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "EMPTY_POOL_S", 0.01)
    async with chained({"fallback_models": ["small"], "fallback_agent": "b"}, replicas=False) as (t, _, small):
        bind_agent(t, "b")
        assert (await t.run(agent="a")).agents == ["b"]
        assert not small.requests


async def test_an_agent_that_takes_too_long_is_replaced_within_the_run() -> None:
    async with chained({"timeout_s": 0.1, "fallback_models": ["small"], "fallback_agent": "b"}) as (t, own, small):
        own.released.clear()
        assert (await t.run(agent="a")).agents == ["b"]
        await own.busy(0)
        assert own.cancelled == 1
        assert not small.requests, "its time is over, whatever the model"


async def test_a_step_has_no_more_time_than_its_agent_is_given() -> None:
    async with chained({"timeout_s": 0.05}) as (t, own, _):
        own.released.clear()
        with pytest.raises(DeadlineExceeded):
            await t.run(agent="a")


async def test_a_full_agent_is_no_failed_one() -> None:
    small_pool = {"replicas": {"max_in_flight": 1}, "fallback_agent": "b"}
    async with chained(small_pool, processing={"max_queue": 0}, resilience={"degraded_message": "Sorry."}) as (
        t, own, _,
    ):  # fmt: skip
        own.released.clear()
        first = t.start("hello", "sess_1", agent="a")
        await own.busy()
        with pytest.raises(Overloaded):
            await t.run("hello", "sess_2", agent="a")
        own.released.set()
        await first


async def test_a_message_over_which_a_replica_died_goes_to_no_other_agent() -> None:
    careful = {"retry_share": 0.0, "retry_floor_per_s": 0.0}
    async with chained({"fallback_agent": "b"}, resilience=careful) as (t, own, _):
        own.released.clear()
        run = t.start("hello", agent="a")
        await own.busy()
        t.fabric.unbind("agent/a/0")
        with pytest.raises(PeerLost):
            await run
        assert not t.models["b"].requests


async def test_an_agent_that_has_a_part_of_the_run_is_not_asked_for_another() -> None:
    async with chained({"fallback_agent": "b"}) as (t, own, _):
        own.errors = down()
        result = await t.run("both")
        assert [(part.agent, part.status) for part in result.parts] == [("a", "error"), ("b", "ok")]
        assert len(t.models["b"].requests) == 1


# --- streams ---


async def test_a_stream_that_has_not_begun_goes_on_elsewhere() -> None:
    async with chained({"fallback_agent": "b"}) as (t, own, _):
        voided: list[VoidAttempt] = []
        attempts: list[tuple[str, int]] = []

        def void(message: VoidAttempt) -> Voided:
            voided.append(message)
            return Voided(0)

        t.fabric.bind(
            "client/0",
            {VoidAttempt: void},
            hearing(t.heard.append, lambda opening: attempts.append((opening.agent, opening.attempt))),
        )
        own.errors = down()
        result = await t.run(agent="a", client="client/0", stream=True)
        await settle()
        assert (result.content, result.streamed) == ("fromb", "b")
        assert voided == [VoidAttempt(result.run_id, "a", 1)]
        assert attempts == [("b", 2)]
        assert {token.agent for token in t.heard if isinstance(token, Token)} == {"b"}


class Cut(HeldModel):
    """Says something, and breaks."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        await self._work(request)
        yield ModelChunk(("half",))
        raise ModelError("cut")


async def test_a_stream_that_somebody_has_seen_ends_with_its_error() -> None:
    async with chained(
        {"fallback_models": ["small"], "fallback_agent": "b"},
        models=[{"name": "large", "retries": AT_ONCE}, {"name": "small"}],
        resilience={"degraded_message": "Sorry."},
    ) as (t, _, small):
        t.fabric.bind("client/0", {VoidAttempt: lambda _: Voided(len(t.heard))}, hearing(t.heard.append))
        cut = Cut()
        bind_agent(t, "a", 0, cut)
        with pytest.raises(ModelError, match="cut"):
            await t.run(agent="a", client="client/0", stream=True)
        assert [token.text for token in t.heard if isinstance(token, Token)] == ["half"]
        assert [len(model.requests) for model in (cut, small, t.models["b"])] == [1, 0, 0]


# --- degradation ---


async def test_at_last_a_message_answers_and_says_that_it_is_one() -> None:
    async with chained({"fallback_agent": "b"}, resilience={"degraded_message": "We are sorry."}) as (t, own, _):
        own.errors, t.models["b"].errors = down(), down()
        result = await t.run(agent="a")
        assert (result.content, result.finish_reason, result.metadata["degraded"]) == ("We are sorry.", "stop", True)
        assert await t.turns() == [("user", "hello"), ("assistant", "We are sorry.")]
        assert told(await t.trail(result.run_id), "agent.fallback") == ["agent.fallback"] * 2
        own.errors, t.models["b"].errors = [], []
        assert "degraded" not in (await t.run(agent="a")).metadata


async def test_a_refusal_by_an_open_breaker_degrades_as_well() -> None:
    async with team(one(retries=ONCE, breaker={"consecutive_failures": 1}, degraded_message="Sorry.")) as t:
        t.models["a"].errors = down()
        assert [(await t.run("hello", f"sess_{i}", agent="a")).content for i in range(3)] == ["Sorry."] * 3
        assert len(t.models["a"].requests) == 1


# --- hedging ---


@asynccontextmanager
async def hedging(replicas: int = 2, **more: Any) -> AsyncIterator[tuple[Team, list[HeldModel]]]:
    """Replicas of one agent after enough quick answers; from now on, the first one to be asked is slow."""
    settings = {"enabled": True, "min_calls": 1, "quantile": 0.5}
    in_turn = {"balancing": BalancingConfig(strategy="round_robin")}
    async with team(one(hedging=settings, **more).model_copy(update=in_turn), replicas=False) as t:
        models = [HeldModel(f"from {i}") for i in range(replicas)]
        for i, model in enumerate(models):
            bind_agent(t, "a", i, model)
        await t.run("hello", "sess_0", agent="a")
        yield t, models


def asked(models: list[HeldModel]) -> list[int]:
    return [len(model.requests) for model in models]


async def test_a_second_replica_answers_for_a_slow_one_and_the_slow_one_is_called_off() -> None:
    async with hedging() as (t, models):
        slow = models[0]
        slow.released.clear()
        results = [await asyncio.wait_for(t.run("hello", f"s{i}", agent="a"), PATIENCE_S) for i in range(10)]
        assert {result.content for result in results} == {"from 1"}
        await slow.busy(0)
        trails = [await t.trail(result.run_id) for result in results]
        (hedged, *_) = [trail for trail in trails if told(trail, "agent.hedged")]
        assert told(hedged, "agent.") == ["agent.started", "agent.hedged", "agent.finished"]
        (lost,) = [event for event in hedged if event.kind == "model.finished"]
        (won,) = [event for event in hedged if event.kind == "agent.finished"]
        assert (lost.status, won.status, won.model) == ("cancelled", "ok", "held")
        assert lost.replica != won.replica
        ended = [event.replica for event in hedged if event.kind in ("agent.started", "agent.finished")]
        assert ended == ["agent/a/0", "agent/a/1"]
        assert await t.turns("s0") == [("user", "hello"), ("assistant", "from 1")], "one answer"
        assert slow.cancelled == sum(bool(told(trail, "agent.hedged")) for trail in trails)


async def test_streams_are_not_hedged() -> None:
    async with hedging() as (t, models):
        before = sum(asked(models))
        for model in models:
            model.released.clear()
        run = t.start("hello", "s", agent="a", client="client/0", stream=True)
        slow = await first_busy(models)
        await asyncio.sleep(0.05)
        assert sum(asked(models)) == before + 1
        slow.released.set()
        await run


async def test_nobody_is_hedged_against_itself() -> None:
    async with hedging(replicas=1) as (t, models):
        models[0].released.clear()
        run = t.start("hello", "s", agent="a")
        await models[0].busy()
        await asyncio.sleep(0.05)
        assert models[0].calls == 1
        models[0].released.set()
        await run


async def test_second_calls_come_out_of_the_retry_budget() -> None:
    async with hedging(retry_share=0.0, retry_floor_per_s=0.0) as (t, models):
        for model in models:
            model.released.clear()
        run = t.start("hello", "s", agent="a")
        slow = await first_busy(models)
        await asyncio.sleep(0.05)
        assert sum(model.calls for model in models) == 1
        slow.released.set()
        await run


async def first_busy(models: list[HeldModel]) -> HeldModel:
    async with asyncio.timeout(PATIENCE_S):
        while not any(model.calls for model in models):
            await asyncio.sleep(0)
    return next(model for model in models if model.calls)
