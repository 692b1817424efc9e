"""The shapes that people's rows have, brought to one.

Conversations are lists of messages with `role` and `content`, whatever the file calls them: `from` and `value` with
`human` and `gpt` (ShareGPT), or fields that the job names. A line of OpenAI's batch format becomes a row with its
messages, its options and the agent that its model names. What else a row holds stays as it is, and what it lacks is
said by whoever needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rayflow.batch.inputs.openai import is_line, request_of
from rayflow.batch.spec import Inputs
from rayflow.chat import ToolCall
from rayflow.errors import ValidationError

MESSAGES = "messages"
TEXT_FIELDS = ("prompt", "message", "input", "text", "turns", MESSAGES)
"""Where the input of a row stands, in the order in which they are looked at."""
OTHER_FIELDS = ("conversations", "conversation", "dialogue", "dialog")
"""Where else a conversation may stand; it is then found under `messages`."""
ID_FIELDS = ("custom_id", "id", "conversation_id", "question_id")
MAX_ID_CHARS = 512

_ROLES = ("role", "from", "speaker")
_CONTENTS = ("content", "value", "text")
_OPENAI = frozenset(("role", "content", "name", "tool_calls", "tool_call_id", "refusal"))
_ALIASES = {
    "human": "user",
    "customer": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "observation": "tool",
    "function": "tool",
    "developer": "system",
}


def columns_of(inputs: Inputs) -> Sequence[str]:
    """Where the input of a row may stand."""
    return inputs.fields or (*TEXT_FIELDS, *OTHER_FIELDS, "body")


def id_of(value: object, inputs: Inputs) -> str | None:
    """The id that a row has, None where it has none. Raises `ValidationError` where it cannot be one."""
    if not isinstance(value, dict):
        raise ValidationError(f"expected an object, got {kind_of(value)}")
    for name in inputs.id_fields or ID_FIELDS:
        match value.get(name):
            case None | "":
                continue
            case bool():
                raise ValidationError(f"{name} must be a text or a whole number, got a boolean")
            case str() | int() as found:
                if len(text := str(found)) > MAX_ID_CHARS:
                    raise ValidationError(f"{name} has {len(text)} characters; at most {MAX_ID_CHARS} are allowed")
                return text
            case other:
                raise ValidationError(f"{name} must be a text or a whole number, got {kind_of(other)}")
    return None


def shaped(value: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
    """The row in the one shape. Raises `ValidationError` for a line of OpenAI's that its API would refuse."""
    if inputs.format == "openai" or (not inputs.fields and is_line(value)):
        return request_of(value)
    for name in inputs.fields or TEXT_FIELDS:
        if (found := value.get(name)) is not None:
            return {**value, name: _messages(found, inputs)} if _is_conversation(found) else value
    for name in () if inputs.fields else OTHER_FIELDS:
        if (found := value.get(name)) is not None:
            return {**value, MESSAGES: _messages(found, inputs) if _is_conversation(found) else found}
    return value


def kind_of(value: object) -> str:
    """What JSON calls it."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")


def _is_conversation(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _messages(given: list[object], inputs: Inputs) -> list[object]:
    roles = (inputs.role_field,) if inputs.role_field else _ROLES
    contents = (inputs.content_field,) if inputs.content_field else _CONTENTS
    return [_message(message, roles, contents) if isinstance(message, dict) else message for message in given]


def _message(given: dict[str, Any], roles: Sequence[str], contents: Sequence[str]) -> dict[str, Any]:
    """`role` and `content`, and what else OpenAI's messages have: notes of whoever made the dataset are left out."""
    said = next((name for name in roles if name in given), "role")
    text = next((name for name in contents if name in given), "content")
    role = given.get(said)
    if isinstance(role, str):
        role = _ALIASES.get(role.lower(), role.lower())
    message = {name: given[name] for name in given.keys() & _OPENAI}
    calls = message.pop("tool_calls", None)
    if calls and _are_calls(calls):
        message["tool_calls"] = calls
    return {**message, "role": role, "content": given.get(text)}


def _are_calls(calls: object) -> bool:
    try:
        msgspec.convert(calls, list[ToolCall])
    except msgspec.ValidationError:
        return False
    return True
