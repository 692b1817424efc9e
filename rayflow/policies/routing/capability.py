"""`capability`: the agent with most of its capabilities named in the message; else the message is nobody's."""

from __future__ import annotations

from rayflow.policies.routing.decision import Decision, Evidence, weighed
from rayflow.policies.routing.phrases import Phrases, confidence
from rayflow.policies.routing.team import Team
from rayflow.policies.text import padded


class Capability:
    def __init__(self, team: Team) -> None:
        self._team = team
        self._capabilities = [(agent.name, Phrases.of(agent.capabilities)) for agent in team.agents]

    def decide(self, text: str, turn: int) -> Decision:
        return self.match(padded(text)) or self._team.nobodys(0.0, "nothing matched")

    def match(self, message: str) -> Decision | None:
        """`message`: padded."""
        found = [(name, hits) for name, phrases in self._capabilities if (hits := phrases.found(message))]
        if not found:
            return None
        name, hits = max(found, key=lambda candidate: len(candidate[1]))
        scores = weighed({other: confidence(len(named)) for other, named in found})
        return Decision((name,), confidence(len(hits)), "capability", f"capability: {', '.join(hits)}", scores=scores)

    def explain(self, text: str) -> list[Evidence]:
        message = padded(text)
        found = [(name, phrases.found(message)) for name, phrases in self._capabilities]
        return [Evidence(name, confidence(len(hits)), _named(hits)) for name, hits in found]


def _named(hits: list[str]) -> str:
    return f"capability: {', '.join(hits)}" if hits else ""
