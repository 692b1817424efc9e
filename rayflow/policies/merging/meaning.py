"""What a sentence says, as far as words go: its subject, its quantities, and whether it affirms or denies.

This is no understanding of language. It is made so that what it finds can be relied on: where it is in doubt, two
sentences are about different things and neither agree nor contradict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from rayflow.policies.merging.dates import take_dates, take_times
from rayflow.policies.merging.language import COMMON, CONDITIONS, LIGHT, NEGATORS, POLES, TIMING, stem
from rayflow.policies.merging.quantities import take_quantities
from rayflow.policies.text import words

ABOUT_THE_SAME = 0.5
"""Jaccard overlap of content words from which two sentences may contradict each other in a number or date."""
NEARLY_THE_SAME = 0.75
"""The same where one denies what the other says: there, one word more may well be the reason."""
FEWEST_WORDS = 2
"""With fewer content words, nobody knows what a sentence is about."""
SCOPE = 2
"""So many words after a "not" are what it denies."""

Kind = Literal["number", "date", "negation", "antonym"]


class Fact(Protocol):
    """A quantity or a date."""

    def agrees(self, other: Any, /) -> bool: ...


_CONTRACTED = re.compile(r"n['’]t\b", re.IGNORECASE)
_NO_NEGATION = re.compile(r"^\W*(?:yes|no)\b\s*[,.!:;]|\bnot only\b", re.IGNORECASE)
_HYPHENED = re.compile(r"\bnon-(?=\w)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Meaning:
    """`content`: stems of the words that tell the subject, with one for each dimension that is measured. `facts`:
    quantities, dates and times by dimension. `denials`: how many negations; `denied`: stems that they are about.
    `poles`: words that have an opposite, as (pair, side). `order`: all words as they stand."""

    content: frozenset[str]
    facts: dict[str, tuple[Fact, ...]]
    denials: int
    denied: frozenset[str]
    poles: frozenset[tuple[str, int]]
    conditions: frozenset[str]
    timing: frozenset[str]
    order: tuple[str, ...]

    @property
    def substantial(self) -> bool:
        """Whether it says enough to be compared."""
        return len(self.content) >= FEWEST_WORDS

    def covered_by(self, other: Meaning) -> float:
        """How much of this the other says, too: the share of content words; 0 where a quantity is missing, where the
        one denies what the other affirms, and where they speak of different things."""
        shared = len(self.content & other.content)
        if not shared or not self._facts_in(other) or self._antonym(other) != self._negation(other):
            return 0.0
        return 0.0 if self._contrasted(other) else shared / len(self.content)

    def contradicts(self, other: Meaning) -> Kind | None:
        """How the two exclude each other, where they are about the same thing."""
        shared = len(self.content & other.content)
        overlap = shared / (len(self.content) + len(other.content) - shared) if shared else 0.0
        if overlap < ABOUT_THE_SAME or shared < FEWEST_WORDS or self.conditions != other.conditions:
            return None
        if self._contrasted(other) or self._special(other) or other._special(self):
            return None
        differs, opposed = self._differing(other), self._opposed(other, overlap)
        # What is denied of one number may be true of the other.
        return None if differs and opposed else differs or opposed

    def _facts_in(self, other: Meaning) -> bool:
        return all(
            any(fact.agrees(theirs) for theirs in other.facts.get(dimension, ()))
            for dimension, facts in self.facts.items()
            for fact in facts
        )

    def _differing(self, other: Meaning) -> Kind | None:
        for dimension in self.facts.keys() & other.facts.keys():
            mine, theirs = self.facts[dimension], other.facts[dimension]
            if len(mine) == len(theirs):
                # As many here as there: the first is the first, as in "from 9 to 5" and "from 8 to 5".
                differ = any(not a.agrees(b) for a, b in zip(mine, theirs, strict=True))
                differ &= set(mine) != set(theirs)
            else:
                differ = not any(a.agrees(b) for a in mine for b in theirs)
            if differ:
                return "date" if dimension == "date" else "number"
        return None

    def _opposed(self, other: Meaning, overlap: float) -> Kind | None:
        if overlap < NEARLY_THE_SAME or self.timing != other.timing:
            return None
        antonym, negation = self._antonym(other), self._negation(other)
        if antonym == negation:  # "not safe" is "unsafe"
            return None
        if antonym:
            return "antonym"
        denied = (self.denied & other.content - other.denied) | (other.denied & self.content - self.denied)
        return "negation" if denied else None

    def _antonym(self, other: Meaning) -> bool:
        return any((pair, 1 - side) in other.poles for pair, side in self.poles)

    def _negation(self, other: Meaning) -> bool:
        return self.denials % 2 != other.denials % 2

    def _contrasted(self, other: Meaning) -> bool:
        """Whether a word of one stands where the other has another, so that they speak of different things: "the Pro
        plan" and "the Basic plan", "to France" and "to Spain"."""
        here, there = self._neighbours(self.content - other.content), other._neighbours(other.content - self.content)
        return not here.isdisjoint(there)

    def _special(self, other: Meaning) -> bool:
        """Whether this is about a case that the other does not mention: "for digital goods"."""
        return ("before", "for") in self._neighbours(self.content - other.content)

    def _neighbours(self, own: frozenset[str]) -> set[tuple[str, str]]:
        """(side, word) for the words next to these."""
        if not own:
            return set()
        places = [i for i, word in enumerate(self.order) if stem(word) in own]
        before = {("before", self.order[i - 1]) for i in places if i > 0}
        return before | {("after", self.order[i + 1]) for i in places if i + 1 < len(self.order)}


def understand(sentence: str) -> Meaning:
    text = _NO_NEGATION.sub(" ", _CONTRACTED.sub(" not", _HYPHENED.sub("non_", sentence)))
    dates, text = take_dates(text)
    times, text = take_times(text)
    quantities, text = take_quantities(text.replace("’", "'"))
    facts: dict[str, tuple[Fact, ...]] = {"date": tuple(dates)} if dates else {}
    for quantity in (*times, *quantities):
        facts[quantity.dimension] = (*facts.get(quantity.dimension, ()), quantity)
    order = tuple(word for word in words(text) if word not in ("a", "an", "the", "s"))
    poles = frozenset(POLES[word] for word in order if word in POLES)
    poles = frozenset((pair, side) for pair, side in poles if (pair, 1 - side) not in poles)
    return Meaning(
        content=frozenset(_content(order)).union(f"~{name}" for name in (*facts, *(pair for pair, _ in poles))),
        facts=facts,
        denials=sum(word in NEGATORS for word in order),
        denied=frozenset(_denied(order)),
        poles=poles,
        conditions=CONDITIONS.intersection(order),
        timing=TIMING.intersection(order),
        order=order,
    )


def _content(order: tuple[str, ...]) -> Iterator[str]:
    for word in order:
        if word not in COMMON and word not in NEGATORS and word not in TIMING and word not in POLES:
            root = stem(word)
            if root not in LIGHT:
                yield root


def _denied(order: tuple[str, ...]) -> Iterator[str]:
    for i, word in enumerate(order):
        if word in NEGATORS:
            following = [w for w in order[i + 1 :] if w not in COMMON and w not in NEGATORS]
            yield from map(stem, following[:SCOPE])
