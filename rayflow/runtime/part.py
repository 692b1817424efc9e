"""One agent's part of a run."""

from __future__ import annotations

from rayflow.chat import Usage
from rayflow.errors import ErrorInfo
from rayflow.messages import AgentReply, PartSummary, Token
from rayflow.policies.prices import Entry


class PartState:
    """One agent's part: from its dispatch to its reply or error. `attempt` counts from 1. `agent` is who works on it:
    another one than `routed_to` where that has failed. `degraded`: the reply is the configured message. `numbers`: that
    of its first token, and the step to the next one. `cut`: what it had used when it was cancelled. `called`: the model
    that its call went to which is still out, or was answered; the end of the part tells of that call, too."""

    __slots__ = (
        "agent",
        "attempt",
        "called",
        "cut",
        "degraded",
        "error",
        "numbers",
        "queue_ms",
        "replica",
        "reply",
        "routed_to",
        "started",
    )

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.routed_to = agent
        self.degraded = False
        self.attempt = 1
        self.replica = ""
        self.started = 0.0
        self.queue_ms = 0.0
        self.reply: AgentReply | None = None
        self.error: ErrorInfo | None = None
        self.numbers = (1, 1)
        self.cut: Usage | None = None
        self.called: Entry | None = None

    def tokens(self, run_id: str) -> list[Token]:
        """Those that its reply was streamed in."""
        if self.reply is None:
            return []
        tokens, at = [], 0
        first, step = self.numbers
        for i, chars in enumerate(self.reply.cuts):
            tokens.append(Token(run_id, first + i * step, self.agent, [self.reply.text[at : at + chars]]))
            at += chars
        return tokens

    def summary(self) -> PartSummary:
        instead_of = self.routed_to if self.agent != self.routed_to else ""
        if self.reply is None:
            return PartSummary(self.agent, "error", error=self.error.slug if self.error else "", instead_of=instead_of)
        reply = self.reply
        return PartSummary(self.agent, "ok", reply.duration_ms, reply.ttft_ms, reply.usage, instead_of=instead_of)
