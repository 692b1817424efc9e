"""Delegation: the agent that was chosen may hand a message on, and who gets it may do so again."""

from __future__ import annotations

from dataclasses import replace

from rayflow.policies.routing.decision import Decision
from rayflow.policies.routing.phrases import Phrases
from rayflow.policies.routing.team import Team
from rayflow.policies.text import padded


class Delegation:
    """`most`: hops that one message may take."""

    def __init__(self, team: Team, most: int) -> None:
        rules = {agent.name: agent.delegation_rules for agent in team.agents if agent.delegation_rules}
        self._rules = {name: [(rule.agent, Phrases.of(rule.keywords)) for rule in own] for name, own in rules.items()}
        self._most = most

    def follow(self, decision: Decision, text: str) -> Decision:
        """Where the message ends up: it never comes back to an agent that has had it. Agents that answer together hand
        nothing on."""
        if len(decision.agents) != 1 or decision.agents[0] not in self._rules:
            return decision
        message = padded(text)
        seen = list(decision.agents)
        for _ in range(self._most):
            rules = self._rules.get(seen[-1], ())
            onward = next((to for to, phrases in rules if to not in seen and phrases.found(message)), None)
            if onward is None:
                break
            seen.append(onward)
        if len(seen) == 1:
            return decision
        reason = f"{decision.reason}; delegated {' -> '.join(seen)}"
        return replace(decision, agents=(seen[-1],), strategy="delegation", reason=reason)
