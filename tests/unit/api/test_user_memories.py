"""What a person tells in one session is known in another one of theirs, and of nobody else's; until it is erased."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from rayflow.app.context_view import view
from rayflow.chat import ModelReply, ModelRequest, Usage
from tests.support.whole import Call, Speaker, Whole, whole

ACME, GLOBEX = "rf_key_of_acme", "rf_key_of_globex"
TENANTS = [{"name": "acme", "api_keys": [ACME]}, {"name": "globex", "api_keys": [GLOBEX]}]
ON = {"enabled": True}
AGENTS = [
    {"name": "a"},
    {"name": "off", "memory": {"enabled": False}},
    {"name": "own", "memory": {"private": True}},
    {"name": "facts", "memory": {"kinds": ["long_term"]}},
]


class Listener(Speaker):
    """A model that keeps what it was told, and answers at once."""

    def __init__(self, answer: str = "Well.") -> None:
        super().__init__(words=1)
        self.told: list[str] = []
        self.answer = answer

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.told.append("\n".join(message.text for message in request.messages))
        return ModelReply(self.answer, "stop", Usage(1, 1), "listener")


async def ask(world: Whole, method: str, path: str, body: Any = None, key: str = "") -> Call:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    if body is not None:
        headers["content_length"] = str(len(json.dumps(body)))
    return await Call(world.ingress(), path, body, method, **headers).done()


async def chat(world: Whole, message: str, session: str, user: str = "ann", key: str = "", **more: Any) -> None:
    body = {"message": message, "session_id": session, "user_id": user, **more}
    done = await ask(world, "POST", "/chat", body, key)
    assert done.status == 200, done.received


async def memories(world: Whole, user: str = "ann", key: str = "") -> list[str]:
    listed = await ask(world, "GET", f"/users/{user}/memories", key=key)
    assert listed.status == 200, listed.received
    return [memory["text"] for memory in listed.json["memories"]]


async def until(met: Callable[[], Any]) -> None:
    """What is remembered is stored behind the answer."""
    async with asyncio.timeout(10):
        while not await met():
            await asyncio.sleep(0)


async def told(world: Whole, message: str, session: str, user: str = "ann", key: str = "", **more: Any) -> None:
    """Say something, and wait until it is remembered."""
    before = len(await memories(world, user, key))
    await chat(world, message, session, user, key, **more)

    async def grown() -> bool:
        return len(await memories(world, user, key)) > before

    await until(grown)


async def test_a_fact_told_in_one_session_is_known_in_the_next_and_gone_after_erasure() -> None:
    model = Listener()
    async with whole(model, memory=ON) as world:
        await told(world, "I am allergic to peanuts.", "monday")

        await chat(world, "What shall I cook tonight?", "friday")
        assert "the user said: I am allergic to peanuts." in model.told[-1]
        shown = await view(world.clients[0], "", "friday", "Anything with nuts?")
        [why] = [p.inclusion.why for p in shown.context.pieces if "peanuts" in p.message.text]
        assert why.startswith("memory mem_") and "short_term" in why
        await chat(world, "What shall I cook tonight?", "friday", user="bob")
        assert "peanuts" not in model.told[-1]
        await chat(world, "What shall I cook tonight?", "another", user="bob")
        assert "peanuts" not in model.told[-1]

        erased = await ask(world, "DELETE", "/users/ann")
        assert erased.json["sessions"] == 2 and erased.json["memories"] >= 2
        await chat(world, "What shall I cook tonight?", "sunday")
        assert "peanuts" not in model.told[-1]


async def test_without_memory_nothing_is_kept_and_the_routes_say_how_to_have_it() -> None:
    model = Listener()
    async with whole(model) as world:
        await chat(world, "I am allergic to peanuts.", "monday")
        await chat(world, "What shall I cook tonight?", "friday")

        assert "peanuts" not in model.told[-1]
        refused = await ask(world, "GET", "/users/ann/memories")
        assert (refused.status, "memory.enabled" in refused.json["detail"]) == (404, True)


async def test_requests_without_a_user_have_no_memory() -> None:
    model = Listener()
    async with whole(model, memory=ON) as world:
        await ask(world, "POST", "/chat", {"message": "I am allergic to peanuts.", "session_id": "monday"})
        await ask(world, "POST", "/chat", {"message": "What shall I cook?", "session_id": "friday"})
        await world.router.drain(5)

        assert "peanuts" not in model.told[-1]
        assert not [event for event in world.events if event.kind.startswith("memory.")]


async def test_two_tenants_with_the_same_users_sessions_and_questions_never_see_each_other() -> None:
    model = Listener()
    async with whole(model, memory=ON, tenants=TENANTS) as world:
        for key, place in ((ACME, "Graz"), (GLOBEX, "Oslo")):
            await told(world, f"I live in {place}, remember that.", "s", key=key)
            await ask(world, "PATCH", "/users/ann/preferences", {"language": place}, key)
        for key, mine, other in ((ACME, "Graz", "Oslo"), (GLOBEX, "Oslo", "Graz")):
            await chat(world, "Where do I live?", "s2", key=key)
            seen = [
                model.told[-1].encode(),
                (await ask(world, "GET", "/users/ann/memories", key=key)).received,
                (await ask(world, "POST", "/users/ann/memories/search", {"query": "Graz Oslo live"}, key)).received,
                (await ask(world, "GET", "/users/ann/preferences", key=key)).received,
            ]
            for body in seen:
                assert mine.encode() in body and other.encode() not in body, body
        theirs = json.loads((await ask(world, "GET", "/users/ann/memories", key=GLOBEX)).received)["memories"]

        assert (await ask(world, "DELETE", f"/users/ann/memories/{theirs[0]['id']}", key=ACME)).status == 404
        await ask(world, "DELETE", "/users/ann", key=ACME)

        assert await memories(world, key=ACME) == []
        assert (await ask(world, "GET", "/users/ann/preferences", key=ACME)).json["preferences"] == {}
        assert any("Oslo" in text for text in await memories(world, key=GLOBEX))
        assert (await ask(world, "GET", "/users/ann/preferences", key=GLOBEX)).json["preferences"] == {
            "language": "Oslo"
        }


async def test_the_memory_of_a_workflow_is_its_agents_unless_one_is_different() -> None:
    model = Listener()
    async with whole(model, memory=ON, agents=AGENTS) as world:
        await told(world, "I am allergic to peanuts.", "s1", agent="a")
        await told(world, "I am afraid of peanut butter.", "s2", agent="own")
        await chat(world, "I hate peanut oil.", "s3", agent="off")
        await world.router.drain(5)
        assert not any("oil" in text for text in await memories(world))


async def test_each_agent_is_told_what_is_its() -> None:
    model = Listener()
    async with whole(model, memory=ON, agents=AGENTS) as world:
        await told(world, "I am allergic to peanuts.", "s1", agent="a")
        await told(world, "I am afraid of peanut butter.", "s2", agent="own")
        heard = {}
        for number, agent in enumerate(["a", "off", "own", "facts"]):
            await chat(world, "Do peanuts suit me?", f"q{number}", agent=agent)
            heard[agent] = ("allergic" in model.told[-1], "afraid" in model.told[-1])

        assert heard == {"a": (True, False), "off": (False, False), "own": (True, True), "facts": (False, False)}


async def test_preferences_of_the_user_go_to_models_and_those_of_the_session_win() -> None:
    model = Listener()
    async with whole(model, memory=ON) as world:
        changed = await ask(
            world, "PATCH", "/users/ann/preferences", {"language": "German", "expertise_level": "expert"}
        )
        assert changed.json["preferences"] == {"language": "German", "expertise_level": "expert"}
        await ask(
            world,
            "POST",
            "/sessions",
            {"session_id": "s", "user_id": "ann", "metadata": {"preferences": {"language": "French"}}},
        )

        await chat(world, "Hello there", "s")

        assert "language: French" in model.told[-1] and "German" not in model.told[-1]
        assert "expertise level: expert" in model.told[-1]
        after = await ask(world, "PATCH", "/users/ann/preferences", {"language": None})
        assert after.json["preferences"] == {"expertise_level": "expert"}
        assert (await ask(world, "DELETE", "/users/ann/preferences")).status == 204
        assert (await ask(world, "GET", "/users/ann/preferences")).json == {"user_id": "ann", "preferences": {}}


async def test_preferences_changed_at_once_are_all_kept() -> None:
    async with whole(Listener()) as world:
        changes = [ask(world, "PATCH", "/users/ann/preferences", {f"key{n}": n}) for n in range(4)]
        assert {done.status for done in await asyncio.gather(*changes)} == {200}

        kept = (await ask(world, "GET", "/users/ann/preferences")).json["preferences"]
        assert kept == {f"key{n}": n for n in range(4)}


@pytest.mark.parametrize("body", [[], {"x" * 65: 1}, {f"k{n}": n for n in range(51)}, {"k": "x" * 17_000}])
async def test_preferences_have_limits(body: Any) -> None:
    async with whole(Listener()) as world:
        assert (await ask(world, "PATCH", "/users/ann/preferences", body)).status == 400


async def test_memories_can_be_added_searched_consolidated_and_forgotten_by_hand() -> None:
    async with whole(Listener(), memory=ON) as world:
        made = await ask(
            world, "POST", "/users/ann/memories", {"text": "I live in Graz.", "kind": "short_term", "importance": 0.9}
        )
        assert (made.status, made.json["subject"], made.json["importance"]) == (201, "home", 0.9)
        assert (await ask(world, "POST", "/users/ann/memories", {"text": "I live in Graz"})).status == 409
        await ask(world, "POST", "/users/ann/memories", {"text": "The parcel is lost", "tags": ["post"]})

        found = (await ask(world, "POST", "/users/ann/memories/search", {"query": "where is home?"})).json["found"]
        assert [each["memory"]["id"] for each in found] == [made.json["id"]]
        tagged = {"query": "parcel or Graz", "tags": ["post"]}
        found = (await ask(world, "POST", "/users/ann/memories/search", tagged)).json["found"]
        assert [each["memory"]["text"] for each in found] == ["The parcel is lost"]

        done = await ask(world, "POST", "/users/ann/memories/consolidate")
        assert done.json == {"promoted": 1, "forgotten": 0, "facts": 0, "skills": 0}
        assert (await ask(world, "DELETE", f"/users/ann/memories/{made.json['id']}")).status == 204
        assert (await ask(world, "DELETE", f"/users/ann/memories/{made.json['id']}")).status == 404
        assert (await ask(world, "DELETE", "/users/ann/memories")).json == {"memories": 1}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/users/ann/memories", {"text": ""}),
        ("/users/ann/memories", {"text": " "}),
        ("/users/ann/memories", {"text": "x", "kind": "other"}),
        ("/users/ann/memories", {"text": "x", "importance": 2}),
        ("/users/ann/memories/search", {"query": ""}),
        ("/users/ann/memories/search", {"query": "x", "since": 5, "until": 4}),
        ("/users/a%20b/memories", {"text": "x"}),
    ],
)
async def test_what_cannot_be_remembered_or_searched_is_refused(path: str, body: Any) -> None:
    async with whole(Listener(), memory=ON) as world:
        assert (await ask(world, "POST", path.replace("%20", " "), body)).status in (400, 422)


async def test_a_newer_fact_takes_the_place_of_the_older_one_in_what_models_get() -> None:
    model = Listener()
    async with whole(model, memory=ON) as world:
        await told(world, "I live in Graz.", "s1")
        await told(world, "I moved to Linz.", "s2")
        await chat(world, "In which city is my home?", "s3")

        assert "said: I moved to Linz." in model.told[-1]
        assert "said: I live in Graz" not in model.told[-1]


async def test_a_model_says_what_is_worth_remembering_where_one_is_configured() -> None:
    model = Listener()

    class Extractor(Listener):
        async def complete(self, request: ModelRequest) -> ModelReply:
            assert "Ich wohne in Graz" in request.messages[-1].text
            facts = '[{"text": "Ich wohne in Graz", "importance": 0.9}]'
            return ModelReply(f"Sure: {facts}", "stop", Usage(1, 1), "extractor")

    async with whole(model, memory={**ON, "kinds": ["short_term"]}) as world:
        recollection = world.router._stages.memory
        assert recollection is not None
        recollection._extractor = Extractor
        await told(world, "Ich wohne in Graz, und heute regnet es in Wien.", "s1")

        assert await memories(world) == ["Ich wohne in Graz"]


async def test_where_the_model_that_extracts_fails_the_rules_decide() -> None:
    async with whole(Listener(), memory={**ON, "kinds": ["short_term"]}) as world:
        recollection = world.router._stages.memory
        assert recollection is not None
        recollection._extractor = lambda: Listener("I will not.")
        await told(world, "I live in Graz.", "s1")

        assert await memories(world) == ["I live in Graz."]


async def test_a_store_that_does_not_answer_costs_no_run_its_answer() -> None:
    model = Listener()
    async with whole(model, memory=ON) as world:
        recollection = world.router._stages.memory
        assert recollection is not None
        recollection._shards = ["session/9"]
        await chat(world, "What shall I cook?", "s1")

        assert model.told[-1].endswith("What shall I cook?")
