"""A run on its way through a router: what its stages hand on to each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from rayflow.chat import Message
from rayflow.events import Event
from rayflow.messages import Follower, RunRequest, RunResult
from rayflow.runtime.run import Run
from rayflow.runtime.session import SessionSlot


@dataclass(slots=True)
class Work:
    """A run under way: its state machine, the session it writes, what its models see, and its result."""

    run: Run
    inherited: bool = False
    """It was taken over from the router that was here before: taken in by that one, and kept in the queue."""
    slot: SessionSlot | None = None
    context: list[Message] = field(default_factory=list)
    contexts: dict[str, list[Message]] = field(default_factory=dict)
    """What the models of some agents see instead."""
    result: RunResult | None = None
    level: float = 2.0
    """Where calls wait, higher ones go first (`policies.priority`)."""
    tokens: int = 0
    """What the run is expected to use: its weight among tenants."""
    account: str = ""
    """Who wants to be told what a call had used that is cut short."""
    shown: list[Event] = field(default_factory=list)
    """Of a stream: the events that its readers see, as far as it has come."""
    followers: list[Follower] = field(default_factory=list)
    """Who reads along."""

    @property
    def request(self) -> RunRequest:
        return self.run.request

    @property
    def owned(self) -> SessionSlot:
        """Its session, which it owns by now."""
        assert self.slot is not None, "own_session comes first"
        return self.slot

    @property
    def key(self) -> tuple[str, str]:
        return self.request.tenant, self.request.session_id
