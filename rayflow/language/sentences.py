"""Texts as sentences that can be ranked. Analysed once: what was said in a conversation does not change."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from rayflow.language.words import STOP, kinds, plain, stem, words

MAX_SENTENCE_CHARS = 400
OWN = frozenset(("i", "my", "mine", "me", "we", "our", "us"))
"""Words with which somebody speaks of himself, also with an ending ("I'm")."""

_BREAK = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
_BULLET = re.compile(r"^\s*(?:[-*+>•]|#+|\d{1,3}[.)])\s+")
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|Nr|vs|approx|e\.g|i\.e|etc|Inc|Ltd|U\.S)|\b[A-Z])\.$")
_QUESTION = re.compile(
    r"^(?:please\s+|and\s+|so\s+|now\s+|but\s+|ok(?:ay)?,?\s+)*"
    r"(?:who|whom|whose|what|what['’]s|where|when|why|how|which|do|does|did|is|are|am|was|were|can|could|would|will|should|"
    r"tell me|remind me|give me|show me|explain|describe|list|name)\b",
    re.I,
)


class Sentence(NamedTuple):
    text: str
    stems: frozenset[str]
    length: int
    """Stems with repetitions: what the ranking normalises by."""
    question: bool
    facts: int
    """How many of the stems stand for kinds of facts ("<date>")."""
    own: bool
    """Whether it is about who says it."""


@lru_cache(maxsize=4096)
def sentences(text: str) -> tuple[Sentence, ...]:
    """The sentences and list items of `text`, in order."""
    return tuple(_analyse(part) for part in _split(text))


def _split(text: str) -> list[str]:
    parts: list[str] = []
    for line in text.splitlines():
        joins = False
        for part in filter(str.strip, _BREAK.split(_BULLET.sub("", line))):
            if joins:
                parts[-1] = f"{parts[-1]} {part.strip()}"
            else:
                parts.append(part.strip())
            joins = len(parts[-1]) < MAX_SENTENCE_CHARS and _ABBREVIATION.search(parts[-1]) is not None
    return parts


def _analyse(text: str) -> Sentence:
    said = [(word, plain(word)) for word in words(text)]
    found = [stem(word) for word, low in said if low not in STOP]
    facts = kinds(text, [low for _, low in said])
    own = any(low in OWN or low.partition("'")[0] in OWN for _, low in said)
    asks = text.endswith("?") or _QUESTION.match(text) is not None
    shown = text if len(text) <= MAX_SENTENCE_CHARS else text[:MAX_SENTENCE_CHARS].rsplit(" ", 1)[0] + " ..."
    return Sentence(shown, frozenset(found).union(facts), len(found) + len(facts), asks, len(facts), own)
