"""What a router keeps of a session's context between two turns: the cache of the context, an entry per session.

It lives and dies with what the router knows of the session (`runtime.session.SessionSlot`): where somebody else wrote,
both are dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile

from rayflow.chat import Message
from rayflow.config.schema import ContextConfig
from rayflow.policies.context.facts import NO_FACTS, Facts
from rayflow.policies.context.past import Past
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


COUNTED = 8
"""Texts of more than so many characters for each token of the budget are not counted here, but in slices."""


def whole(
    known: Known,
    window: deque[Message],
    before: int,
    new: Sequence[Message],
    config: ContextConfig,
    now_us: int,
    count: Count = estimate,
) -> list[Message] | None:
    """What a model gets where nothing needs to be chosen: the session has nothing but these `before` turns, all of them
    in the window, young, and within the budget. None where that is not so, or would take long to say.

    A few microseconds where there are fewer characters than tokens to spend; else a new message is counted, once."""
    if before > len(window) or known.facts != NO_FACTS:
        return None
    if config.max_age_s is not None and window and known.oldest_us < now_us - config.max_age_s * 1e6:
        return None
    messages = [*dropwhile(_is_result, window), *new]
    budget = config.max_context_tokens
    most = sum(map(most_tokens, messages))
    if most <= budget:
        return messages
    fits = most <= COUNTED * budget and sum(message_tokens(message, count) for message in messages) <= budget
    return messages if fits else None


def _is_result(message: Message) -> bool:
    """A tool's result means nothing to a model that does not see the call."""
    return message.role == "tool"
