"""Several answers to one question, laid beside each other.

Every statement of an answer is compared with every statement of the others: who says the same, who says the opposite.
That grows with the square of what was said, and it happens on an event loop; so no more than `MAX_PAIRS` pairs are
compared, some 50 ms of work. In longer answers only the first statements are, the same number of each; what comes
after them is taken as new, unless it is word for word the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import isqrt
from typing import NamedTuple

from rayflow.messages import Part
from rayflow.policies.merging.markdown import Line, Statement, parse, statements
from rayflow.policies.merging.meaning import FEWEST_WORDS, Kind, Meaning, understand

MAX_PAIRS = 5_000
SAME = 0.6
"""A statement makes a point of another where that says so much of it: share of its content words, and every number."""
SAID = 0.8
"""And is said already from here on."""


class Place(NamedTuple):
    """A statement: number `statement` of answer number `answer`."""

    answer: int
    statement: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two statements that exclude each other; `first` is of the earlier answer."""

    kind: Kind
    first: Place
    second: Place


class Answer:
    """A part, taken apart. `confidence`: of the routing, that the question was this agent's. `verbatim`: with the
    blanks at its ends."""

    def __init__(self, part: Part, *, verbatim: bool = False) -> None:
        self.part = part
        self.agent = part.agent
        self.text = part.text if verbatim else part.text.strip()
        self.confidence = part.confidence
        self.lines: list[Line] = parse(part.text)
        self.statements: list[Statement] = statements(self.lines)


class Comparison:
    """`covered`: statement -> statements of others that say it, too, and how much of it. `peers`: the same in either
    direction, so that both make one point. `opponents`: statement -> those that contradict it."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers = answers
        self.conflicts: list[Conflict] = []
        self.covered: defaultdict[Place, dict[Place, float]] = defaultdict(dict)
        self.peers: defaultdict[Place, set[Place]] = defaultdict(set)
        self.opponents: defaultdict[Place, set[Place]] = defaultdict(set)
        self._echo: defaultdict[Place, dict[int, float]] = defaultdict(dict)
        self._meanings = [[understand(s.text) for s in a.statements[: self.depth]] for a in answers]
        for (i, _), (j, _) in combinations(enumerate(answers), 2):
            for m in range(len(self._meanings[i])):
                for n in range(len(self._meanings[j])):
                    self._compare(Place(i, m), Place(j, n))

    @cached_property
    def depth(self) -> int:
        """So many statements of each answer are compared."""
        pairs = len(self.answers) * (len(self.answers) - 1) // 2
        return isqrt(MAX_PAIRS // pairs) if pairs else 0

    def statement(self, place: Place) -> Statement:
        return self.answers[place.answer].statements[place.statement]

    def supporters(self, place: Place) -> set[int]:
        """The other answers that make the same point."""
        return {other.answer for other in self.covered[place]}

    def accuracy_of(self, place: Place) -> float | None:
        """What the others think of a statement: the mean over them of 0 where they contradict it, and of (1 + c) / 2
        where they say the share c of it, so that silence is 0.5. None where there is nothing to compare."""
        if place.statement >= self.depth or len(self.answers) < 2:
            return None
        if not self.meaning(place).substantial or self.statement(place).solid:
            return None
        others = [i for i in range(len(self.answers)) if i != place.answer]
        echo, denied = self._echo[place], {other.answer for other in self.opponents[place]}
        return sum(0.0 if i in denied else (1 + echo.get(i, 0.0)) / 2 for i in others) / len(others)

    def agreement(self, answer: int) -> float:
        """Mean of `accuracy_of` over the statements of an answer; 0.5 where there is nothing to compare."""
        places = (Place(answer, n) for n in range(len(self.answers[answer].statements)))
        found = [value for place in places if (value := self.accuracy_of(place)) is not None]
        return sum(found) / len(found) if found else 0.5

    def meaning(self, place: Place) -> Meaning:
        return self._meanings[place.answer][place.statement]

    def _compare(self, a: Place, b: Place) -> None:
        said, other = self.statement(a), self.statement(b)
        if said.spoken == other.spoken:
            self._covers(a, b, 1.0)
            self._covers(b, a, 1.0)
            return
        mine, theirs = self.meaning(a), self.meaning(b)
        if said.solid or other.solid or len(mine.content & theirs.content) < FEWEST_WORDS:
            return
        if kind := mine.contradicts(theirs):
            self.conflicts.append(Conflict(kind, a, b))
            self.opponents[a].add(b)
            self.opponents[b].add(a)
            return
        self._covers(a, b, mine.covered_by(theirs))
        self._covers(b, a, theirs.covered_by(mine))

    def _covers(self, a: Place, b: Place, share: float) -> None:
        echo = self._echo[a]
        echo[b.answer] = max(share, echo.get(b.answer, 0.0))
        if share >= SAME:
            self.covered[a][b] = share
            self.peers[a].add(b)
            self.peers[b].add(a)
