"""What a model would get of a session now, and why: the same assembly that routers use, on what the store holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rayflow.actors.agent import system_prompt
from rayflow.app.build import context_means
from rayflow.app.client import SystemClient
from rayflow.chat import Message
from rayflow.clock import SYSTEM_CLOCK
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import NotFound
from rayflow.language.entities import Entity, entities
from rayflow.messages import GetHistory, History, SessionInfo
from rayflow.policies.context import (
    CHUNK,
    NO_FACTS,
    Context,
    Facts,
    Meaning,
    Past,
    Topic,
    assemble,
    preferring,
    state_line,
)
from rayflow.runtime.ports import Embedder

PAGE = 200
MAX_ENTITY_TURNS = 200
VECTORS_S = 60.0
"""How long vectors are waited for: nobody waits for an answer meanwhile."""
"""Entities are looked for in the newest so many of the user's messages."""


@dataclass(frozen=True)
class View:
    """`messages`: what the model of `agent` would get; without an agent, what every agent gets beside its own
    instructions. `topics` and `entities`: what the conversation is about, and what the user has named in it."""

    session: SessionInfo
    context: Context
    messages: list[Message]
    tokenizer: str
    agent: str = ""
    topics: list[Topic] = field(default_factory=list)
    entities: list[Entity] = field(default_factory=list)


async def view(client: SystemClient, tenant: str, session_id: str, message: str, agent: str = "") -> View:
    """What a model would get if the user now sent `message`; without one, what it would get beside it. Raises
    `NotFound`, `StorageError`, `FabricError`."""
    config = client.config
    instructions = _instructions(config, agent)
    means = context_means(config)
    count = means.count
    settings = config.context
    first: History = await client.session(GetHistory(tenant, session_id, limit=1, tail=True))
    last = first.turns[-1].seq if first.turns else 0
    reach = max(settings.search_turns, settings.window)
    past = Past(max(last - reach, 0) // CHUNK * CHUNK + 1, count)
    while past.last < last:
        page: History = await client.session(GetHistory(tenant, session_id, after=past.last, limit=PAGE))
        if not page.turns:
            break
        for _ in past.learn(page.turns):
            pass
    for _ in past.analyse():
        pass
    now_us = SYSTEM_CLOCK.wall_us()
    new = [Message("user", message)] if message else []
    facts, state = Facts.of(first.info.metadata), state_line(config.name, last, now_us)
    seen = past if settings.remembers else Past(count=count)
    if not settings.enrichment:
        facts, state = NO_FACTS, ""
    meaning = None
    if means.embedder is not None and settings.retrieval:
        meaning = await _meaning(config, means.embedder, seen, message, tenant)
    told = await _working_state(client, tenant, session_id) if settings.enrichment and config.state.shown else []
    memories: list[tuple[str, str]] = []
    if settings.enrichment and config.memory.enabled and first.info.user_id:
        facts, memories = await _recollected(client, first.info, message, agent, facts)
    context = assemble(seen, new, settings, now_us, facts, state, told, count, meaning, memories)
    said = [entry.message.text for entry in past.entries if entry.message.role == "user"][-MAX_ENTITY_TURNS:]
    return View(
        first.info,
        context,
        _with(instructions, context.messages),
        settings.tokenizer,
        agent,
        past.topics(),
        list(dict.fromkeys(entity for text in said for entity in entities(text))),
    )


async def _working_state(client: SystemClient, tenant: str, session_id: str) -> list[tuple[str, str]]:
    from rayflow.actors.state_source import StateSource

    source = StateSource(client.config.state, client.shards.records)
    text = await source.of(tenant, session_id)
    return [(source.name, text)] if text else []


async def _recollected(
    client: SystemClient, session: SessionInfo, message: str, agent: str, facts: Facts
) -> tuple[Facts, list[tuple[str, str]]]:
    """What is remembered of the user, as a router finds it; but nothing counts as used."""
    from rayflow.actors.recollection import Recollected, question, views

    known = views(client.config)
    view = known.get(agent, known[""])
    asked = question(client.config, session.tenant, session.user_id, message, view, use=False)
    recalled = await client.shards.memory(asked)
    return preferring(facts, recalled.preferences), Recollected({"": recalled.found}).lines()


async def _meaning(
    config: WorkflowConfig, embedder: Callable[[], Embedder], past: Past, message: str, tenant: str
) -> Meaning | None:
    """As a router finds it that has met the session before."""
    from rayflow.actors.meaning import Meanings

    meanings = Meanings(config, SYSTEM_CLOCK, embedder, VECTORS_S)
    try:
        return await meanings.of(past, message, tenant)
    finally:
        await meanings.stop()


def _instructions(config: WorkflowConfig, agent: str) -> str:
    if not agent:
        return ""
    try:
        return system_prompt(config.agent(agent))
    except KeyError:
        names = ", ".join(entry.name for entry in config.agents)
        raise NotFound(f"the workflow has no agent {agent!r}, only {names}", kind="agent", id=agent) from None


def _with(instructions: str, messages: list[Message]) -> list[Message]:
    """As an agent does it: one system message."""
    if not instructions:
        return messages
    if messages and messages[0].role == "system":
        return [Message("system", f"{instructions}\n\n{messages[0].text}"), *messages[1:]]
    return [Message("system", instructions), *messages]
