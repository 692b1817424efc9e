"""Which messages of a session a text asks about: BM25, with words for the same thing counted as one, and blended with
how alike they are as vectors where there are any.

The index grows with the session and never changes what it has: postings are ascending sequence numbers, so a search
can be limited to any stretch of the conversation by bisection. A message is as long as its sentences, and a word counts
once in each. What only asks is worth less than what says, and what the assistant said less than what the user did.
Source: S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", FnTIR 3(4), 2009.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from heapq import nlargest
from typing import NamedTuple

from rayflow.language.sentences import Sentence
from rayflow.language.words import alternatives, content_words, kinds_asked, stem, words
from rayflow.policies.context.tokens import Count
from rayflow.policies.similarity import blend

K1 = 1.2
B = 0.5
KIND = 1.25
"""A message with the kind of fact that is asked for ("when": a date) counts so much more."""
ASKS = 0.4
"""Weight of a message that consists of questions."""
ANSWERS = 0.7
"""Weight of a message of the assistant."""
WEIGHTY_WORDS = 5
"""The coverage of a query is that of its rarest words: a long question must not be harder to answer."""
MAX_QUERY_WORDS = 32

_PART = re.compile(r"(?<=[.!?])\s+|\n+")


class Hit(NamedTuple):
    """`coverage`: share of the query's weight that is in the message, from 0 to 1."""

    score: float
    seq: int
    coverage: float


class Index:
    """Messages by their stems. `add` them in the order of their numbers."""

    def __init__(self) -> None:
        self._postings: defaultdict[str, list[int]] = defaultdict(list)
        self._seqs: list[int] = []
        self._ends: list[int] = []
        """Stems up to and with the message at this place."""
        self._weights: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._seqs)

    def add(self, seq: int, role: str, parts: Sequence[Sentence]) -> None:
        """A message as its sentences."""
        for part in parts:
            for held in part.stems:
                self._postings[held].append(seq)
        self._seqs.append(seq)
        self._ends.append((self._ends[-1] if self._ends else 0) + sum(part.length for part in parts))
        asks = ASKS if parts and all(part.question for part in parts) else 1.0
        self._weights[seq] = asks * (ANSWERS if role == "assistant" else 1.0)

    def search(
        self,
        query: str,
        top_k: int,
        since: int = 0,
        until: int | None = None,
        meaning: Mapping[int, float] | None = None,
        weight: float = 0.0,
    ) -> list[Hit]:
        """The `top_k` messages with numbers from `since` up to, not with, `until` that have most to do with `query`,
        best first; of equals, the newer one.

        `meaning`: how alike each message and the query are as vectors, where that is known; its share of the rank is
        `weight`, and a message as alike as 0.5 counts as half covered.
        """
        first = bisect_left(self._seqs, since)
        last = len(self._seqs) if until is None else bisect_left(self._seqs, until)
        if first >= last or top_k <= 0:
            return []
        scores, coverage = self._lexical(query, first, last)
        if meaning is not None:
            begin, end = self._seqs[first], self._seqs[last - 1] + 1
            alike = {seq: cosine for seq, cosine in meaning.items() if begin <= seq < end and cosine > 0}
            scores = blend(scores, alike, weight)
            coverage |= {seq: max(cosine, coverage.get(seq, 0.0)) for seq, cosine in alike.items()}
        best = nlargest(top_k, ((score, seq) for seq, score in scores.items()))
        return [Hit(score, seq, min(1.0, coverage[seq])) for score, seq in best]

    def _lexical(self, query: str, first: int, last: int) -> tuple[dict[int, float], dict[int, float]]:
        """Scores and coverage of the messages at these places that hold anything of `query`."""
        groups = tuple(dict.fromkeys(alternatives(word) for word in content_words(query)))[:MAX_QUERY_WORDS]
        if not groups:
            return {}, {}
        begin, end = self._seqs[first], self._seqs[last - 1] + 1
        found = [self._frequencies(group, begin, end) for group in groups]
        population = last - first
        idf = [math.log(1 + (population - len(seqs) + 0.5) / (len(seqs) + 0.5)) for seqs in found]
        weight = sum(sorted(idf)[-WEIGHTY_WORDS:])
        average = (self._ends[last - 1] - (self._ends[first - 1] if first else 0)) / population or 1.0
        scores: defaultdict[int, float] = defaultdict(float)
        covered: defaultdict[int, float] = defaultdict(float)
        lengths: dict[int, float] = {}
        for rarity, seqs in zip(idf, found, strict=True):
            for seq, frequency in seqs.items():
                if seq not in lengths:
                    lengths[seq] = K1 * (1 - B + B * self._length(seq) / average)
                scores[seq] += rarity * frequency * (K1 + 1) / (frequency + lengths[seq])
                covered[seq] += rarity
        asked = dict.fromkeys(self._frequencies(kinds_asked(query), begin, end), KIND)
        weights = self._weights
        weighed = {seq: score * weights[seq] * asked.get(seq, 1.0) for seq, score in scores.items()}
        return weighed, {seq: share / weight for seq, share in covered.items()}

    def _frequencies(self, stems: frozenset[str], first: int, end: int) -> Counter[int]:
        """How many sentences of each message hold one of these stems."""
        found: Counter[int] = Counter()
        for held in stems:
            postings = self._postings.get(held, ())
            found.update(postings[bisect_left(postings, first) : bisect_left(postings, end)])
        return found

    def _length(self, seq: int) -> int:
        place = bisect_left(self._seqs, seq)
        return self._ends[place] - (self._ends[place - 1] if place else 0)


def excerpt(text: str, query: str, limit: int, count: Count) -> str:
    """The lines and sentences of `text` that hold most of what `query` asks for, in their order, within `limit` tokens;
    "" where none of them fits."""
    asked = frozenset[str]().union(*(alternatives(word) for word in content_words(query)))
    parts = [part for part in _PART.split(text) if part.strip()]
    scores = [len(asked.intersection(map(stem, words(part)))) for part in parts]
    chosen: set[int] = set()
    for place in sorted(range(len(parts)), key=lambda place: -scores[place]):
        tokens = count(parts[place]) + 1
        if scores[place] and tokens <= limit:
            chosen.add(place)
            limit -= tokens
    shown = (("" if place - 1 in chosen or not place else "... ") + parts[place] for place in sorted(chosen))
    return " ".join(shown)
