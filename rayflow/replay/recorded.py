"""What a log tells of runs, so that they can be run again: what was asked, who was chosen, and what each agent said.

Texts are in the log as far as `monitoring.capture` put them there. What lacks, `stored.complete` takes from the
sessions. A text that was cut or hashed is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any, Literal

import msgspec
import pyarrow as pa

from rayflow.analytics.database import Log
from rayflow.chat import FunctionCall, Message, ToolCall, Usage
from rayflow.errors import BY_SLUG, ContentRejected, DeadlineExceeded, ExecutionError, ModelError, WorkflowError

Source = Literal["", "log", "redacted", "sessions"]

PAGE_ROWS = 4096
EVERYTHING = 1 << 62
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class Said(msgspec.Struct):
    """What an agent answered. `text`: None where it is not recorded."""

    text: str | None
    finish_reason: str = "stop"
    usage: Usage = Usage()
    model: str = ""
    duration_ms: float = 0.0
    tool_calls: list[ToolCall] = []


class Failed(msgspec.Struct):
    """The error that an agent ended with."""

    slug: str
    message: str

    def error(self, alone: bool) -> WorkflowError:
        """It again. `alone`: the run had no other part. What is neither the model's fault nor the run's (a lost
        replica, a part that was late) leads to no fallback: none was tried then."""
        kind = BY_SLUG.get(self.slug, ExecutionError)
        own = issubclass(kind, ModelError) or (alone and kind is DeadlineExceeded)
        return (kind if own else ExecutionError)(self.message)


class Recorded(msgspec.Struct):
    """One run as it went. `messages`: what was new in it; None where that is not recorded. `turn`: number of the last
    of them in the session; None where the run wrote to none. `failures`: how many models of an agent failed before one
    answered. `answer`: None where there was none, or it is not recorded."""

    run_id: str
    session_id: str
    tenant: str
    user_id: str
    channel: str
    priority: str
    started_us: int
    chosen: bool
    status: str
    error: str
    duration_ms: float | None
    cost_usd: float | None
    cached: bool
    turn: int | None
    streamed: bool
    routed: bool
    strategy: str
    confidence: float | None
    agents: list[str]
    scores: dict[str, float]
    chosen_by_model: bool
    messages: list[Message] | None
    source: Source
    answer: str | None
    answer_redacted: bool
    outcomes: dict[str, Said | Failed]
    failures: dict[str, int]
    parts_cost_usd: float | None
    reply: Message | None = None
    """What went into the session as the answer."""

    @property
    def said(self) -> list[Said]:
        return [outcome for outcome in self.outcomes.values() if isinstance(outcome, Said)]

    @property
    def usage(self) -> Usage | None:
        """Of the answers; None where no agent was asked, or it is not recorded."""
        if self.cached or not self.said:
            return None
        return sum((said.usage for said in self.said), Usage())

    @property
    def left_out(self) -> str:
        """Why this run cannot be replayed; "" where it can."""
        if self.status == "unfinished":
            return "it has not ended"
        if self.status == "cancelled":
            return "it was cancelled"
        if self.status == "error" and not _of_the_workflow(self.error):
            return f"it failed for a reason that lies outside of the workflow: {self.error}"
        if self.messages is None:
            return "its messages are not recorded (monitoring.capture), and no session has them"
        if any(message.role == "tool" for message in self.messages) and self.source != "sessions":
            return "it has results of tools, which the log does not tell apart"
        return ""


def select(log: Log, since: str, until: str, where: str = "", most: int | None = None) -> pa.Table:
    """The runs that a replay needs, for `sessions`: those that ended from `since` to before `until` (ISO 8601) and for
    which `where` holds, SQL over the view `runs`, and all others of their sessions. `most`: choose no more than so
    many, always the same ones.

    All of it is in memory, about as large as the texts are. Raises `ValidationError` for `where`.
    """
    sql = _query().replace("/* where */ true", f"{where}\n") if where else _query()
    return log.query(sql, {"since": since, "until": until, "most": EVERYTHING if most is None else most})


def sessions(table: pa.Table) -> Iterator[list[Recorded]]:
    """The runs of one session after the other, in their order."""
    rows = (row for at in range(0, table.num_rows, PAGE_ROWS) for row in table.slice(at, PAGE_ROWS).to_pylist())
    for _, runs in groupby(rows, lambda row: (row["tenant"], row["session_id"])):
        yield [_recorded(row) for row in runs]


@cache
def _query() -> str:
    return (files("rayflow.replay") / "recorded.sql").read_text("utf-8")


def _of_the_workflow(slug: str) -> bool:
    """Whether a replay can end with this error, too."""
    kind = BY_SLUG.get(slug, WorkflowError)
    return issubclass(kind, ModelError | ContentRejected) or kind in (ExecutionError, DeadlineExceeded)


def _recorded(row: Mapping[str, Any]) -> Recorded:
    outcomes, failures = _outcomes(row)
    costs = [part["cost_usd"] for part in row["parts"] or () if part["cost_usd"] is not None]
    messages = _messages(row)
    answer = None if row["answer_cut"] else _text(row["answer"])
    said = next(iter(outcomes.values()), None)
    calls = said.tool_calls if isinstance(said, Said) and len(outcomes) == 1 else []
    reply = Message("assistant", answer or None if calls else answer, tool_calls=calls or None)
    return Recorded(
        run_id=row["run_id"],
        session_id=row["session_id"] or "",
        tenant=row["tenant"] or "",
        user_id=row["user_id"] or "",
        channel=row["channel"] or "native",
        priority=row["priority"] or "interactive",
        started_us=row["started_us"],
        chosen=row["chosen"],
        status=row["status"],
        error=row["error"] or "",
        duration_ms=row["duration_ms"],
        cost_usd=row["cost_usd"],
        cached=row["cached"],
        turn=row["turn"],
        streamed=row["streamed"],
        routed=bool(row["routed"]),
        strategy=row["strategy"] or "",
        confidence=row["confidence"],
        agents=row["agents"] or [],
        scores=msgspec.json.decode(row["scores"], type=dict[str, float]) if row["scores"] else {},
        chosen_by_model=bool(row["chosen_by_model"]),
        messages=messages,
        source="" if messages is None else "redacted" if row["question_redacted"] else "log",
        answer=answer,
        answer_redacted=row["answer_redacted"],
        outcomes=outcomes,
        failures=failures,
        parts_cost_usd=sum(costs) if costs else None,
        reply=reply if answer is not None or calls else None,
    )


def _messages(row: Mapping[str, Any]) -> list[Message] | None:
    text = None if row["question_cut"] else _text(row["question"])
    if text is None:
        return None
    if row["messages"] == 1:
        return [Message("user", text)]
    return msgspec.json.decode(text, type=list[Message])


def _outcomes(row: Mapping[str, Any]) -> tuple[dict[str, Said | Failed], dict[str, int]]:
    """How each agent that was asked ended, and how many of its models failed first."""
    outcomes: dict[str, Said | Failed] = {}
    failures: dict[str, int] = {}
    parts = row["parts"] or []
    for part in parts:
        if part["status"] == "ok":
            outcomes[part["agent"]] = _said(part, row, alone=len(parts) == 1)
        elif part["status"] == "error":
            outcomes[part["agent"]] = Failed(part["error"] or "", part["error_message"] or "it failed")
    for move in row["moves"] or ():
        agent = move["agent"]
        if move["onward"] == agent:
            failures[agent] = failures.get(agent, 0) + 1
        else:  # to another agent, or to the configured message
            outcomes[agent] = Failed(ModelError.slug, move["message"] or "it failed")
    if row["cached"] and len(row["agents"] or ()) == 1:
        outcomes[row["agents"][0]] = Said(None if row["answer_cut"] else _text(row["answer"]))
    return outcomes, failures


def _said(part: Mapping[str, Any], row: Mapping[str, Any], alone: bool) -> Said:
    """An agent that answered alone: its text is that of the run."""
    cut, content = (row["answer_cut"], row["answer"]) if alone else (part["cut"], part["text"])
    asked = [call for call in row["tools"] or () if call["agent"] == part["agent"]]
    calls = [ToolCall(call["id"] or "", FunctionCall(call["name"] or "", call["arguments"] or "")) for call in asked]
    text = None if cut else _text(content)
    if text is None and calls and all(call["arguments"] for call in asked):
        text = ""  # it said nothing, it called
    return Said(
        text,
        part["finish_reason"] or "stop",
        Usage(
            part["prompt_tokens"] or 0,
            part["completion_tokens"] or 0,
            cached_tokens=part["cached_tokens"] or 0,
            reasoning_tokens=part["reasoning_tokens"] or 0,
        ),
        part["model"] or "",
        part["duration_ms"] or 0.0,
        calls,
    )


def _text(content: str | None) -> str | None:
    """None where nothing was captured, or only what shows equality."""
    return None if content is None or _HASH.fullmatch(content) else content
