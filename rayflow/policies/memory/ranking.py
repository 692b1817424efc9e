"""Which memories have to do with a text: what it asks about, weighed with how important and how recent they are.

Relevance is lexical (`policies.context.search`), or where vectors are there the better of both. Nothing irrelevant is
found however important it is; `fill` is for a model, to which the important things about a person are of use whatever
the question.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from rayflow.messages.memory import Filter, Found, Memory
from rayflow.policies.context.search import Index

RELEVANCE, IMPORTANCE, RECENCY = 0.7, 0.2, 0.1
"""Shares of a score."""
HALF_LIFE_S = 14 * 86_400.0
"""Recency halves in this time."""
LEAST_SIMILARITY = 0.3
"""Something is similar to anything; one word in common is more than that."""
MAX_QUERY_CHARS = 2000

Similarity = Callable[[str, Sequence[str]], Sequence[float]]
"""How near in meaning each of some texts is to a query, from 0 to 1."""


def rank(
    query: str,
    memories: Mapping[int, Memory],
    index: Index,
    now_us: int,
    similarity: Similarity | None = None,
) -> list[Found]:
    """Those of `memories` that have to do with `query`, best first. They stand in the `index` under their numbers; what
    else it has is not looked for."""
    query = query[:MAX_QUERY_CHARS]
    if not query.strip() or not memories:
        return []
    hits = [hit for hit in index.search(query, len(index)) if hit.seq in memories]
    relevance = {hit.seq: (hit.score / hits[0].score + hit.coverage) / 2 for hit in hits}
    if similarity is not None:
        near = similarity(query, [memory.text for memory in memories.values()])
        for number, score in zip(memories, near, strict=True):
            if score >= LEAST_SIMILARITY:
                relevance[number] = max(relevance.get(number, 0.0), score)
    found = [
        Found(memories[number], round(_score(score, memories[number], now_us), 4), f"{min(score, 1.0):.0%} relevant")
        for number, score in relevance.items()
    ]
    return sorted(found, key=lambda each: (-each.score, -each.memory.created_us, each.memory.id))


def important(memories: Iterable[Memory], least: float, without: Collection[str], top_k: int) -> list[Found]:
    """The `top_k` most important memories, none below `least`; of equals, the newer one. Episodes are none: that
    something was asked about matters where it is asked about again."""
    known = [m for m in memories if m.importance >= least and m.kind != "episodic" and m.id not in without]
    known.sort(key=lambda memory: (-memory.importance, -memory.created_us, memory.id))
    return [Found(memory, round(IMPORTANCE * memory.importance, 4), "important") for memory in known[:top_k]]


def admits(wanted: Filter, memory: Memory) -> bool:
    """Whether a filter lets this memory through."""
    return (
        (not wanted.kinds or memory.kind in wanted.kinds)
        and (not wanted.agent or memory.agent == wanted.agent)
        and (not wanted.tags or set(wanted.tags) <= set(memory.tags))
        and (not wanted.session_id or memory.session_id == wanted.session_id)
        and memory.created_us >= wanted.since_us
        and (not wanted.until_us or memory.created_us < wanted.until_us)
        and (wanted.asker is None or not memory.private or memory.agent == wanted.asker)
    )


def _score(relevance: float, memory: Memory, now_us: int) -> float:
    age_s = max(now_us - memory.created_us, 0) / 1e6
    recency: float = 0.5 ** (age_s / HALF_LIFE_S)
    return RELEVANCE * min(relevance, 1.0) + IMPORTANCE * memory.importance + RECENCY * recency
