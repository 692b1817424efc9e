"""What a conversation is about, and when that changed.

A topic lasts while the user's messages share words with it. A message of some length that shares almost none with the
last few messages of its topic begins another one. A topic is named by the words that were used in it most often.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from rayflow.language.words import content_words, stem

RECENT = 6
"""Messages that the next one is compared with."""
LONG_ENOUGH = 4
"""A message of fewer words ("and the red one?") belongs to what was said before."""
SHARED = 0.15
"""Share of a message's words that the topic must know."""
NAMED_BY = 3
MAX_CHARS = 2000
MAX_TOPICS = 50
"""The last so many are known."""


class Topic(NamedTuple):
    """Its commonest words, and its first and last turn."""

    words: tuple[str, ...]
    first: int
    last: int

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass(slots=True)
class _Open:
    first: int
    last: int
    counts: Counter[str] = field(default_factory=Counter)
    shown: dict[str, str] = field(default_factory=dict)
    recent: deque[frozenset[str]] = field(default_factory=lambda: deque(maxlen=RECENT))

    def closed(self) -> Topic:
        ranked = sorted(self.shown, key=lambda stem: -self.counts[stem])  # of equals, what was said first
        return Topic(tuple(self.shown[stem] for stem in ranked[:NAMED_BY]), self.first, self.last)


class Topics:
    """Tracks the topics of one session. `add` the user's messages in their order."""

    def __init__(self) -> None:
        self._past: deque[Topic] = deque(maxlen=MAX_TOPICS - 1)
        self._open: _Open | None = None

    def add(self, seq: int, text: str) -> None:
        words = {stem(word): word for word in reversed(content_words(text[:MAX_CHARS]))}
        if self._open is None or self._is_new(words):
            if self._open is not None and self._open.counts:
                self._past.append(self._open.closed())
            self._open = _Open(seq, seq)
        topic = self._open
        topic.last = seq
        topic.counts.update(words.keys())
        for stemmed in reversed(words):
            topic.shown.setdefault(stemmed, words[stemmed].lower())
        if words:
            topic.recent.append(frozenset(words))

    def _is_new(self, words: dict[str, str]) -> bool:
        topic = self._open
        if topic is None or not topic.recent or len(words) < LONG_ENOUGH:
            return False
        known = frozenset().union(*topic.recent)
        return len(words.keys() & known) < SHARED * len(words)

    @property
    def all(self) -> list[Topic]:
        """The topics so far, the present one last."""
        return [*self._past, self._open.closed()] if self._open and self._open.counts else list(self._past)
