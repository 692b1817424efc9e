"""What a session's metadata says for its context.

Four keys are understood: `pinned` (texts, or numbers of turns, that a model always gets), `preferences` (language,
expertise_level, communication_style, and what else is there), `session_data` (current_topic, user_goals, ...), and
`context_summary`, which rayflow writes itself where a model summarises. Metadata are a client's: what has another form
is no error, it is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

MAX_VALUE_CHARS = 500
"""Of each preference and each entry of session_data."""
SUMMARY_KEY = "context_summary"


class WrittenSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A summary that a model wrote, of the turns up to `upto`. `version` counts from 1."""

    text: str
    upto: int
    version: int
    model: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is understood of a session's metadata."""

    pinned: tuple[str, ...] = ()
    pinned_turns: frozenset[int] = frozenset()
    preferences: tuple[str, ...] = ()
    """Each a line: "language: German"."""
    session_data: tuple[str, ...] = ()
    summary: WrittenSummary | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Facts:
        pinned = metadata.get("pinned")
        if isinstance(pinned, str | int):
            pinned = [pinned]
        pins = pinned if isinstance(pinned, list) else []
        return cls(
            pinned=tuple(pin.strip() for pin in pins if isinstance(pin, str) and pin.strip()),
            pinned_turns=frozenset(pin for pin in pins if type(pin) is int),
            preferences=_lines(metadata.get("preferences")),
            session_data=_lines(metadata.get("session_data")),
            summary=_summary(metadata.get(SUMMARY_KEY)),
        )


NO_FACTS = Facts()


def preferring(facts: Facts, preferences: Mapping[str, Any]) -> Facts:
    """With the preferences of the user, too; those of the session win."""
    own = {line.partition(": ")[0] for line in facts.preferences}
    more = tuple(line for line in _lines(preferences) if line.partition(": ")[0] not in own)
    return replace(facts, preferences=facts.preferences + more) if more else facts


def _lines(value: Any) -> tuple[str, ...]:
    if not isinstance(value, Mapping):
        return ()
    given = {str(key).replace("_", " "): part for key, part in value.items() if part not in (None, "")}
    return tuple(f"{key}: {_plain(part)}" for key, part in given.items())


def _plain(value: Any) -> str:
    if isinstance(value, list):
        value = ", ".join(map(_plain, value))
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return " ".join(text[:MAX_VALUE_CHARS].split())


def _summary(value: Any) -> WrittenSummary | None:
    try:
        return msgspec.convert(value, WrittenSummary)
    except msgspec.ValidationError:
        return None
