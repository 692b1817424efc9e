"""The agents as routing sees them, and the rules that every strategy keeps: who answers alone, how many answer at once,
and what becomes of a message that is nobody's."""

from __future__ import annotations

from collections.abc import Sequence

from rayflow.config.schema import AgentConfig, RoutingConfig
from rayflow.policies.routing.decision import Decision, Scores, weighed


class Team:
    def __init__(self, config: RoutingConfig, agents: Sequence[AgentConfig]) -> None:
        self.agents = tuple(agents)
        self.names = tuple(agent.name for agent in agents)
        self.default = config.default_agent or self.names[0]
        self._specialists = frozenset(agent.name for agent in agents if agent.type == "specialist")
        self._most = config.max_agents_per_request
        self._declines = config.decline_message if config.out_of_scope == "decline" else ""
        self._threshold = config.confidence_threshold
        self._together_from = config.multi_agent_threshold

    def together(self, names: Sequence[str]) -> tuple[str, ...]:
        """Who of these is asked: the first, and the others beside it unless one of the two answers alone."""
        first, *others = dict.fromkeys(names)
        if first in self._specialists:
            return (first,)
        beside = [name for name in others if name not in self._specialists]
        return (first, *beside)[: self._most]

    def choose(self, confidences: Sequence[float], strategy: str) -> Decision:
        """Who answers, from a confidence per agent (in the order of `names`): the surest, and beside it everyone who is
        sure enough; nobody where the surest is not."""
        sure = dict(zip(self.names, confidences, strict=True))
        scores = weighed(sure)
        ranked = [name for name, _ in scores] or self.names
        best = sure[ranked[0]]
        if best < self._threshold:
            reason = f"surest is {ranked[0]} with {best:.2f}, below {self._threshold:g}"
            return self.nobodys(best, reason, scores)
        agents = self.together([ranked[0], *(name for name in ranked[1:] if sure[name] >= self._together_from)])
        shown = ", ".join(f"{name} {sure[name]:.2f}" for name in ranked[: max(3, len(agents))])
        return Decision(agents, best, strategy, shown, tuple(sure[name] for name in agents), scores=scores)

    def nobodys(self, confidence: float, reason: str, scores: Scores = ()) -> Decision:
        """For a message that no agent claims. `confidence`: the surest agent's."""
        if self._declines:
            return Decision((), confidence, "declined", reason, declined=self._declines, scores=scores)
        return Decision((self.default,), confidence, "default", reason, scores=scores)
