"""The configured strategy, compiled once, and what is the same for all of them: out of scope, and delegation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rayflow.config.schema import AgentConfig, RoutingConfig
from rayflow.policies.own import is_own
from rayflow.policies.routing.capability import Capability
from rayflow.policies.routing.decision import Decision, Evidence
from rayflow.policies.routing.delegation import Delegation
from rayflow.policies.routing.keyword import Keyword
from rayflow.policies.routing.llm import ByModel
from rayflow.policies.routing.load_balanced import LeastLoaded, LoadBalanced
from rayflow.policies.routing.own import OwnPolicy
from rayflow.policies.routing.round_robin import RoundRobin
from rayflow.policies.routing.scored import Scored, Scorer
from rayflow.policies.routing.team import Team

BLIND = frozenset({"round_robin", "load_balanced"})
"""Strategies that do not look at what is said: delegation, which does, is not for them."""


class Strategy(Protocol):
    """Called by a router for every run; must not block. What it raises ends the run."""

    def decide(self, text: str, turn: int) -> Decision:
        """`turn`: how many runs this router has routed before."""
        ...

    def explain(self, text: str) -> list[Evidence]:
        """What speaks for each agent."""
        ...


class RoutingPolicy:
    """`scorer` is for the strategies `intelligent` and `semantic`, `least_loaded` for `load_balanced`.

    `llm` is asked for through `by_model`; `decide` is then what happens when the model does not answer.
    """

    def __init__(
        self,
        config: RoutingConfig,
        agents: Sequence[AgentConfig],
        scorer: Scorer | None = None,
        least_loaded: LeastLoaded = lambda names: names[0],
    ) -> None:
        team = Team(config, agents)
        self._delegation = None if config.strategy in BLIND else Delegation(team, config.max_delegations)
        self._strategy = _strategy(team, config, scorer, least_loaded)
        self.by_model = ByModel(team) if config.strategy == "llm" else None

    def decide(self, text: str, turn: int) -> Decision:
        """`turn`: how many runs this router has routed before; only round robin uses it."""
        return self.delegated(self._strategy.decide(text, turn), text)

    def delegated(self, decision: Decision, text: str) -> Decision:
        """The decision after the chosen agent's delegation rules."""
        return self._delegation.follow(decision, text) if self._delegation else decision

    def explain(self, text: str) -> list[Evidence]:
        """What speaks for each agent, in their order."""
        return self._strategy.explain(text)


def _strategy(team: Team, config: RoutingConfig, scorer: Scorer | None, least_loaded: LeastLoaded) -> Strategy:
    if is_own(config.strategy):
        return OwnPolicy(team, config)
    if config.strategy in ("intelligent", "semantic"):
        assert scorer is not None, "who builds a policy that scores brings the scorer"
        return Scored(team, scorer, config.strategy)
    made: dict[str, Callable[[], Strategy]] = {
        "keyword": lambda: Keyword(team, config.rules),
        "llm": lambda: Keyword(team, config.rules),
        "capability": lambda: Capability(team),
        "round_robin": lambda: RoundRobin(team),
        "load_balanced": lambda: LoadBalanced(team, least_loaded),
    }
    return made[config.strategy]()
