"""Vectors without a model: the stems of a text, each hashed to a few places with a sign.

Equal words make texts alike, and nothing else does: such vectors find what search by words finds, and no meaning. They
are there so that everything around vectors can be tried and tested offline, and they say so by their name. The same
text has the same vector in every process. Source: K. Weinberger et al., "Feature Hashing for Large Scale Multitask
Learning", ICML 2009.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from math import sqrt

from rayflow.language.words import stems

NAME = "offline-hashed-words"
DIMENSIONS = 256
PLACES = 4
"""Places of one stem: two stems that share one are still told apart by the others."""


def vector(text: str) -> list[float]:
    """Of unit length; a text without words has the first place alone."""
    values = [0.0] * DIMENSIONS
    for stem in dict.fromkeys(stems(text)):
        for place, sign in _places(stem):
            values[place] += sign
    length = sqrt(sum(value * value for value in values))
    if not length:
        values[0] = length = 1.0
    return [value / length for value in values]


@lru_cache(maxsize=65536)
def _places(stem: str) -> tuple[tuple[int, float], ...]:
    digest = blake2b(stem.encode(), digest_size=2 * PLACES).digest()
    numbers = (int.from_bytes(digest[at : at + 2]) for at in range(0, 2 * PLACES, 2))
    return tuple((number % DIMENSIONS, 1.0 if number & 0x8000 else -1.0) for number in numbers)
