"""Texts as sentences that can be ranked. Analysed once: what was said in a conversation does not change."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from rayflow.language.words import stems

MAX_SENTENCE_CHARS = 400

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
    facts: int = 0
    """How many of the stems stand for kinds of facts ("<date>")."""


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
    found = stems(text)
    shown = text if len(text) <= MAX_SENTENCE_CHARS else text[:MAX_SENTENCE_CHARS].rsplit(" ", 1)[0] + " ..."
    asks = text.endswith("?") or _QUESTION.match(text) is not None
    held = frozenset(found)
    return Sentence(shown, held, len(found), asks, sum(stem[0] == "<" for stem in held))
