"""What a batch runs: items. An item is one conversation: an id and the user turns to send, in order.

The shapes people have, one rule for all: a text is a single turn; a list of texts are turns; of a list of messages the
user's are replayed, and what the assistant said in the file is not sent, because this workflow answers anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from rayflow.batch.readers.records import Blank, Entry, Fault, Record
from rayflow.errors import Conflict, ValidationError

INPUT_FIELDS = ("prompt", "message", "input", "text", "turns", "messages")
ID_FIELDS = ("custom_id", "id", "conversation_id", "question_id")
MAX_ID_CHARS = 255
_SYSTEM_ROLES = {"system", "developer"}
_ROLES = {*_SYSTEM_ROLES, "user", "assistant", "tool", "function"}


class Item(msgspec.Struct, frozen=True):
    """One conversation to run. `ordinal` counts the items of the input from 1. `line` and `byte` as in `Record`."""

    ordinal: int
    id: str
    turns: list[str]
    system_prompt: str = ""
    line: int | None = None
    byte: int | None = None


class BadItem(msgspec.Struct, frozen=True):
    """An item that cannot be run. It has an ordinal and gets an output row like any other."""

    ordinal: int
    id: str
    slug: str
    message: str
    line: int | None = None
    byte: int | None = None


class ItemStream:
    """Entries of a file as numbered items, one by one. `limit`: only the first so many."""

    def __init__(self, entries: Iterable[Entry], fields: Sequence[str], limit: int | None = None) -> None:
        self.blank_lines = 0
        self._entries = entries
        self._fields = fields
        self._limit = limit
        self._ids: dict[str, int] = {}

    def __iter__(self) -> Iterator[Item | BadItem]:
        ordinal = 0
        for entry in self._entries:
            if isinstance(entry, Blank):
                self.blank_lines += 1
                continue
            ordinal += 1
            yield self._item(ordinal, entry)
            if ordinal == self._limit:
                return

    def _item(self, ordinal: int, entry: Record | Fault) -> Item | BadItem:
        if isinstance(entry, Fault):
            return BadItem(ordinal, str(ordinal), entry.slug, entry.message, entry.line, entry.byte)
        item_id = str(ordinal)
        try:
            item_id = _id(entry.value) or item_id
            first = self._ids.setdefault(item_id, ordinal)
            if first != ordinal:
                raise Conflict(f"the id {item_id!r} is already used by item {first}; ids must be unique")
            system_prompt, turns = _turns(entry.value, self._fields)
        except (ValidationError, Conflict) as error:
            return BadItem(ordinal, item_id, error.slug, error.message, entry.line, entry.byte)
        return Item(ordinal, item_id, turns, system_prompt, entry.line, entry.byte)


def _id(value: object) -> str:
    if not isinstance(value, dict):
        raise ValidationError(f"expected an object, got {_kind(value)}")
    for name in ID_FIELDS:
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
                raise ValidationError(f"{name} must be a text or a whole number, got {_kind(other)}")
    return ""


def _turns(value: object, fields: Sequence[str]) -> tuple[str, list[str]]:
    """The system prompt ("" for none) and the user turns of a record."""
    assert isinstance(value, dict)  # `_id` has looked at it before
    name = next((name for name in fields if value.get(name) is not None), None)
    if name is None:
        found = ", ".join(repr(key) for key in list(value)[:20]) or "nothing"
        raise ValidationError(f"no field {' or '.join(fields)} in it; it has {found}")
    match value[name]:
        case str() as text:
            return "", [_text(text, name)]
        case [str(), *_] as texts:
            return "", [_text(text, f"{name}[{index}]") for index, text in enumerate(texts)]
        case [dict(), *_] as messages:
            return _replay(messages, name)
        case []:
            raise ValidationError(f"{name} is empty: there is nothing to send")
        case other:
            raise ValidationError(f"{name} must be a text, a list of texts or a list of messages, got {_kind(other)}")


def _replay(messages: list[object], name: str) -> tuple[str, list[str]]:
    prompts: list[str] = []
    turns: list[str] = []
    for index, message in enumerate(messages):
        where = f"{name}[{index}]"
        if not isinstance(message, dict):
            raise ValidationError(f"{where} must be a message with role and content, got {_kind(message)}")
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise ValidationError(f"{where}.role must be one of {', '.join(sorted(_ROLES))}, got {role!r}")
        if role == "user":
            turns.append(_text(message.get("content"), f"{where}.content"))
        elif role in _SYSTEM_ROLES:
            if len(prompts) < index:
                raise ValidationError(f"{where}: a {role} message can only be replayed at the head of a conversation")
            prompts.append(_text(message.get("content"), f"{where}.content"))
    if not turns:
        raise ValidationError(f"{name} has no user turn: there is nothing to send")
    return "\n\n".join(prompts), turns


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ValidationError(f"{where} must be a text, got {_kind(value)}")
    if not value.strip():
        raise ValidationError(f"{where} is blank: there is nothing to send")
    return value


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")
