"""The strategies: from several answers to the blocks of one.

All of them are deterministic, and none writes a word of its own: every sentence is one that an agent wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rayflow.config.schema import AggregationConfig
from rayflow.policies.merging.answers import SAID, Answer, Comparison, Place
from rayflow.policies.merging.formatting import Block, Style
from rayflow.policies.merging.markdown import Statement, render
from rayflow.policies.merging.resolution import Settlement, settle
from rayflow.policies.merging.scoring import Score, score_statement


@dataclass(frozen=True, slots=True)
class Draft:
    """A joined answer before it is written. `sources`: its agents should be named at the end, as their words are mixed.
    `whole`: the first block is one agent's answer, word for word, and never cut. `metadata`: what only this strategy
    can say."""

    blocks: list[Block]
    sources: bool = False
    whole: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)


class Case:
    """What a strategy decides on. `fixed`: number of the answer that must stand first, word for word."""

    def __init__(
        self,
        question: str,
        comparison: Comparison,
        scores: Sequence[Score],
        config: AggregationConfig,
        fixed: int | None,
    ) -> None:
        self.question = question
        self.comparison = comparison
        self.answers: Sequence[Answer] = comparison.answers
        self.scores = scores
        self.config = config
        self.fixed = fixed
        self.style = Style(config.format == "markdown", config.source_attribution)
        self.ranked = sorted(range(len(scores)), key=lambda i: -scores[i].total)
        """The best answer first, of equals the earlier."""

    def settled(self, order: Sequence[int]) -> Settlement:
        return settle(self.comparison, self.scores, self.config.conflict_resolution, order, self.fixed)

    def whole(self, number: int) -> Block:
        """An answer word for word."""
        return Block((self.answers[number].agent,), self.answers[number].text)

    def block(self, number: int, say: Callable[[Statement], str], *, named: bool = False) -> list[Block]:
        """An answer as `say` puts it; no block where that leaves nothing."""
        answer = self.answers[number]
        text = render(answer.lines, say)
        return [Block((answer.agent,), text, named)] if text else []


class Told:
    """What the joined answer says so far."""

    def __init__(self, case: Case, settlement: Settlement) -> None:
        self._case = case
        self._settlement = settlement
        self._places: set[Place] = set()
        self._spoken: set[tuple[str, ...]] = set()

    def knows(self, place: Place) -> bool:
        covered = self._case.comparison.covered[place]
        said = any(share >= SAID and other in self._places for other, share in covered.items())
        return said or self._case.comparison.statement(place).spoken in self._spoken

    def take(self, place: Place) -> str:
        """The statement as it is to be written, marked where it contradicts."""
        statement = self._case.comparison.statement(place)
        self._places.add(place)
        self._spoken.add(statement.spoken)
        contradicted = self._settlement.marked.get(place)
        return self._case.style.contradicting(statement.text, contradicted) if contradicted else statement.text

    def take_new(self, number: int, allowed: Callable[[Place], bool] = lambda _: True) -> Callable[[Statement], str]:
        """Says of an answer what is not told yet, and stands. An agent may repeat itself."""
        news = [
            place
            for place in (Place(number, s.number) for s in self._case.answers[number].statements)
            if place not in self._settlement.dropped and allowed(place) and not self.knows(place)
        ]
        return self._only(news)

    def take_all(self, number: int, allowed: Callable[[Place], bool] = lambda _: True) -> Callable[[Statement], str]:
        """Says all of an answer that stands."""
        places = (Place(number, s.number) for s in self._case.answers[number].statements)
        return self._only([p for p in places if p not in self._settlement.dropped and allowed(p)])

    def _only(self, places: list[Place]) -> Callable[[Statement], str]:
        said = {place.statement: self.take(place) for place in places}
        return lambda statement: said.get(statement.number, "")


def best_response(case: Case) -> Draft:
    """The answer with the highest score, word for word."""
    return Draft([case.whole(case.ranked[0])], whole=True)


def merge(case: Case) -> Draft:
    """All answers in the order of routing, each under its agent's name. A sentence that an earlier one said in the same
    words is left out, and so is an agent who has said nothing else. Contradictions stand."""
    said: set[tuple[str, ...]] = set()
    blocks: list[Block] = []
    named = len(case.answers) > 1
    for number, answer in enumerate(case.answers):
        if number == case.fixed or not answer.statements:  # a thumb up has no words
            blocks.append(Block((answer.agent,), answer.text, named))
        else:
            blocks += case.block(number, lambda s: "" if s.spoken in said else s.text, named=named)
        said.update(statement.spoken for statement in answer.statements)
    return Draft(blocks)


def complementary(case: Case) -> Draft:
    """The leading answer, then what the others add to it, best first, under their names. The leading one is the one
    that is `fixed`, else the best; a fixed one stays word for word, and what contradicts it is marked."""
    lead = case.ranked[0] if case.fixed is None else case.fixed
    order = [lead, *(number for number in case.ranked if number != lead)]
    told = Told(case, case.settled(order))
    say = told.take_all(lead)
    blocks = [case.whole(lead)] if lead == case.fixed else case.block(lead, say)
    for number in order[1:]:
        blocks += case.block(number, told.take_new(number), named=True)
    return Draft(blocks, sources=True)


def competitive(case: Case) -> Draft:
    """The best answer, each point of it in the words that score best by themselves, whosever they are; then the points
    that only others make."""
    comparison, settlement = case.comparison, case.settled(case.ranked)
    told = Told(case, settlement)
    base, *others = case.ranked
    agents: dict[str, None] = {}
    used: set[Place] = set()

    def best_words(statement: Statement) -> str:
        own = Place(base, statement.number)
        rivals = [own, *comparison.covered[own]]
        if own in settlement.dropped or not used.isdisjoint(rivals):
            return ""
        standing = [place for place in rivals if place not in settlement.dropped]
        winner = max(standing, key=lambda place: score_statement(case.question, place, comparison, case.config.weights))
        used.add(winner)
        agents[case.answers[winner.answer].agent] = None
        told.take(own)
        return told.take(winner)

    def of_others_only(place: Place) -> bool:
        return all(peer.answer != base for peer in comparison.peers[place])

    text = render(case.answers[base].lines, best_words)
    blocks = [Block(tuple(agents), text)] if text else []
    for number in others:
        blocks += case.block(number, told.take_new(number, of_others_only))
    return Draft(blocks, sources=True)


def collaborative(case: Case) -> Draft:
    """Point by point, what each agent says to it beside the others; code and tables after them."""
    settlement = case.settled(range(len(case.answers)))
    told = Told(case, settlement)
    points: list[list[Place]] = []
    point_of: dict[Place, list[Place]] = {}
    solid: list[Block] = []
    for number, answer in enumerate(case.answers):
        for statement in answer.statements:
            place = Place(number, statement.number)
            if place in settlement.dropped or statement.text.startswith("#"):
                continue
            if statement.solid:
                if not told.knows(place):
                    solid.append(Block((answer.agent,), told.take(place), named=True))
                continue
            related = sorted(case.comparison.peers[place] | case.comparison.opponents[place])
            point = next((point_of[other] for other in related if other in point_of), None)
            if point is None:
                points.append(point := [])
            point.append(place)
            point_of[place] = point
    blocks = [_beside(case, told, point) for point in points]
    text = "\n".join(block.text for block in blocks)
    agents = tuple(dict.fromkeys(agent for block in blocks for agent in block.agents))
    return Draft([*([Block(agents, text)] if text else []), *solid])


def _beside(case: Case, told: Told, point: list[Place]) -> Block:
    """One point as an entry of a list. Who says it in the same words is named together."""
    speakers: dict[tuple[str, ...], list[str]] = {}
    texts: dict[tuple[str, ...], str] = {}
    for place in point:
        spoken = case.comparison.statement(place).spoken
        agents = speakers.setdefault(spoken, [])
        if (agent := case.answers[place.answer].agent) not in agents:
            agents.append(agent)
        texts.setdefault(spoken, told.take(place))
    lines = [case.style.named(agents, texts[spoken]) for spoken, agents in speakers.items()]
    return Block(tuple(dict.fromkeys(a for agents in speakers.values() for a in agents)), "- " + "\n  ".join(lines))


def consensus(case: Case) -> Draft:
    """What more than half of the agents say: of two agents, what both do. In the words of the best answer, then the
    points that a majority makes without it. Where there is no such point, the best answer. The majority decides
    contradictions, too, whoever is the expert."""
    need = len(case.answers) // 2 + 1

    def agreed(place: Place) -> bool:
        return 1 + len(case.comparison.supporters(place)) >= need

    told = Told(case, Settlement(frozenset(), {}))
    best = case.ranked[0]
    blocks = case.block(best, told.take_all(best, agreed))
    for number in case.ranked[1:]:
        blocks += case.block(number, told.take_new(number, agreed))
    said = case.answers[best].statements
    share = sum(agreed(Place(best, s.number)) for s in said) / len(said) if said else 0.0
    draft = Draft(blocks, sources=True) if blocks else best_response(case)
    draft.metadata["consensus"] = round(share, 4)
    return draft


STRATEGIES: dict[str, Callable[[Case], Draft]] = {
    "best_response": best_response,
    "merge": merge,
    "consensus": consensus,
    "complementary": complementary,
    "competitive": competitive,
    "collaborative": collaborative,
}
