"""Which agents answer a message.

A router policy looks at the text and at nothing else that could change between two calls, except round robin, whose
counter is part of the snapshot. Confidence has a definition that can be tested: for keywords and capabilities it is
1 - 0.2^h for h distinct phrases found (0.8 for one, 0.96 for two); a default or a turn in the round has 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rayflow.config.schema import AgentConfig, KeywordRule, RoutingConfig
from rayflow.policies.text import padded

MISS = 0.2
"""Chance that one found phrase misleads."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`agents` in order of preference; `reason` is shown by explanations and in the log."""

    agents: tuple[str, ...]
    confidence: float
    strategy: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Phrases:
    """Phrases in padded form, ready to be looked up in a padded message."""

    forms: tuple[str, ...]

    @classmethod
    def of(cls, phrases: Sequence[str]) -> _Phrases:
        return cls(tuple(dict.fromkeys(form for phrase in phrases if (form := padded(phrase)).strip())))

    def found(self, message: str) -> list[str]:
        return [form.strip() for form in self.forms if form in message]


def confidence(hits: int) -> float:
    return 1.0 - MISS**hits


class RoutingPolicy:
    """The configured strategy, compiled once. `decide` is called by a router for every run and must not block."""

    def __init__(self, config: RoutingConfig, agents: Sequence[AgentConfig]) -> None:
        self._config = config
        self._names = tuple(agent.name for agent in agents)
        self._default = config.default_agent or self._names[0]
        self._specialists = frozenset(agent.name for agent in agents if agent.type == "specialist")
        self._rules = [(rule, _Phrases.of(rule.keywords)) for rule in config.rules]
        self._capabilities = [(agent.name, _Phrases.of(agent.capabilities)) for agent in agents]
        self._delegation = {
            agent.name: [(rule.agent, _Phrases.of(rule.keywords)) for rule in agent.delegation_rules]
            for agent in agents
        }
        stages: dict[str, list[Callable[[str], Decision | None]]] = {
            "keyword": [self._by_rule, self._by_capability],
            "capability": [self._by_capability],
            "round_robin": [],
        }
        self._stages = stages[config.strategy]

    def decide(self, text: str, turn: int) -> Decision:
        """`turn`: how many runs this router has routed before; only round robin uses it."""
        if self._config.strategy == "round_robin":
            name = self._names[turn % len(self._names)]
            return Decision((name,), 0.0, "round_robin", f"turn {turn} of the round")
        message = padded(text)
        for stage in self._stages:
            if decision := stage(message):
                return self._delegate(decision, message)
        return self._delegate(Decision((self._default,), 0.0, "default", "nothing matched"), message)

    def _by_rule(self, message: str) -> Decision | None:
        best: tuple[float, KeywordRule, list[str]] | None = None
        for rule, phrases in self._rules:
            hits = phrases.found(message)
            sure = confidence(len(hits))
            if hits and sure >= rule.confidence_threshold and (best is None or sure > best[0]):
                best = sure, rule, hits
        if best is None:
            return None
        sure, rule, hits = best
        targets = self._together([rule.target_agent] if rule.target_agent else rule.target_agents)
        label = f"rule {rule.name!r}" if rule.name else "rule"
        return Decision(targets, sure, "keyword", f"{label}: {', '.join(hits)}")

    def _together(self, targets: Sequence[str]) -> tuple[str, ...]:
        """Who of a rule's targets is asked: the first, and the others beside it unless one of the two answers alone."""
        first, *others = dict.fromkeys(targets)
        if first in self._specialists:
            return (first,)
        beside = [name for name in others if name not in self._specialists]
        return (first, *beside)[: self._config.max_agents_per_request]

    def _by_capability(self, message: str) -> Decision | None:
        found = [(name, hits) for name, phrases in self._capabilities if (hits := phrases.found(message))]
        if not found:
            return None
        name, hits = max(found, key=lambda candidate: len(candidate[1]))
        return Decision((name,), confidence(len(hits)), "capability", f"capability: {', '.join(hits)}")

    def _delegate(self, decision: Decision, message: str) -> Decision:
        """Follow the chosen agent's delegation rules, never back to an agent that has already had the message."""
        if len(decision.agents) > 1:
            return decision
        seen = list(decision.agents)
        for _ in range(self._config.max_delegations):
            onward = next(
                (to for to, phrases in self._delegation[seen[-1]] if to not in seen and phrases.found(message)), None
            )
            if onward is None:
                break
            seen.append(onward)
        if len(seen) == 1:
            return decision
        path = " -> ".join(seen)
        return Decision((seen[-1],), decision.confidence, "delegation", f"{decision.reason}; delegated {path}")
