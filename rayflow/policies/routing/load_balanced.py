"""`load_balanced`: the least busy agent, whatever is said; for teams whose members can all answer everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rayflow.policies.routing.decision import Decision, Evidence
from rayflow.policies.routing.team import Team

LeastLoaded = Callable[[Sequence[str]], str]
"""The name of the least busy of these agents, as the caller sees their pools now."""


class LoadBalanced:
    def __init__(self, team: Team, least_loaded: LeastLoaded) -> None:
        self._names = team.names
        self._least_loaded = least_loaded

    def decide(self, text: str, turn: int) -> Decision:
        return Decision((self._least_loaded(self._names),), 0.0, "load_balanced", "least busy")

    def explain(self, text: str) -> list[Evidence]:
        least = self._least_loaded(self._names)
        return [Evidence(name, 0.0, "least busy" if name == least else "") for name in self._names]
