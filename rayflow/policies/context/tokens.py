"""How many tokens a text has for a model.

Exact counts take a model's own vocabulary, megabytes of it; that is `context.tokenizer`. The estimate needs none: it
counts the pieces that the byte-pair tokenizers of today's models make of ordinary text, where a short word is one
token, three digits are one, and so is a pair of punctuation marks. `tests/unit/policies/context/test_context_tokens.py`
holds its bound against true counts of `o200k_base`: each of 360 public texts in English (conversations, prompts,
documentation, tool definitions) lies within -25 % and +50 %, each file of them within 15 %; texts in twelve other
languages within -5 % and +80 %. Random strings are underestimated, base64 by a quarter, the worst by two thirds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from rayflow.chat import Message

Count = Callable[[str], int]
"""Tokens of a text."""

PER_MESSAGE = 4
"""Tokens of a message beside its text: its role, and where it begins and ends."""
PER_ATTACHMENT = 765
"""Tokens of a content part that is no text: an image of one tile, as OpenAI counts it."""
WIDEST = 4
"""Most tokens of one character: byte-pair tokens hold at least one byte."""

_PIECE = re.compile(
    r"[A-Z]?[a-z]{1,9}|[A-Z]{1,3}|\d{1,3}|_|[!-/:-@\[-^`{-~]{1,2}|\n+"
    r"|[À-ɏ]|[一-鿿぀-ヿ가-힯]|[^\W\d_]{1,3}|[^\x00-\x7f]"
)
_DEAR = re.compile(r"[\U00010000-\U0010ffff\u0300-\u036f\u0080-\u00bf]")
"""Characters that mostly take two tokens: emoji, combining marks, rare signs."""


LONG = 20_000
"""Of a text with more than twice so many characters its beginning and its end are counted, so many of each."""


CACHED = 16_384
"""Texts whose count is remembered: a context counts the same messages turn after turn."""


@lru_cache(maxsize=CACHED)
def estimate(text: str) -> int:
    """Tokens of `text`, about. 0.1 ms for 1,200 characters, and never more than 5 ms; once for each text."""
    if len(text) > 2 * LONG:
        return (_pieces(text[:LONG]) + _pieces(text[-LONG:])) * len(text) // (2 * LONG)
    return _pieces(text)


def _pieces(text: str) -> int:
    pieces = len(_PIECE.findall(text))
    return pieces if text.isascii() else pieces + len(_DEAR.findall(text))


def message_tokens(message: Message, count: Count = estimate) -> int:
    """Tokens of a message with everything a model reads of it."""
    tokens = PER_MESSAGE + count(message.text)
    if isinstance(message.content, list):
        tokens += PER_ATTACHMENT * sum(not isinstance(part.get("text"), str) for part in message.content)
    for call in message.tool_calls or ():
        tokens += PER_MESSAGE + count(call.function.name) + count(call.function.arguments)
    return tokens


def most_tokens(message: Message) -> int:
    """At least as many tokens as any count of this message yields, without counting: a microsecond at most."""
    content = message.content
    if type(content) is not str or message.tool_calls:
        return message_tokens(message, _most)
    return PER_MESSAGE + _most(content)


def _most(text: str) -> int:
    return len(text) if text.isascii() else WIDEST * len(text)


def cut(text: str, limit: int, count: Count = estimate) -> str:
    """The beginning and the end of `text` within `limit` tokens, where it has more: what a tool answered says first
    what it is, and last how it ended."""
    if _most(text) <= limit or count(text) <= limit:
        return text
    keep = len(text) * limit // max(count(text), 1)
    while keep > 0:
        gap = f"\n[... {len(text) - keep} characters left out ...]\n"
        shown = text[: keep - keep // 3] + gap + text[len(text) - keep // 3 :]
        if count(shown) <= limit:
            return shown
        keep = keep * 9 // 10 - 1
    return ""
