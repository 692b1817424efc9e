"""`intelligent` and `semantic`: a scorer says how sure it is of each agent, and the team's rules make a decision of it.

The two differ in their scorer alone: a classifier that was trained on the agents' examples, or the nearness of a
message to those examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rayflow.policies.routing.decision import Decision, Evidence
from rayflow.policies.routing.team import Team


class Scorer(Protocol):
    """Called by a router for every message: it must neither block nor take longer than a few milliseconds."""

    def score(self, text: str) -> Sequence[float]:
        """Per agent, in the team's order, the probability that the message is this agent's: of all messages that get
        0.8, 8 in 10 are. What is left to 1 is the probability that it is nobody's, unless agents were learnt
        independently of each other (`multi_agent`)."""
        ...

    def why(self, text: str, agent: int) -> str:
        """What in the message speaks for this agent, in a few words; "" where nothing does."""
        ...


class Scored:
    def __init__(self, team: Team, scorer: Scorer, strategy: str) -> None:
        self._team = team
        self._scorer = scorer
        self._strategy = strategy

    def decide(self, text: str, turn: int) -> Decision:
        return self._team.choose(self._scorer.score(text), self._strategy)

    def explain(self, text: str) -> list[Evidence]:
        scores = self._scorer.score(text)
        return [Evidence(name, scores[i], self._scorer.why(text, i)) for i, name in enumerate(self._team.names)]
