"""The last messages of a conversation, as many as fit.

An assistant's tool calls and their results are one unit: neither may come without the other. Where not all of the
window fits, long results and texts are cut first, then the oldest units go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from rayflow.policies.context.past import Entry
from rayflow.policies.context.tokens import Count, cut, message_tokens


class Fitted(NamedTuple):
    """An entry as it is shown; `whole`: not cut."""

    entry: Entry
    whole: bool = True


def units(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Messages that must stay together, oldest first. Results whose call is not among `entries` are in none."""
    found: list[list[Entry]] = []
    called: set[str] = set()
    for entry in entries:
        message = entry.message
        if message.role != "tool":
            called = {call.id for call in message.tool_calls or ()}
            found.append([entry])
        elif found and message.tool_call_id in called:
            found[-1].append(entry)
    return found


def fit(entries: Sequence[Entry], left: int, result_tokens: int, count: Count) -> list[Fitted]:
    """The newest of `entries` that have room in `left` tokens, in order. Results are cut to `result_tokens`, and other
    texts to half of `left`, where that is needed."""
    together = None
    if "tool" in [entry.message.role for entry in entries]:
        together = units(entries)
        entries = [entry for unit in together for entry in unit]
    if sum([entry.tokens for entry in entries]) <= left:
        return [Fitted(entry) for entry in entries]
    if together is None:
        together = [[entry] for entry in entries]
    chosen: list[list[Fitted]] = []
    for unit in reversed(together):
        shown = [_trimmed(entry, result_tokens if entry.message.role == "tool" else left // 2, count) for entry in unit]
        tokens = sum(fitted.entry.tokens for fitted in shown)
        if tokens > left:
            break
        left -= tokens
        chosen.append(shown)
    return [fitted for unit in reversed(chosen) for fitted in unit]


def _trimmed(entry: Entry, limit: int, count: Count) -> Fitted:
    if entry.tokens <= limit or not isinstance(entry.message.content, str):
        return Fitted(entry)
    text = cut(entry.message.content, limit, count)
    if text == entry.message.content:
        return Fitted(entry)
    message = msgspec.structs.replace(entry.message, content=text)
    return Fitted(entry._replace(message=message, tokens=message_tokens(message, count)), whole=False)
