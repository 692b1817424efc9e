"""What the upstream answers: a pure function of who was asked what, so that every answer can be checked to the letter.

An answer names its agent, the edition of the agent's prompt and the question, and has a fixed end: one that belongs to
another question, was cut or was damaged is told from the right one, also when several of them were joined.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TOKENS = 20
_WORDS = tuple(f"w{i}" for i in range(1, TOKENS - 3))
_TAIL = " ".join((*_WORDS, "end."))
_ANSWER = re.compile(r"(\w+)\.(\d+) answers <([^<>]*)>: " + re.escape(_TAIL))
_PROMPT = re.compile(r"You are (\w+), edition (\d+)\.")


@dataclass(frozen=True, slots=True)
class Part:
    """One agent's complete answer as found in a text."""

    agent: str
    edition: int
    question: str


def prompt(agent: str, edition: int) -> str:
    """The system prompt that makes the upstream answer as this agent."""
    return f"You are {agent}, edition {edition}."


def identity(system_prompt: str) -> tuple[str, int]:
    """Agent and edition of a system prompt; ("nobody", 0) where it names none."""
    found = _PROMPT.search(system_prompt)
    return (found[1], int(found[2])) if found else ("nobody", 0)


def pieces(agent: str, edition: int, question: str) -> list[str]:
    """The answer as `TOKENS` tokens."""
    return [f"{agent}.{edition}", " answers", f" <{question}>:", *(f" {word}" for word in _WORDS), " end."]


def parts(text: str) -> list[Part]:
    """The complete answers in a text, in order."""
    return [Part(agent, int(edition), question) for agent, edition, question in _ANSWER.findall(text)]


def judge(text: str, question: str, agents: Sequence[str]) -> Literal["whole", "partial", "wrong"]:
    """Whether the text is the answer of all `agents` to `question`, of some of them, or anything else."""
    found = parts(text)
    names = [part.agent for part in found]
    if text.count(" answers ") != len(found) or any(part.question != question for part in found):
        return "wrong"
    if sorted(names) == sorted(agents):
        return "whole"
    return "partial" if names and set(names) < set(agents) and len(set(names)) == len(names) else "wrong"
