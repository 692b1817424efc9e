"""What a router keeps of a session's context between two turns: the cache of the context, an entry per session.

It lives and dies with what the router knows of the session (`runtime.session.SessionSlot`): where somebody else wrote,
both are dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile, islice

from rayflow.chat import Message
from rayflow.config.schema import ContextConfig
from rayflow.policies.context.facts import NO_FACTS, Facts
from rayflow.policies.context.past import INSTRUCTIONS, Past
from rayflow.policies.context.pieces import Reason
from rayflow.policies.context.tokens import Count, estimate, message_tokens, most_tokens


@dataclass(slots=True)
class Known:
    """`read_at`: when the session's head was read, in monotonic seconds. `oldest_us`: no turn of the window is older.
    `built_us`: when the last context was built: the turns since then are that old. `past`: None until needed."""

    read_at: float
    oldest_us: int
    built_us: int
    facts: Facts = NO_FACTS
    past: Past | None = None
    counted: int = 0
    """The turn up to which the session was counted."""
    tokens: int = 0
    """Of those turns."""
    instructed: bool = False
    """Whether one of them is an instruction, which no context leaves out."""
    version: int = 1
    """Of the session's head as it was read."""
    told: tuple[int, frozenset[Reason]] | None = None
    """Of what the last context that the log tells of consisted: how far its summary reached, and why its pieces."""

    def count(self, past: Past) -> None:
        self.counted, self.tokens, self.instructed = past.last, past.tokens, bool(past.instructions)

    def short(self, config: ContextConfig) -> bool:
        """Whether what was counted is left out without a trace where it is outside the window."""
        summarised = config.compression and self.tokens > config.compression_threshold
        return not (config.retrieval or summarised or self.instructed)

    def follow(self, window: deque[Message], before: int, most: int, count: Count) -> bool:
        """Count up to turn number `before` with the `window` that ends there. False where a turn is missing, or one
        has more than `most` characters."""
        missing = before - self.counted
        if not 0 <= missing <= len(window):
            return False
        for message in islice(window, len(window) - missing, None):
            if most_tokens(message) > most:
                return False
            self.tokens += message_tokens(message, count)
            self.instructed |= message.role in INSTRUCTIONS
            self.counted += 1
        return True


COUNTED = 8
"""Texts of more than so many characters for each token of the budget are not counted here, but in slices."""


def plain(
    known: Known,
    window: deque[Message],
    before: int,
    new: Sequence[Message],
    config: ContextConfig,
    now_us: int,
    count: Count = estimate,
) -> list[Message] | None:
    """What a model gets where nothing is to be weighed: the `window` that ends with turn `before`, all of it young and
    within the budget, and nothing is wanted of the turns before it. None where that is not so, or would take long to
    say. Some microseconds, and some tens of them for each new message once the session is longer than the window."""
    if known.facts != NO_FACTS:
        return None
    if config.max_age_s is not None and window and known.oldest_us < now_us - config.max_age_s * 1e6:
        return None
    most = COUNTED * config.max_context_tokens
    beyond = before > len(window)
    if beyond or before + len(new) >= config.window:  # or soon: what leaves the window has to be counted before
        followed = known.follow(window, before, most, count)
        if beyond and not (followed and known.short(config)):
            return None
    messages = [*dropwhile(_is_result, window), *new]
    budget = config.max_context_tokens
    characters = sum(map(most_tokens, messages))
    if characters <= budget:
        return messages
    fits = characters <= most and sum(message_tokens(message, count) for message in messages) <= budget
    return messages if fits else None


def _is_result(message: Message) -> bool:
    """A tool's result means nothing to a model that does not see the call."""
    return message.role == "tool"
