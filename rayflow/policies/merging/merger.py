"""From the parts of several agents to one answer, and what is to be said about it.

All parts are validated; the valid ones are scored and compared, the strategy makes one text of them, and the metadata
says how it came about. Where no part is valid, those that have a text are used all the same: what an agent said is
better than nothing, and the confidence says what it is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rayflow.config.schema import AggregationConfig
from rayflow.errors import ExecutionError
from rayflow.messages import Joined, Part
from rayflow.policies.merging.answers import Answer, Comparison
from rayflow.policies.merging.formatting import Block
from rayflow.policies.merging.scoring import Score, score
from rayflow.policies.merging.strategies import STRATEGIES, Case, Draft, merge
from rayflow.policies.merging.validation import fault
from rayflow.policies.own import Fence, is_own, load

MOST_CONFLICTS = 20
"""So many are told of in the metadata."""

Strategy = Callable[[Case], Draft]


def leads(config: AggregationConfig) -> bool:
    """Whether the joined answer begins, word for word, with that of the agent whom the message was routed to first, so
    that it can be streamed before the others have answered.

    So it is with intelligent_merge, complementary, and with merge where no name stands above the answers. All others
    know what comes first only when they have everything.
    """
    if not config.stream_leading:
        return False
    if config.strategy == "intelligent_merge":
        return config.merge_strategy == "complementary"
    return config.strategy == "merge" and not config.source_attribution


def usable(parts: Sequence[Part]) -> list[Part]:
    """The valid parts; where there is none, all that have a text."""
    spoken = [part for part in parts if not part.error and part.text.strip()]
    return [part for part in spoken if not fault(part)] or spoken


class Merger:
    """The configured policy. Raises `ConfigurationError` where that is a user's and cannot be loaded."""

    def __init__(self, config: AggregationConfig) -> None:
        self._config = config
        self._strategy = _strategy(config)

    def join(
        self, question: str, parts: Sequence[Part], *, lead: str = "", verdict: Mapping[str, float] | None = None
    ) -> Joined:
        """One answer out of `parts`, which come in the order of routing.

        `lead`: agent whose answer the client has been given already; the text begins with it. `verdict`: accuracy by
        agent, as a judge sees it. Raises `ExecutionError` when no part has a text.

        `confidence` is the mean total score of the agents whose words are used, times the share of the parts that are
        valid: it falls when agents contradict each other, when answers are off the point, and with every part that
        failed.
        """
        faults = {part.agent: why for part in parts if (why := fault(part))}
        used = usable(parts)
        if not used:
            raise ExecutionError(
                "no agent answered: " + "; ".join(f"{agent}: {why}" for agent, why in faults.items()), failed=faults
            )
        if lead:  # it has been read: nothing can be said against it now
            used = [part for part in parts if part in used or (part.agent == lead and part.text)]
        comparison = Comparison([Answer(part, verbatim=part.agent == lead) for part in used])
        scores = [self._score(question, comparison, i, verdict) for i in range(len(used))]
        fixed = self._fixed(parts, used, lead)
        case = Case(question, comparison, scores, self._config, fixed)
        draft = self._strategy(case)
        if not draft.blocks:  # each statement lost against another one
            draft = Draft([case.whole(case.ranked[0])])
        begun = bool(lead) and fixed is not None  # an empty answer has nothing to begin with
        whole = len(draft.blocks[0].text) if draft.whole or begun else 0
        text, agents = case.style.assemble(draft.blocks, self._config.max_merged_length, draft.sources, whole)
        rate = 1 - len(faults) / len(parts)
        totals = [s.total for answer, s in zip(case.answers, scores, strict=True) if answer.agent in agents]
        late = [part.agent for part in parts if part.late]
        return Joined(
            text=text,
            strategy=self._config.strategy,
            confidence=round(rate * sum(totals) / len(totals), 4),
            agents=agents,
            lead=lead if begun else "",
            metadata={
                "worker_count": len(parts),
                "validation_rate": round(rate, 4),
                "scores": {answer.agent: s.rounded() for answer, s in zip(case.answers, scores, strict=True)},
                "accuracy_by": "agreement" if verdict is None else "judge",
                "conflicts": _conflicts(comparison, text),
                "failed": {agent: why for agent, why in faults.items() if agent not in late},
                "late": late,
                **draft.metadata,
            },
        )

    def _score(self, question: str, comparison: Comparison, i: int, verdict: Mapping[str, float] | None) -> Score:
        answer = comparison.answers[i]
        judged = None if verdict is None else verdict.get(answer.agent)
        accuracy = comparison.agreement(i) if judged is None else judged
        return score(question, answer.statements, accuracy, self._config.weights)

    def _fixed(self, parts: Sequence[Part], used: Sequence[Part], lead: str) -> int | None:
        """Number of the answer that stands first. Whether somebody streams it makes no difference to the text."""
        if lead:
            return next((i for i, part in enumerate(used) if part.agent == lead), None)
        return 0 if leads(self._config) and used[0] is parts[0] else None


def _conflicts(comparison: Comparison, text: str) -> list[dict[str, Any]]:
    """What the agents contradict each other in, and whose statement is in the answer."""
    found: list[dict[str, Any]] = []
    for conflict in comparison.conflicts[:MOST_CONFLICTS]:
        statements = {
            comparison.answers[place.answer].agent: comparison.statement(place).text
            for place in (conflict.first, conflict.second)
        }
        kept = [agent for agent, statement in statements.items() if statement in text]
        found.append({"kind": conflict.kind, "statements": statements, "kept": kept})
    return found


def _strategy(config: AggregationConfig) -> Strategy:
    if is_own(config.strategy):
        return _own(config)
    return STRATEGIES[config.merge_strategy if config.strategy == "intelligent_merge" else config.strategy]


def _own(config: AggregationConfig) -> Strategy:
    """A user's policy: called with the question and the valid parts, it returns the text, or the text and the agents
    whose words are in it. `merge` stands in for it where it raises or returns anything else."""
    policy = load(config.strategy, config.options, "aggregation.strategy")
    fence = Fence(config.strategy, "merge")

    def decide(case: Case) -> Draft:
        parts = [answer.part for answer in case.answers]
        made = policy(case.question, parts)
        known = [part.agent for part in parts]
        text, agents = made if isinstance(made, tuple) else (made, known)
        if not isinstance(text, str) or not text.strip():
            raise TypeError(f"expected the text of an answer, got {text!r}")
        if not agents or not set(agents) <= set(known):
            raise ValueError(f"expected some of the agents {known}, got {agents!r}")
        return Draft([Block(tuple(agents), text)])

    def stand_in(case: Case) -> Draft:
        draft = merge(case)
        draft.metadata["fallback"] = "merge"
        return draft

    return lambda case: fence.call(decide, stand_in, case)
