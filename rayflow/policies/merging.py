"""How several agents' answers become one.

Every score lies in [0, 1] and has a meaning a test can pin down:
- relevance: share of the question's content words that the answer mentions;
- completeness: 1 - 2^(-w/40) for w words, so 40 words count half and length alone never wins;
- clarity: 1 for sentences of up to 25 words on average, falling towards 0 at 75.
The total is 0.5 relevance + 0.3 completeness + 0.2 clarity.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rayflow.errors import ExecutionError
from rayflow.messages import Joined, Part
from rayflow.policies.text import words

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_LIST_MARK = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
_COMMON = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "can",
        "could",
        "do",
        "does",
        "for",
        "from",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "is",
        "it",
        "its",
        "me",
        "my",
        "of",
        "on",
        "or",
        "our",
        "please",
        "so",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "us",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)


@dataclass(frozen=True, slots=True)
class Score:
    relevance: float
    completeness: float
    clarity: float

    @property
    def total(self) -> float:
        return 0.5 * self.relevance + 0.3 * self.completeness + 0.2 * self.clarity


def score(question: str, answer: str) -> Score:
    asked = {word for word in words(question) if word not in _COMMON}
    said = words(answer)
    sentences = [s for s in _SENTENCE_END.split(answer.strip()) if s]
    mean = len(said) / len(sentences) if sentences else 0.0
    return Score(
        relevance=len(asked & set(said)) / len(asked) if asked else float(bool(said)),
        completeness=1.0 - 2.0 ** (-len(said) / 40),
        clarity=min(1.0, max(0.0, (75 - mean) / 50)) if said else 0.0,
    )


def join(strategy: str, question: str, parts: Sequence[Part], max_chars: int, attribution: bool) -> Joined:
    """One answer out of the parts that succeeded; failed ones are named in `metadata["failed"]`.

    Raises `ExecutionError` when no part succeeded. `confidence` is the mean total score of the parts used, times the
    share of parts that succeeded.
    """
    good = [part for part in parts if not part.error and part.text.strip()]
    failed = {part.agent: part.error or "empty answer" for part in parts if part not in good}
    if not good:
        raise ExecutionError("no agent answered: " + "; ".join(f"{a}: {e}" for a, e in failed.items()), failed=failed)
    scores = {part.agent: score(question, part.text) for part in good}
    if strategy == "best_response":
        best = max(good, key=lambda part: scores[part.agent].total)
        text, used = best.text, [best.agent]
    else:
        text, used = merge(good, max_chars, attribution)
    rate = 1 - len(failed) / len(parts)
    return Joined(
        text=text,
        strategy=strategy,
        confidence=round(rate * sum(scores[agent].total for agent in used) / len(used), 4),
        agents=used,
        metadata={
            "worker_count": len(parts),
            "validation_rate": round(rate, 4),
            "scores": {agent: round(s.total, 4) for agent, s in scores.items()},
            **({"failed": failed} if failed else {}),
        },
    )


def merge(parts: Sequence[Part], max_chars: int, attribution: bool) -> tuple[str, list[str]]:
    """All answers under their agents' names, and the names; a sentence that an earlier part already said is left out,
    and so is an agent who has said nothing else."""
    said: set[tuple[str, ...]] = set()
    text, agents = "", []
    for part in parts:
        body = _new(part.text, said)
        if body and len(text) < max_chars:
            agents.append(part.agent)
            name = f"**{part.agent}**: " if attribution and len(parts) > 1 else ""
            text += ("\n\n" if text else "") + name + body
    return cut(text, max_chars), agents


def _new(text: str, said: set[tuple[str, ...]]) -> str:
    """The text without sentences in `said`, to which its own are added. Fenced code stays whole, and what has no words
    (a rule, a table's border) is no sentence."""
    kept: list[str] = []
    own: set[tuple[str, ...]] = set()
    fenced = False
    for line in text.strip().splitlines():
        fence = line.lstrip().startswith("```")
        if fence or fenced or not line.strip():
            fenced ^= fence
            kept.append(line)
            continue
        mark = found[0] if (found := _LIST_MARK.match(line)) else ""
        sentences = [(s, tuple(words(s))) for s in _SENTENCE_END.split(line[len(mark) :])]
        new = [s for s, spoken in sentences if not spoken or spoken not in said]
        own.update(spoken for _, spoken in sentences)
        if new:
            kept.append(mark + " ".join(new))
    said |= own
    return "\n".join(kept).strip()


def cut(text: str, max_chars: int) -> str:
    """At most `max_chars` characters, ending at the end of a sentence where one lies in the last third."""
    if len(text) <= max_chars:
        return text
    ends = [m.start() for m in _SENTENCE_END.finditer(text[: max_chars + 1])]
    return text[: ends[-1] if ends and ends[-1] > max_chars * 2 // 3 else max_chars]
