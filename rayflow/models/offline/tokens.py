"""The offline model's own tokens: a word (letters, digits, apostrophes inside) or one other visible character.

White space belongs to the token before it and counts nothing. The rule is exact and the same everywhere, so usage is
counted, not estimated; the figures do not compare with those of any language model.
"""

from __future__ import annotations

import re
from functools import lru_cache

_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]|_")
_PIECE = re.compile(r"\S+\s*|\s+")


@lru_cache(maxsize=4096)
def count(text: str) -> int:
    """Tokens in `text`."""
    return len(_TOKEN.findall(text))


def cut(text: str, limit: int) -> str:
    """The first `limit` tokens of `text`, with the white space between them."""
    end = 0
    for found, match in enumerate(_TOKEN.finditer(text)):
        if found == limit:
            return text[:end]
        end = match.end()
    return text


def pieces(text: str) -> list[str]:
    """`text` in words, each with the white space after it: what a stream sends one by one."""
    return _PIECE.findall(text)
