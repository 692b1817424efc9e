"""How several answers become one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from rayflow.config.sections.base import Name, Own, Section


class ScoreWeights(Section):
    """Weights of the four scores; only their ratio counts."""

    relevance: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Does it speak of what was asked."""
    completeness: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Does it say enough."""
    accuracy: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Do the others agree, or does the judge."""
    clarity: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Is it easy to read."""


class AggregationConfig(Section):
    """How several answers become one."""

    strategy: Literal["best_response", "merge", "intelligent_merge", "consensus"] | Own = "merge"
    """best_response: the highest-scored answer. merge: all answers, duplicates removed, under their agents' names.
    intelligent_merge: one answer by `merge_strategy`; contradictions are resolved. consensus: what more than half of
    the agents say, of two both. Or a policy of your own as FILE.py:NAME."""
    merge_strategy: Literal["complementary", "competitive", "collaborative"] = "complementary"
    """intelligent_merge: complementary: the leading answer, then what the others add to it. competitive: each point in
    the words that score best. collaborative: point by point, all agents beside each other."""
    weights: ScoreWeights = ScoreWeights()
    """What makes an answer good."""
    conflict_resolution: Literal["expert_preference", "highest_score", "show_both"] = "expert_preference"
    """Which of two statements that contradict each other stands: that of the agent whom the message was routed to with
    more confidence, that of the better answer, or both, marked as such."""
    judge_model: Name | None = None
    """Entry of `models` that judges accuracy; unset, or without its verdict: accuracy is the agreement between
    agents."""
    judge_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Longest wait for its verdict."""
    part_timeout_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """Longest wait for the remaining parts after the first one is in (`min_parts` of them); late ones are left out.
    Unset: the run's own deadline."""
    min_parts: Annotated[int, Field(ge=1, le=16)] = 1
    """Fewest parts that must succeed; of fewer agents, all must."""
    stream_leading: bool = True
    """intelligent_merge as complementary, and merge without `source_attribution`: the answer of the agent that the
    message was routed to first leads the result, and is streamed while the others are still at work. False: nothing is
    streamed, and with complementary the best answer leads."""
    max_merged_length: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    """Characters a merged answer may have; it is cut at a sentence."""
    source_attribution: bool = True
    """Put the agent's name above each part of a merged answer."""
    format: Literal["markdown", "plain"] = "markdown"
    """markdown: agents' names in bold. plain: without marks."""
    options: dict[str, Any] = {}
    """Options of a policy of your own."""
