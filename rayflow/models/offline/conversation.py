"""The messages of a call, sorted by who said what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rayflow.chat import Message


class Turn(NamedTuple):
    role: str
    """user or assistant."""
    text: str


class Conversation(NamedTuple):
    instructions: str
    """All system and developer messages."""
    earlier: list[Turn]
    """What user and assistant said before the last user message, with some text."""
    asked: str
    """The last user message; empty where there is none."""
    tool_results: list[tuple[str, str]]
    """(tool name, content) of the results at the very end: they are what is to be answered."""

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Conversation:
        last_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=len(messages))
        earlier = [
            Turn(message.role, text)
            for message in messages[:last_user]
            if message.role in ("user", "assistant") and (text := message.text.strip())
        ]
        instructions = [message.text for message in messages if message.role in ("system", "developer")]
        asked = messages[last_user].text.strip() if last_user < len(messages) else ""
        return cls("\n".join(instructions), earlier, asked, _tool_results(messages))

    def last(self, role: str) -> str:
        """What that role said last before the question; empty where it said nothing."""
        return next((turn.text for turn in reversed(self.earlier) if turn.role == role), "")


def _tool_results(messages: Sequence[Message]) -> list[tuple[str, str]]:
    results: list[tuple[str, str]] = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        results.append((message.name or _tool_name(messages, message.tool_call_id), message.text.strip()))
    return results[::-1]


def _tool_name(messages: Sequence[Message], call_id: str | None) -> str:
    for message in messages:
        for call in message.tool_calls or ():
            if call.id == call_id:
                return call.function.name
    return "tool"
