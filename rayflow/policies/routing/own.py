"""A routing policy of one's own, fenced: where it raises, takes no decision or names an unknown agent, the keyword
strategy decides.

The policy is a function `decide(text, agents, **options)`, or a class with that method, made with the options. `agents`
are the configured agents. What it returns is one of

- the name of an agent, or a list of names in order of preference, whose confidence is unknown (0),
- a mapping from names to confidences: the team's thresholds then apply as they do to `intelligent`,
- None: the message is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rayflow.config.schema import AgentConfig, RoutingConfig
from rayflow.errors import ConfigurationError
from rayflow.policies.own import Fence, load
from rayflow.policies.routing.decision import Decision, Evidence
from rayflow.policies.routing.keyword import Keyword
from rayflow.policies.routing.team import Team

Said = str | Sequence[str] | Mapping[str, float] | None
STRATEGY = "own"


class OwnPolicy:
    def __init__(self, team: Team, config: RoutingConfig) -> None:
        self._team = team
        self._fallback = Keyword(team, config.rules)
        self._fence = Fence(config.strategy, "the keyword strategy")
        loaded = load(config.strategy, config.options, "routing.strategy")
        decide = getattr(loaded, "decide", loaded)
        if not callable(decide):
            raise ConfigurationError(
                f"routing.strategy: {config.strategy} is a class without a method decide(text, agents)",
                key="routing.strategy",
            )
        self._own: Callable[[str, Sequence[AgentConfig]], Said] = decide

    @property
    def failures(self) -> int:
        """How often the fallback had to decide."""
        return self._fence.failures

    def decide(self, text: str, turn: int) -> Decision:
        return self._fence.call(self._decided, self._fallback.decide, text, turn)

    def explain(self, text: str) -> list[Evidence]:
        decision = self.decide(text, 0)
        sure = dict(zip(decision.agents, decision.confidences, strict=False))
        return [
            Evidence(name, sure.get(name, 0.0), "chosen" if name in decision.agents else "")
            for name in self._team.names
        ]

    def _decided(self, text: str, turn: int) -> Decision:
        said: Any = self._own(text, self._team.agents)
        if said is None:
            return self._team.nobodys(0.0, "the policy takes it for nobody's")
        names = [said] if isinstance(said, str) else list(said)
        unknown = [name for name in names if name not in self._team.names]
        if unknown:
            raise ValueError(f"it named {unknown[0]!r}, which is no agent of the workflow")
        if isinstance(said, Mapping):
            return self._team.choose([_probability(said.get(name, 0.0)) for name in self._team.names], STRATEGY)
        if not names:
            raise ValueError("it named no agent; None means that the message is nobody's")
        return Decision(self._team.together(names), 0.0, STRATEGY, "the policy's choice")


def _probability(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"a confidence of {value!r} is none between 0 and 1")
    return float(value)
