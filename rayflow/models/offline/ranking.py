"""Which sentences answer a question: BM25 over sentences, with words for the same thing counted as one.

A query is a list of groups, one per word of the question; a sentence matches a group when it holds any of its stems.
Since sentences are short, a word counts once (tf = 1). Kinds of facts the question asks for ("when": a date) raise a
sentence that has one, but never carry it alone.
Source: S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", FnTIR 3(4), 2009.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from rayflow.language.sentences import Sentence
from rayflow.language.words import alternatives, content_words, kinds_asked

K1 = 1.2
B = 0.5
MIN_COVERAGE = 0.4
"""Share of the question's weight a sentence must hold to be an answer."""
WEIGHTY_WORDS = 5
"""Only this many of a question's rarest words are asked for: a long question must not be harder to answer."""
MAX_QUERY_WORDS = 32


class Query(NamedTuple):
    groups: tuple[frozenset[str], ...]
    kinds: frozenset[str]

    @classmethod
    def of(cls, question: str) -> Query:
        groups = dict.fromkeys(alternatives(word) for word in content_words(question))
        return cls(tuple(groups)[:MAX_QUERY_WORDS], kinds_asked(question))


class Passage(NamedTuple):
    """A sentence that may be part of an answer. `weight`: how much its source is worth; `order`: where it stands."""

    sentence: Sentence
    source: str
    weight: float
    order: int


class Ranked(NamedTuple):
    score: float
    passage: Passage


class Index:
    """Passages that do not change (a knowledge file, a system prompt), by stem."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.size = len(passages)
        self._passages = passages
        self._by_stem: defaultdict[str, list[int]] = defaultdict(list)
        for number, passage in enumerate(passages):
            for stem in passage.sentence.stems:
                self._by_stem[stem].append(number)

    def candidates(self, query: Query) -> list[Passage]:
        """The passages that match any word of the query."""
        found = {number for group in query.groups for stem in group for number in self._by_stem.get(stem, ())}
        return [self._passages[number] for number in sorted(found)]


def rank(query: Query, passages: Sequence[Passage], population: int) -> list[Ranked]:
    """Those passages that answer the query, best first. `population`: sentences in all, `passages` and others."""
    matches = [
        (passage, [g for g, group in enumerate(query.groups) if group & passage.sentence.stems]) for passage in passages
    ]
    holders = [0] * len(query.groups)
    for _, matched in matches:
        for g in matched:
            holders[g] += 1
    population = max(population, len(passages), 1)
    idf = [math.log(1 + (population - count + 0.5) / (count + 0.5)) for count in holders]
    needed = MIN_COVERAGE * sum(sorted(idf)[-WEIGHTY_WORDS:])
    average = sum(passage.sentence.length for passage in passages) / max(len(passages), 1) or 1.0
    ranked = []
    for passage, matched in matches:
        covered = sum(idf[g] for g in matched)
        if not matched or covered < needed:
            continue
        score = covered * (K1 + 1) / (1 + K1 * (1 - B + B * passage.sentence.length / average))
        score *= passage.weight
        if query.kinds:
            score *= 1.25 if query.kinds & passage.sentence.stems else 0.8
        ranked.append(Ranked(score, passage))
    ranked.sort(key=lambda entry: (-entry.score, -entry.passage.order))
    return ranked
