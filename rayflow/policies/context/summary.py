"""A summary of what no longer fits, made of the conversation's own sentences.

The conversation is read in chunks of ten turns. Of each chunk the sentences that say most of what it is about are kept
(its digest), once; a summary chooses among the digests of all chunks that it stands for. So a summary is a function of
the history and nothing else: every process makes the same one, nothing is summarised twice, and its version is the
number of chunks. The history itself is never rewritten.
Source of the measure: H. P. Luhn, "The Automatic Creation of Literature Abstracts", IBM Journal 2(2), 1958.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from rayflow.language.sentences import Sentence
from rayflow.policies.context.tokens import Count

CHUNK = 10
"""Turns of a chunk: the summary changes no more often, which also keeps a model's prompt cache warm."""
KEPT = 4
"""Sentences of a digest."""
MIN_STEMS = 3
"""A shorter sentence says too little to stand alone."""
ASKS = 0.15
ANSWERS = 0.4
FACT = 0.5
"""What a question is worth against a statement, the assistant's words against the user's, and what each kind of fact
(a date, an amount, a name) adds."""
ROOM = 12
"""With fewer tokens left no further sentences are looked for."""
OWN = 1.5
"""Weight of what somebody says of himself: "my", "we"."""


class Said(NamedTuple):
    """A sentence that stands for its chunk."""

    score: float
    seq: int
    role: str
    text: str


class Summary(NamedTuple):
    """What stands in the place of turns `since` to `upto`. `version` counts the chunks from the session's beginning.
    All limits from `least` to `most` make the same."""

    text: str
    since: int
    upto: int
    least: float = 0
    most: float = 0

    @property
    def version(self) -> int:
        return self.upto // CHUNK


def chunk_of(seq: int) -> int:
    """The number of the chunk, from 1, that holds this turn."""
    return (seq - 1) // CHUNK + 1


def digest(chunk: Iterable[tuple[int, str, Sequence[Sentence]]]) -> tuple[Said, ...]:
    """The sentences of a chunk (`seq`, role and sentences of each message) that say most, best first."""
    candidates = [
        (seq, role, sentence)
        for seq, role, sentences in chunk
        for sentence in sentences
        if len(sentence.stems) - sentence.facts >= MIN_STEMS
    ]
    frequency = Counter(chain.from_iterable(sentence.stems for _, _, sentence in candidates))
    worth = {stem: math.log2(1 + times) for stem, times in frequency.items()}
    best: list[Said] = []
    for seq, role, sentence in candidates:
        weight = sum(map(worth.__getitem__, sentence.stems)) / math.sqrt(sentence.length)
        weight *= (1 + FACT * sentence.facts) * (ANSWERS if role == "assistant" else 1.0)
        weight *= (ASKS if sentence.question else 1.0) * (OWN if sentence.own else 1.0)
        best.append(Said(weight, seq, role, sentence.text))
    best.sort(key=_best_first)
    return tuple(best[:KEPT])


def summarise(digests: Mapping[int, tuple[Said, ...]], since: int, upto: int, limit: int, count: Count) -> Summary:
    """The turns from `since` to `upto`, both at the edges of chunks, within `limit` tokens; an empty text where not
    even one sentence fits. Every chunk gives its best sentence before any gives its second."""
    less = more = math.inf  # by how much the limit could be other, and no sentence be chosen or left out for it
    head = f"Summary of turns {since} to {upto} of this conversation (version {upto // CHUNK}):"
    left = limit - count(head)
    chosen: list[Said] = []
    chunks = [digests.get(number, ()) for number in range(chunk_of(since), chunk_of(upto) + 1)]
    for rank in range(KEPT):
        if left < ROOM:
            more = min(more, ROOM - left - 1)
            break
        less = min(less, left - ROOM)
        for said in sorted((kept[rank] for kept in chunks if len(kept) > rank), key=_best_first):
            tokens = count(_line(said)) + 1
            if tokens > left:
                more = min(more, tokens - left - 1)
                continue
            less = min(less, left - tokens)
            if all(said.text != other.text for other in chosen):
                chosen.append(said)
                left -= tokens
    chosen.sort(key=lambda said: (said.seq, -said.score))
    text = "\n".join([head, *map(_line, chosen)]) if chosen else ""
    return Summary(text, since, upto, limit - less, limit + more)


def _best_first(said: Said) -> tuple[float, int]:
    return -said.score, said.seq


def _line(said: Said) -> str:
    return f"- {'User' if said.role == 'user' else 'Assistant'}: {said.text}"
