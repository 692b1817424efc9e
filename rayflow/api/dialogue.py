"""The messages of a chat request: checked, and split into instructions and conversation.

A model's endpoint refuses a malformed conversation late and in its own words; here it is refused before a run begins,
with the path of the fault.
"""

from __future__ import annotations

from typing import Any

from rayflow.api.decode import fault
from rayflow.chat import Message
from rayflow.config.schema import ProcessingConfig

INSTRUCTIONS = frozenset({"system", "developer"})

_KEYS = {
    "system": frozenset({"role", "content", "name"}),
    "developer": frozenset({"role", "content", "name"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset({"role", "content", "name", "refusal", "tool_calls"}),
    "tool": frozenset({"role", "content", "name", "tool_call_id"}),
}
_TEXT_ONLY: dict[str, type] = {"text": str}
_PARTS: dict[str, dict[str, type]] = {
    "user": {"text": str, "image_url": dict, "input_audio": dict, "file": dict},
    "assistant": {"text": str, "refusal": str},
}


def split(messages: list[Message], raw: list[dict[str, Any]], new_session: bool) -> tuple[str, list[Message]]:
    """The system prompt (all instructions, joined) and the rest of the conversation.

    `raw`: the same messages as the client wrote them. `new_session`: no earlier turn can have asked for the result of a
    tool. Raises `ValidationError` with the path of the fault.
    """
    asked: set[str] = set()
    prompt: list[str] = []
    rest: list[Message] = []
    for i, (message, written) in enumerate(zip(messages, raw, strict=True)):
        _check(message, written, f"messages[{i}]")
        if message.role in INSTRUCTIONS:
            prompt.append(message.text)
            continue
        rest.append(message)
        if message.tool_calls:
            asked.update(call.id for call in message.tool_calls)
        if message.role == "tool" and new_session and message.tool_call_id not in asked:
            raise fault(f"messages[{i}].tool_call_id", "no earlier message of the assistant has this tool call")
    if not any(message.role in ("user", "tool") for message in rest):
        raise fault("messages", "at least one message of the user, or of a tool, is needed")
    return "\n\n".join(prompt), rest


def check_length(text: str, limits: ProcessingConfig, param: str) -> None:
    """Raises `ValidationError` for a text shorter or longer than configured."""
    length = len(text)
    if limits.input_validation and not limits.min_length <= length <= limits.max_length:
        raise fault(
            param,
            f"{length} characters; {limits.min_length} to {limits.max_length} are accepted",
            min_length=limits.min_length,
            max_length=limits.max_length,
        )


def check_last_user_message(messages: list[Message], limits: ProcessingConfig) -> None:
    """`check_length` of what the user says now. A message of pictures or files alone has no text to check."""
    for i in range(len(messages) - 1, -1, -1):
        message = messages[i]
        if message.role == "user":
            if isinstance(message.content, str) or message.text:
                check_length(message.text, limits, f"messages[{i}].content")
            return


def _check(message: Message, written: dict[str, Any], at: str) -> None:
    role = message.role
    keys = _KEYS.get(role)
    if keys is None:
        raise fault(f"{at}.role", f"{role[:64]!r} is none of {', '.join(_KEYS)}")
    for key in written.keys() - keys:
        if written[key]:  # clients send back whole answers, with unused fields null or empty
            raise fault(f"{at}.{key[:64]}", f"a message of role {role!r} has no such field; remove it")
    if isinstance(message.content, list):
        _check_parts(message.content, _PARTS.get(role, _TEXT_ONLY), f"{at}.content")
    elif message.content is None and not (role == "assistant" and (message.tool_calls or message.refusal)):
        raise fault(f"{at}.content", "is missing")
    if role == "tool" and not message.tool_call_id:
        raise fault(f"{at}.tool_call_id", "is missing: it names the call this is the result of")


def _check_parts(parts: list[dict[str, Any]], kinds: dict[str, type], at: str) -> None:
    if not parts:
        raise fault(at, "has no parts")
    for i, part in enumerate(parts):
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in kinds:
            raise fault(f"{at}[{i}].type", f"must be one of {', '.join(kinds)}")
        if not isinstance(part.get(kind), kinds[kind]):
            raise fault(f"{at}[{i}].{kind}", "must be text" if kinds[kind] is str else "must be an object")
