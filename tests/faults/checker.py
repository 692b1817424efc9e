"""Was every promise kept? A pure comparison of what clients were told with what the histories hold.

Acknowledged turns must be there exactly once, in order, the question directly followed by the answer that its client
got. Refused ones may have left a question, but no complete answer; unknown ones may be there once. Everything else in
a history is somebody else's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from faults.answers import judge
from faults.operations import Operation


@dataclass(frozen=True, slots=True)
class Turn:
    """One entry of a history, as GET /sessions/{id}/history tells it."""

    role: str
    content: str
    status: str = "complete"


@dataclass(slots=True)
class Findings:
    """Violations, each named by its question (a question names its session)."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged, and not in the history with its answer."""
    duplicated: list[str] = field(default_factory=list)
    """A question that is there more than once."""
    reordered: list[str] = field(default_factory=list)
    """Acknowledged, and behind a later one."""
    interleaved: list[str] = field(default_factory=list)
    """Something stands between a question and its answer, or an answer has no question."""
    wrong: list[str] = field(default_factory=list)
    """The client's answer is not the history's, or does not belong to the question."""
    partial: list[str] = field(default_factory=list)
    """Acknowledged with the answers of some of its agents only, as when the model of another is out of order or late.
    (It has nothing to do with turns that are marked partial.)"""
    revived: list[str] = field(default_factory=list)
    """Reported as failed, and in the history with a complete answer."""
    foreign: list[str] = field(default_factory=list)
    """In the history, and never asked in this session."""

    def counts(self) -> dict[str, int]:
        return {f.name: len(getattr(self, f.name)) for f in fields(self)}

    def examples(self, most: int = 3) -> dict[str, list[str]]:
        return {f.name: found[:most] for f in fields(self) if (found := getattr(self, f.name))}


def check(operations: Iterable[Operation], histories: Mapping[str, Sequence[Turn]]) -> Findings:
    """Compare the operation log with the histories of its sessions. A session without a history counts as empty."""
    findings = Findings()
    by_session: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_session[operation.session].append(operation)
    for session, asked in by_session.items():
        _check_session(asked, histories.get(session, ()), findings)
    return findings


def _check_session(asked: Sequence[Operation], history: Sequence[Turn], findings: Findings) -> None:
    known = {operation.question: operation for operation in asked}
    questions = Counter(turn.content for turn in history if turn.role == "user")
    answers = _answers(history, findings, asked[0].session)
    for question, count in questions.items():
        if question not in known:
            findings.foreign.append(f"{question} in {asked[0].session}")
        elif count > 1:
            findings.duplicated.append(question)
    for operation in asked:
        _check_operation(operation, questions[operation.question], answers.get(operation.question, []), findings)
    _check_order([known[turn.content] for turn in history if turn.role == "user" and turn.content in known], findings)


def _answers(history: Sequence[Turn], findings: Findings, session: str) -> dict[str, list[str]]:
    """Complete answers by the question they directly follow."""
    answers: dict[str, list[str]] = defaultdict(list)
    before: Turn | None = None
    for turn in history:
        if turn.role != "user":
            if before is None or before.role != "user":
                findings.interleaved.append(f"{session} {turn.content[:80]}")
            elif turn.status == "complete":
                answers[before.content].append(turn.content)
        before = turn
    return answers


def _check_operation(operation: Operation, asked: int, answers: Sequence[str], findings: Findings) -> None:
    if operation.acknowledged:
        if not asked or not answers:
            findings.lost.append(operation.question)
        elif operation.answer not in answers:
            findings.wrong.append(operation.question)
        elif (verdict := judge(operation.answer, operation.question, operation.agents)) != "whole":
            (findings.partial if verdict == "partial" else findings.wrong).append(operation.question)
    elif operation.definite and answers:
        findings.revived.append(operation.question)


def _check_order(present: Sequence[Operation], findings: Findings) -> None:
    last = 0
    for operation in present:
        if not operation.acknowledged:
            continue
        if operation.n < last:
            findings.reordered.append(operation.question)
        last = max(last, operation.n)
