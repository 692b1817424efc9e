"""Kept answers through the real ingress, routers and a store: what a client sees of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.whole import Call, Speaker, Whole, whole

from rayflow.app.caches import CacheDesk
from rayflow.messages import CacheCounts

CACHES = {"results": {"enabled": True}}
EXACT = [{"name": "a", "temperature": 0.0, "model": "m"}]
MODELS = [{"name": "m", "provider": "openai", "base_url": "http://127.0.0.1:1/v1"}]
TENANTS = [{"name": "one", "api_keys": ["k1" * 16]}, {"name": "two", "api_keys": ["k2" * 16]}]


def cached(model: Speaker, **sections: Any) -> Any:
    given = {"agents": EXACT, "models": MODELS, "caches": CACHES, **sections}
    return whole(model, **given)


async def ask(system: Whole, text: str, session: str, **headers: str) -> Call:
    body = {"message": text, "conversation_id": session}
    return await Call(system.ingress(), "/chat", body, **headers).done()


async def counts(system: Whole) -> dict[tuple[str, str], CacheCounts]:
    system.ingress()
    return {(each.cache, each.level): each for each in await CacheDesk(system.clients[0]).counts()}


async def test_an_equal_question_gets_the_kept_answer_and_both_are_in_the_session() -> None:
    async with cached(Speaker(3)) as system:
        first = await ask(system, "hello", "s1")
        second = await ask(system, "hello", "s2")
        assert (first.headers["x-rayflow-cache"], second.headers["x-rayflow-cache"]) == ("miss", "hit")
        assert second.json["content"] == first.json["content"] == "hello-0 hello-1 hello-2 "
        assert system.model.calls == 1
        assert second.json["usage"]["total_tokens"] == 0 < first.json["usage"]["total_tokens"]
        assert [turn.message.text for turn in await system.turns("s2")] == ["hello", first.json["content"]]
        ended = [event for event in await system.trail(second.json["run_id"]) if event.kind == "run.finished"]
        assert ended[0].data["cached"] is True and ended[0].prompt_tokens == 0
        assert not [e for e in await system.trail(second.json["run_id"]) if e.kind == "agent.started"]


async def test_what_a_model_would_see_otherwise_is_another_question() -> None:
    async with cached(Speaker(1)) as system:
        for session, text in (("s1", "hello"), ("s1", "hello"), ("s2", "Hello"), ("s3", "hello ")):
            said = await ask(system, text, session)
            assert said.headers["x-rayflow-cache"] == "miss"
        body = {"message": "hello", "system_prompt_override": "Be brief."}
        assert (await Call(system.ingress(), "/chat", body).done()).headers["x-rayflow-cache"] == "miss"
        body = {"message": "hello", "max_tokens": 9}
        assert (await Call(system.ingress(), "/chat", body).done()).headers["x-rayflow-cache"] == "miss"
        assert system.model.calls == 6


async def test_a_hit_streams_like_an_answer() -> None:
    async with cached(Speaker(3)) as system:
        first = await ask(system, "hello", "s1")
        body = {"message": "hello", "conversation_id": "s2", "stream": True}
        stream = await Call(system.ingress(), "/chat", body).done()
        assert stream.text == first.json["content"] and system.model.calls == 1
        usage = next(event["usage"] for event in stream.data if event["type"] == "usage")
        assert usage["cache"] == "hit" and usage["full_content"] == first.json["content"]
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], "stream": True}
        chunks = await Call(system.ingress(), "/v1/chat/completions", body).done()
        assert chunks.headers["x-rayflow-cache"] == "hit"
        said = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks.data if c["choices"])
        assert said == first.json["content"]


@pytest.mark.parametrize(("control", "kept"), [("no-cache", 2), ("no-store", 1)])
async def test_a_request_may_pass_the_cache_by(control: str, kept: int) -> None:
    async with cached(Speaker(1)) as system:
        await ask(system, "hello", "s1")
        again = await ask(system, "hello", "s2", cache_control=control)
        assert again.headers["x-rayflow-cache"] == "bypass" and system.model.calls == 2
        assert (await counts(system))["results", "router"].stores == kept


async def test_the_body_may_say_so_too() -> None:
    async with cached(Speaker(1)) as system:
        await ask(system, "hello", "s1")
        again = await Call(system.ingress(), "/chat", {"message": "hello", "cache": False}).done()
        assert again.headers["x-rayflow-cache"] == "bypass" and system.model.calls == 2


async def test_what_a_model_may_say_otherwise_next_time_is_not_kept() -> None:
    agents = [{"name": "a", "model": "m"}]
    async with cached(Speaker(1), agents=agents) as system:
        for session in ("s1", "s2"):
            assert (await ask(system, "hello", session)).headers["x-rayflow-cache"] == "bypass"
        body = {"message": "hello", "temperature": 0}
        outcomes = [(await Call(system.ingress(), "/chat", body).done()).headers["x-rayflow-cache"] for _ in range(2)]
        assert outcomes == ["miss", "hit"]


async def test_nothing_is_said_of_a_cache_that_is_off() -> None:
    async with whole(Speaker(1)) as system:
        said = await ask(system, "hello", "s1")
        assert "x-rayflow-cache" not in said.headers and "cache" not in said.json["metadata"]["data"]


async def test_two_tenants_never_share_an_answer_whatever_the_scope() -> None:
    async with cached(Speaker(1), tenants=TENANTS) as system:
        for key in ("k1" * 16, "k2" * 16):
            headers = {"authorization": f"Bearer {key}"}
            first, second = [await ask(system, "hello", session, **headers) for session in ("same", "other")]
            assert (first.headers["x-rayflow-cache"], second.headers["x-rayflow-cache"]) == ("miss", "hit")
        assert system.model.calls == 2


@pytest.mark.parametrize(
    ("scope", "same", "other"), [("tenant", "hit", "hit"), ("user", "hit", "miss"), ("session", "miss", "miss")]
)
async def test_the_scope_says_who_may_share(scope: str, same: str, other: str) -> None:
    async with cached(Speaker(1), caches={"results": {"enabled": True, "scope": scope}}) as system:
        outcomes = []
        for user in ("ann", "ann", "bob"):
            said = await Call(system.ingress(), "/chat", {"message": "hello", "user_id": user}).done()
            outcomes.append(said.headers["x-rayflow-cache"])
        assert outcomes == ["miss", same, other]


async def test_equal_questions_at_once_are_asked_once() -> None:
    model = Speaker(1, free=0)
    async with cached(model) as system:
        calls = [Call(system.ingress(), "/chat", {"message": "hello"}) for _ in range(5)]
        while not model.open:
            await asyncio.sleep(0)
        model.say()
        done = await asyncio.gather(*(call.done() for call in calls))
        assert model.calls == 1
        assert sorted(call.headers["x-rayflow-cache"] for call in done) == ["hit"] * 4 + ["miss"]


async def test_forgotten_answers_are_given_by_no_router() -> None:
    async with cached(Speaker(1)) as system:
        await ask(system, "hello", "s1")
        given = (("agent=b", 404, "hit"), ("agent=a", 204, "miss"), ("", 204, "miss"), ("workflow=x", 404, "hit"))
        for number, (query, status, outcome) in enumerate(given, 2):
            call = Call(system.ingress(), "/v1/caches/results", method="DELETE", query=query)
            assert (await call.done()).status == status
            assert (await ask(system, "hello", f"s{number}")).headers["x-rayflow-cache"] == outcome
        await CacheDesk(system.clients[0]).forget_everything()
        assert (await ask(system, "hello", "s9")).headers["x-rayflow-cache"] == "miss"


async def test_one_tenant_does_not_forget_for_another() -> None:
    async with cached(Speaker(1), tenants=TENANTS) as system:
        one, two = ({"authorization": f"Bearer {key * 16}"} for key in ("k1", "k2"))
        for headers in (one, two):
            await ask(system, "hello", "s1", **headers)
        await Call(system.ingress(), "/v1/caches/results", method="DELETE", **one).done()
        assert (await ask(system, "hello", "s2", **one)).headers["x-rayflow-cache"] == "miss"
        assert (await ask(system, "hello", "s2", **two)).headers["x-rayflow-cache"] == "hit"


async def test_an_answer_on_its_way_when_all_were_forgotten_is_not_given_later() -> None:
    model = Speaker(1, free=0)
    async with cached(model) as system:
        asking = Call(system.ingress(), "/chat", {"message": "hello"})
        while not model.open:
            await asyncio.sleep(0)
        await CacheDesk(system.clients[0]).forget("")
        model.say(2)
        assert (await asking.done()).status == 200
        assert (await ask(system, "hello", "s2")).headers["x-rayflow-cache"] == "miss"


async def test_every_level_is_found_and_promoted() -> None:
    async with cached(Speaker(1)) as system:
        await ask(system, "hello", "s1")
        results = system.router._stages.results
        assert results is not None and results._near is not None
        await ask(system, "hello", "s2")
        results._near._kept.clear()
        assert (await ask(system, "hello", "s3")).headers["x-rayflow-cache"] == "hit"
        assert len(results._near) == 1, "promoted"
        results._near._kept.clear()
        assert system.kept is not None and system.kept._memory is not None
        system.kept._memory._kept.clear()
        assert (await ask(system, "hello", "s4")).headers["x-rayflow-cache"] == "hit"
        assert len(results._near) == len(system.kept._memory) == 1
        seen = await counts(system)
        assert (seen["results", "router"].hits, seen["results", "router"].misses) == (1, 3)
        assert (seen["results", "shared"].hits, seen["results", "shared"].misses) == (1, 2)
        assert (seen["results", "store"].hits, seen["results", "store"].misses) == (1, 1)
        assert system.model.calls == 1


async def test_the_api_tells_how_caches_fare() -> None:
    async with cached(Speaker(1)) as system:
        for session in ("s1", "s2"):
            await ask(system, "hello", session)
        call = await Call(system.ingress(), "/v1/caches", method="GET").done()
        found = {(each["cache"], each["level"]): each for each in json.loads(call.received)["caches"]}
        assert found["results", "router"]["hits"] == 1 and found["results", "router"]["entries"] == 1
        assert found["context", "router"]["hits"] == 2


async def test_a_scrape_tells_how_caches_fare() -> None:
    async with cached(Speaker(1)) as system:
        for session in ("s1", "s2"):
            await ask(system, "hello", session)
        text = (await Call(system.ingress(), "/metrics", method="GET").done()).received.decode()
        assert 'rayflow_cache_lookups_total{cache="results",level="router",outcome="hit"} 1.0' in text
        assert 'rayflow_cache_stores_total{cache="results",level="shared"} 1.0' in text
        assert 'rayflow_cache_entries{cache="results",level="router"} 1.0' in text
