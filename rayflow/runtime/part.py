"""One agent's part of a run."""

from __future__ import annotations

from rayflow.errors import ErrorInfo
from rayflow.messages import AgentReply, PartSummary


class PartState:
    """One agent's part: from its dispatch to its reply or error. `attempt` counts from 1."""

    __slots__ = ("agent", "attempt", "error", "queue_ms", "replica", "reply", "started")

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.attempt = 1
        self.replica = ""
        self.started = 0.0
        self.queue_ms = 0.0
        self.reply: AgentReply | None = None
        self.error: ErrorInfo | None = None

    def summary(self) -> PartSummary:
        if self.reply is None:
            return PartSummary(self.agent, "error", error=self.error.slug if self.error else "")
        return PartSummary(self.agent, "ok", self.reply.duration_ms, self.reply.ttft_ms, self.reply.usage)
