"""`keyword`: the rule with the highest confidence, the earlier one on a tie; then the capability map; else the message
is nobody's."""

from __future__ import annotations

from collections.abc import Sequence

from rayflow.config.schema import KeywordRule
from rayflow.policies.routing.capability import Capability
from rayflow.policies.routing.decision import Decision, Evidence, weighed
from rayflow.policies.routing.phrases import Phrases, confidence
from rayflow.policies.routing.team import Team
from rayflow.policies.text import padded


class Keyword:
    def __init__(self, team: Team, rules: Sequence[KeywordRule]) -> None:
        self._team = team
        self._rules = [(rule, Phrases.of(rule.keywords)) for rule in rules]
        self._capability = Capability(team)

    def decide(self, text: str, turn: int) -> Decision:
        message = padded(text)
        decision = self._by_rule(message) or self._capability.match(message)
        return decision or self._team.nobodys(0.0, "nothing matched")

    def _by_rule(self, message: str) -> Decision | None:
        best: tuple[float, KeywordRule, list[str]] | None = None
        scores: dict[str, float] = {}
        for rule, phrases in self._rules:
            if not (hits := phrases.found(message)):
                continue
            sure = confidence(len(hits))
            for name in _targets(rule):
                scores[name] = max(sure, scores.get(name, 0.0))
            if sure >= rule.confidence_threshold and (best is None or sure > best[0]):
                best = sure, rule, hits
        if best is None:
            return None
        sure, rule, hits = best
        agents = self._team.together(_targets(rule))
        return Decision(agents, sure, "keyword", _reason(rule, hits), scores=weighed(scores))

    def explain(self, text: str) -> list[Evidence]:
        message = padded(text)
        known = {evidence.agent: evidence for evidence in self._capability.explain(text)}
        for rule, phrases in self._rules:
            if hits := phrases.found(message):
                for name in _targets(rule):
                    found = Evidence(name, confidence(len(hits)), _reason(rule, hits))
                    known[name] = max(found, known[name], key=lambda evidence: evidence.confidence)
        return list(known.values())


def _targets(rule: KeywordRule) -> list[str]:
    return [rule.target_agent] if rule.target_agent else rule.target_agents


def _reason(rule: KeywordRule, hits: Sequence[str]) -> str:
    label = f"rule {rule.name!r}" if rule.name else "rule"
    return f"{label}: {', '.join(hits)}"
