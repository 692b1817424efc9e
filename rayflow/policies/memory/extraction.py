"""From a turn to what is remembered of it: the statements of the person, and one episode.

An episode says what the turn was about. Its tools are those the answer took, where the calls went well; `tools_of`
finds them in the messages since the person last spoke.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from rayflow.chat import Message
from rayflow.language.entities import entities
from rayflow.messages.memory import Kind, Memory
from rayflow.policies.memory.statements import MAX_TAGS, MAX_TEXT_CHARS, PREFERENCE, Statement, statements, tags

EPISODE_CHARS = 300
EPISODE = 0.4
NAMES = 0.1
TOOLS = 0.1
MAX_TOOLS = 20
_FAILED = ("error", "failed", "exception", "traceback")


class Told(NamedTuple):
    """A turn that was answered. `tools`: called for it, in order; none where a call failed."""

    question: str
    tools: tuple[str, ...] = ()
    agent: str = ""
    session_id: str = ""
    run_id: str = ""
    at_us: int = 0


def memories(
    told: Told, kinds: Collection[Kind], least: float, *, private: bool = False, said: list[Statement] | None = None
) -> list[Memory]:
    """What is remembered of a turn: only `kinds`, and nothing less important than `least`. `said`: the statements,
    where something better than the rules has found them. The ids follow from the run, so a turn is remembered once."""
    found: list[Memory] = []

    def remember(kind: Kind, text: str, importance: float, subject: str = "", tools: Iterable[str] = ()) -> None:
        if kind not in kinds or importance < least:
            return
        found.append(
            Memory(
                id=f"mem_{told.run_id.removeprefix('run_')}-{len(found)}",
                kind=kind,
                text=text,
                importance=round(min(importance, 1.0), 3),
                subject=subject,
                tags=tags(text)[:MAX_TAGS],
                agent=told.agent,
                private=private,
                session_id=told.session_id,
                run_id=told.run_id,
                created_us=told.at_us,
                used_us=told.at_us,
                tools=list(tools),
            )
        )

    for each in statements(told.question) if said is None else said:
        lasting = "short_term" not in kinds and each.importance >= PREFERENCE
        kind: Kind = "long_term" if lasting else "short_term"
        remember(kind, each.text[:MAX_TEXT_CHARS], each.importance, each.subject)
    about = " ".join(told.question.split())[:EPISODE_CHARS]
    if about:
        weight = EPISODE + (NAMES if entities(about) else 0) + (TOOLS if told.tools else 0)
        remember("episodic", about, weight, tools=told.tools[:MAX_TOOLS])
    return found


def tools_of(messages: Iterable[Message]) -> tuple[str, tuple[str, ...]]:
    """What the person asked last in `messages`, and the tools that were called since; none where a result tells of a
    failure, or is missing."""
    question, called, open_, failed = "", list[str](), set[str](), False
    for message in messages:
        if message.role == "user":
            question, called, open_, failed = message.text, [], set(), False
        elif message.role == "assistant":
            for call in message.tool_calls or ():
                called.append(call.function.name)
                open_.add(call.id)
        elif message.role == "tool":
            open_.discard(message.tool_call_id or "")
            failed |= _tells_of_failure(message.text)
    return question, () if failed or open_ else tuple(called)


def _tells_of_failure(result: str) -> bool:
    text = result.strip()
    if text.startswith("{"):
        try:
            facts = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return False
        return bool(facts.get("error") or facts.get("success") is False or facts.get("ok") is False)
    return text.lower().startswith(_FAILED)
