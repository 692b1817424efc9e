"""What the classifier sees of a message: its words, pairs of words, and pieces of words.

Pieces (2 to 5 characters, word ends marked) make "refunded" and "refund" alike, and a typing error a small difference.
Each feature counts once, however often it occurs. Training and scoring share this one function, in plain Python: a
message of ten words takes some 20 microseconds, and the router needs no numpy.
"""

from __future__ import annotations

import re
from itertools import pairwise
from unicodedata import normalize

MAX_WORDS = 120
"""Of a long message: what it is about stands at its beginning or its end."""
_HEAD, _TAIL = 80, 40
MAX_WORD_CHARS = 40
"""Of a longer "word", which is none, only the beginning is cut into pieces."""
SHORTEST, LONGEST = 2, 5
_WORD = re.compile(r"[\w'’]+|[^\w\s]")


def words(text: str) -> list[str]:
    """Lower-case words and punctuation marks; of a long message, those of its beginning and end."""
    found = _WORD.findall(normalize("NFC", text).casefold())
    return found if len(found) <= MAX_WORDS else found[:_HEAD] + found[-_TAIL:]


def features(text: str) -> list[str]:
    """Each feature once. Words are marked with a leading "=", so that they are not mixed up with pieces."""
    spoken = words(text)
    found = [f"={word}" for word in spoken]
    found += [f"={one} {two}" for one, two in pairwise(spoken)]
    for word in spoken:
        ended = f" {word[:MAX_WORD_CHARS]} "
        length = len(ended)
        for size in range(SHORTEST, min(LONGEST, length) + 1):
            found += [ended[at : at + size] for at in range(length - size + 1)]
    return list(dict.fromkeys(found))
