"""What a router's models get of a session: all of it while it fits, then the budgeted context; read once, kept, and
dropped when somebody else writes."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from actor_doubles import PATIENCE_S, HeldModel, Team, config, settle, team

from rayflow.actors.enrichment import ContextMeans
from rayflow.chat import Message
from rayflow.errors import Unavailable
from rayflow.messages import AppendTurns, CreateSession, GetHistory, GetSession, RunRequest, UpdateSession
from rayflow.stores.memory import MemoryStore

LONG = {"max_context_tokens": 300, "compression_threshold": 100, "window": 6, "retrieval": 5}


class CountingStore(MemoryStore):
    """Knows how often its sessions were read."""

    def __init__(self) -> None:
        super().__init__(1000)
        self.heads = 0
        self.pages = 0

    async def get(self, request: GetSession) -> Any:
        self.heads += 1
        return await super().get(request)

    async def history(self, request: GetHistory) -> Any:
        self.pages += 1
        return await super().history(request)


async def grow(t: Team, count: int, session: str = "sess_1") -> None:
    """`count` messages, said before this router knew of the session."""
    said = [
        Message("user" if n % 2 else "assistant", f"Message number {n} speaks of curtains and of colour {n}.")
        for n in range(1, count + 1)
    ]
    said[2] = Message("user", "My dog is called Rex.")
    await t.fabric.ask("session/0", AppendTurns("t", session, said), PATIENCE_S)


def seen(t: Team, agent: str = "a") -> list[Message]:
    return t.models[agent].requests[-1].messages


async def test_while_everything_fits_the_store_is_read_for_nothing_but_the_window() -> None:
    store = CountingStore()
    async with team(store=store) as t:
        results = [await t.run(f"question {n}") for n in range(10)]
        assert [message.content for message in seen(t)] == [
            text for n in range(10) for text in (f"question {n}", "done")
        ][:-1]
        assert (store.heads, store.pages) == (0, 0)
        assert {result.context_read for result in results} == {False}


async def test_a_long_session_is_read_once_and_what_is_asked_about_is_there() -> None:
    store = CountingStore()
    async with team(config(context=LONG), store=store) as t:
        await grow(t, 60)
        first = await t.run("What is the name of my dog?")
        assert "My dog is called Rex." in [message.content for message in seen(t)]
        assert seen(t)[0].role == "system"
        assert seen(t)[0].text.startswith("Summary of turns 1 to 60")
        pages = store.pages
        second = await t.run("And what is its name again, that of the dog?")
        assert "My dog is called Rex." in [message.content for message in seen(t)]
        assert (store.heads, store.pages) == (1, pages)
        assert (first.context_read, second.context_read) == (True, False)


async def test_the_log_says_of_what_a_chosen_context_consists() -> None:
    async with team(config(context=LONG)) as t:
        await grow(t, 60)
        result = await t.run("What is the name of my dog?")
        (built,) = [event for event in await t.trail(result.run_id) if event.kind == "context.built"]
        assert built.data["tokens"] <= built.data["budget"] == 300
        assert built.data["pieces"]["relevant"] == 1
        assert built.data["cached"] is False


async def test_what_somebody_else_has_written_is_seen() -> None:
    async with team(config(context=LONG)) as t:
        await grow(t, 60)
        await t.run("first")
        await t.fabric.ask("session/0", AppendTurns("t", "sess_1", [Message("user", "My cat is Tom.")]), PATIENCE_S)
        await t.run("second")
        assert "My cat is Tom." in [message.content for message in seen(t)]
        assert [message.content for message in seen(t)].count("second") == 1


async def test_metadata_of_a_session_reach_its_models() -> None:
    metadata = {"pinned": ["The contract is number 77."], "preferences": {"language": "German"}}
    async with team() as t:
        await t.fabric.ask("session/0", CreateSession("t", "sess_1", metadata=metadata), PATIENCE_S)
        await t.run("hello")
        system, question = seen(t)
        assert "The contract is number 77." in system.text
        assert "language: German" in system.text
        assert question == Message("user", "hello")


async def test_changed_metadata_count_from_the_next_turn_on() -> None:
    async with team() as t:
        await t.run("one")
        await t.run("two")
        assert seen(t)[0] == Message("user", "one")
        await t.fabric.ask("session/0", UpdateSession("t", "sess_1", metadata={"pinned": ["Say please."]}), PATIENCE_S)
        await t.run("three")
        assert "Say please." in seen(t)[0].text


async def test_the_agents_own_instructions_and_the_sessions_are_one_system_message() -> None:
    agent = {"name": "a", "system_prompt": "Be brief."}
    async with team(config(agent)) as t:
        await t.fabric.ask("session/0", CreateSession("t", "sess_1", metadata={"pinned": ["Say please."]}), PATIENCE_S)
        await t.run("hello")
        assert [message.role for message in seen(t)] == ["system", "user"]
        assert seen(t)[0].text.startswith("Be brief.\n\n")
        assert "Say please." in seen(t)[0].text


async def test_sessions_of_the_same_id_never_see_each_other() -> None:
    async with team(config(context=LONG)) as t:
        await grow(t, 60)
        other = RunRequest("run_o", "sess_1", [Message("user", "What is the name of my dog?")], tenant="other")
        await t.fabric.ask("router/0", other, PATIENCE_S)
        assert seen(t) == other.messages


async def test_a_model_writes_the_summary_behind_the_conversation() -> None:
    writer = HeldModel("The user has a dog, Rex.")
    async with team(config(context=LONG), context=ContextMeans(summariser=lambda: writer)) as t:
        await grow(t, 60)
        await t.run("one")
        assert seen(t)[0].text.startswith("Summary of turns 1 to 60")
        await asyncio.wait_for(asyncio.gather(*t.router._stages.enrichment._summaries._under_way.values()), PATIENCE_S)
        material = msgspec.json.decode(writer.requests[0].messages[1].text)
        assert material["summary"] == ""
        assert {"role": "user", "text": "My dog is called Rex."} in material["said_since"]
        await t.run("two")
        assert "up to turn 60 (version 1):\nThe user has a dog, Rex." in seen(t)[0].text
        head = await t.fabric.ask("session/0", GetSession("t", "sess_1"), PATIENCE_S)
        assert head.metadata["context_summary"]["upto"] == 60
        await grow(t, 10)
        await t.run("three")
        await asyncio.wait_for(asyncio.gather(*t.router._stages.enrichment._summaries._under_way.values()), PATIENCE_S)
        assert msgspec.json.decode(writer.requests[1].messages[1].text)["summary"] == "The user has a dog, Rex."
    assert writer.closed


async def test_where_the_model_fails_the_conversations_own_sentences_stand_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = HeldModel()
    writer.errors = [Unavailable("down")]
    async with team(config(context=LONG), context=ContextMeans(summariser=lambda: writer)) as t:
        await grow(t, 60)
        await t.run("one")
        await settle()
        await t.run("two")
        assert seen(t)[0].text.startswith("Summary of turns 1 to 60")
    assert "summaries" in caplog.text


class Source:
    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._text = text

    async def text(self, request: RunRequest) -> str:
        if not self._text:
            raise Unavailable("the knowledge base is down")
        return f"{self._text} ({request.tenant})"


async def test_an_external_source_is_asked_and_one_that_fails_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    means = ContextMeans(sources=(Source("profile", "The user is a gardener."), Source("knowledge_base", "")))
    async with team(context=means) as t:
        await t.run("hello")
        assert seen(t) == [Message("system", "The user is a gardener. (t)"), Message("user", "hello")]
    assert "knowledge_base" in caplog.text


async def test_the_state_of_the_system_is_a_source() -> None:
    async with team(config(context={"sources": ["conversation_history", "system_state"]})) as t:
        await t.run("hello")
        await t.run("again")
        assert "Workflow: team. Turns in this conversation so far: 2." in seen(t)[0].text
        assert [message.content for message in seen(t)[1:]] == ["hello", "done", "again"]


async def test_without_the_history_a_model_gets_only_what_is_new() -> None:
    async with team(config(context={"sources": ["user_preferences"]})) as t:
        await t.run("one")
        await t.run("two")
        assert seen(t) == [Message("user", "two")]


async def test_a_window_of_nothing_reads_nothing_of_the_history() -> None:
    store = CountingStore()
    async with team(config(context={"window": 0}), store=store) as t:
        await grow(t, 60)
        await t.run("What is the name of my dog?")
        assert seen(t) == [Message("user", "What is the name of my dog?")]
        assert store.pages == 0
