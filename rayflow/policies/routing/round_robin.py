"""`round_robin`: agents in turn, whatever is said. The turn is part of the snapshot, so the choice is repeatable."""

from __future__ import annotations

from rayflow.policies.routing.decision import Decision, Evidence
from rayflow.policies.routing.team import Team


class RoundRobin:
    def __init__(self, team: Team) -> None:
        self._names = team.names

    def decide(self, text: str, turn: int) -> Decision:
        return Decision((self._names[turn % len(self._names)],), 0.0, "round_robin", f"turn {turn} of the round")

    def explain(self, text: str) -> list[Evidence]:
        return [Evidence(name, 0.0, f"turn {i} of {len(self._names)}") for i, name in enumerate(self._names)]
