"""Vectors beside the words of a session: made once, waited for briefly, and left out where they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from actor_doubles import PATIENCE_S, Team, config, team

from rayflow.actors.enrichment import ContextMeans
from rayflow.actors.meaning import Meanings
from rayflow.caching import Counts
from rayflow.chat import Message
from rayflow.clock import SYSTEM_CLOCK
from rayflow.errors import ModelError
from rayflow.messages import AppendTurns, Turn
from rayflow.policies.context import Past

SETTINGS = {"embeddings": {"model": "offline", "wait_s": 5.0}}
LONG = {"max_context_tokens": 400, "compression": False, "window": 4, "retrieval": 3}


class Senses:
    """Vectors by what a text is about: pets, or anything else."""

    name = "senses"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = False
        self.go = asyncio.Event()
        self.go.set()
        self.counts = Counts()
        self.closed = False

    def __len__(self) -> int:
        return len(self.asked)

    async def embed(self, texts: Sequence[str], tenant: str = "") -> list[list[float]]:
        if self.fails:
            raise ModelError("no vectors today")
        self.asked += texts
        await self.go.wait()
        return [[1.0, 0.0] if {"puppy", "Rex"} & set(text.split()) else [0.0, 1.0] for text in texts]

    async def close(self) -> None:
        self.closed = True


def past(*texts: str) -> Past:
    made = Past()
    for _ in made.learn(Turn(seq, Message("user", text)) for seq, text in enumerate(texts, 1)):
        pass
    return made


async def grow(t: Team) -> None:
    said = [Message("user", f"The price of item {n} is {n} euros") for n in range(30)]
    said[2] = Message("user", "We named him Rex when he came home")
    await t.fabric.ask("session/0", AppendTurns("t", "sess_1", said), PATIENCE_S)


async def test_what_shares_no_word_with_the_question_is_found_by_its_meaning() -> None:
    for senses in (Senses(), None):
        means = ContextMeans(embedder=(lambda s=senses: s) if senses is not None else None)
        async with team(config(context=LONG, **SETTINGS), context=means) as t:
            await grow(t)
            await t.run("And your puppy ?")
            seen = [message.text for message in t.models["a"].requests[-1].messages]
            assert ("We named him Rex when he came home" in seen) == (senses is not None)
        assert senses is None or senses.closed


async def test_every_turn_is_embedded_once() -> None:
    senses = Senses()
    meanings = Meanings(config(**SETTINGS), SYSTEM_CLOCK, lambda: senses)
    known = past(*(f"turn {n}" for n in range(150)))
    first = await meanings.of(known, "puppy")
    assert first is not None and len(first.alike) == 150 and len(senses.asked) == 151
    for _ in known.learn([Turn(151, Message("user", "Rex barks"))]):
        pass
    second = await meanings.of(known, "puppy")
    assert second is not None and second.alike[151] == 1.0
    assert senses.asked.count("turn 7") == 1 and senses.asked.count("Rex barks") == 1
    await meanings.stop()


async def test_no_run_waits_longer_than_configured_and_what_was_begun_goes_on() -> None:
    senses = Senses()
    senses.go.clear()
    meanings = Meanings(config(**SETTINGS), SYSTEM_CLOCK, lambda: senses, wait_s=0.01)
    known = past("Rex barks", "hello")
    assert await meanings.of(known, "puppy") is None
    senses.go.set()
    for _ in range(5):
        await asyncio.sleep(0)
    found = await meanings.of(known, "puppy")
    assert found is not None and found.alike == {1: 1.0, 2: 0.0}
    assert senses.asked.count("Rex barks") == 1
    await meanings.stop()


async def test_a_model_that_fails_leaves_it_to_the_words(caplog: pytest.LogCaptureFixture) -> None:
    senses = Senses()
    senses.fails = True
    async with team(config(context=LONG, **SETTINGS), context=ContextMeans(embedder=lambda: senses)) as t:
        await grow(t)
        assert (await t.run("What is the price of item 9 ?")).content == "done"
        seen = [message.text for message in t.models["a"].requests[-1].messages]
        assert "The price of item 9 is 9 euros" in seen
    assert "no vectors today" in caplog.text


async def test_tool_calls_and_silence_have_no_meaning() -> None:
    senses = Senses()
    meanings = Meanings(config(**SETTINGS), SYSTEM_CLOCK, lambda: senses)
    known = Past()
    said = [
        Message("system", "Rex"),
        Message("tool", "Rex", tool_call_id="1"),
        Message("user", " "),
        Message("user", "x"),
    ]
    for _ in known.learn(Turn(seq, message) for seq, message in enumerate(said, 1)):
        pass
    found = await meanings.of(known, "puppy")
    assert found is not None and set(found.alike) == {4}
    assert await meanings.of(known, "  ") is None
    await meanings.stop()
