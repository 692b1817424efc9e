"""What a model would get of a session now, and why: the same assembly that routers use, on what the store holds."""

from __future__ import annotations

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
from rayflow.policies.context import CHUNK, NO_FACTS, Context, Facts, Past, Topic, assemble, state_line

PAGE = 200
MAX_ENTITY_TURNS = 200
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
    count = context_means(config).count
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
    now_us = SYSTEM_CLOCK.wall_us()
    new = [Message("user", message)] if message else []
    facts, state = Facts.of(first.info.metadata), state_line(config.name, last, now_us)
    seen = past if settings.remembers else Past(count=count)
    if not settings.enrichment:
        facts, state = NO_FACTS, ""
    context = assemble(seen, new, settings, now_us, facts, state, count=count)
    said = [entry.message.text for entry in past.entries if entry.message.role == "user"][-MAX_ENTITY_TURNS:]
    return View(
        first.info,
        context,
        _with(instructions, context.messages),
        settings.tokenizer,
        agent,
        past.topics,
        list(dict.fromkeys(entity for text in said for entity in entities(text))),
    )


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
