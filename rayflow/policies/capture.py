"""What the event log may keep of what is asked and answered: nothing, a hash, the text without what looks secret, or
the text.

A hash shows which questions are equal and nothing else, but whoever can guess a text can check the guess. Content is
bounded; where it was cut, the event says how long it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from rayflow.chat import Message
from rayflow.config.schema import MonitoringConfig
from rayflow.policies.redaction import redactor

MARGIN_CHARS = 1024
"""So much beyond the limit is searched as well: a secret that begins before it may end after it."""


class Captured(NamedTuple):
    """The column `content`, and facts about it for `data`."""

    content: str = ""
    notes: dict[str, Any] | None = None


NOTHING = Captured()


class Capture:
    def __init__(self, config: MonitoringConfig) -> None:
        self._how = config.capture
        self._most = config.capture_max_chars
        self._redactor = redactor(config)

    def question(self, messages: Sequence[Message]) -> Captured:
        """The text of the message, or, of several, JSON: a list of objects with `role` and `content`."""
        if len(messages) == 1:
            return self.text(messages[0].text)
        counts: dict[str, int] = {}
        told = []
        for message in messages:
            text, found = self._cleaned(message.text)
            counts = {kind: counts.get(kind, 0) + found.get(kind, 0) for kind in counts | found}
            told.append({"role": message.role, "content": text})
        chars = sum(len(message.text) for message in messages)
        return self._captured(msgspec.json.encode(told).decode(), counts, chars)

    def text(self, text: str) -> Captured:
        return self._captured(*self._cleaned(text), len(text))

    def _cleaned(self, text: str) -> tuple[str, dict[str, int]]:
        """Without what looks secret, where that is wanted, and then no longer than can be needed."""
        if self._how == "redacted":
            return self._redactor.redact(text[: self._most + MARGIN_CHARS])
        return text.encode(errors="replace").decode(), {}

    def _captured(self, text: str, counts: dict[str, int], chars: int) -> Captured:
        """`chars`: how many there were at first."""
        if self._how == "hashed":
            return Captured(f"sha256:{sha256(text.encode()).hexdigest()}")
        notes: dict[str, Any] = {"redactions": counts} if counts else {}
        if max(chars, len(text)) > self._most:
            notes["content_chars"] = chars
        return Captured(text[: self._most], notes)


def capture(config: MonitoringConfig) -> Capture | None:
    """None where nothing is to be kept, or there is no log."""
    return Capture(config) if config.event_log and config.capture != "none" else None
