"""Everything actors say to each other, as explicitly typed structs.

One tagged union, `Payload`, lists all of them: a frame that decodes to anything else is refused, so a peer can neither
run code nor smuggle in a type (no pickle). Structs are frozen; the in-process fabric passes them by reference.
Times are seconds; a deadline is *remaining* time, because monotonic clocks do not compare across machines.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from rayflow.chat import FinishReason, Message, ModelParams, ToolCall, Usage
from rayflow.errors import ErrorInfo
from rayflow.events import Event


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, tag=True):
    """Base of all messages; the tag on the wire is the class name.

    `survives_caller`: whether a handler goes on when the connection of whoever asked breaks. Not so by default: an
    answer that nobody can receive is not worth a model's tokens.
    """

    survives_caller: ClassVar[bool] = False


# --- runs: client -> router -> agents, aggregator -> client -----------------------------------------------------------


class RunRequest(Payload, frozen=True, omit_defaults=True, tag=True):
    """Ask a router to run the workflow for the new messages of a conversation. Reply: `RunResult`.

    `messages` holds only what is new; the session's last turns are added by the router.
    `agent`: run this agent instead of routing. `client`: fabric address that wants `Token`s and `Progress`, or "".
    `session_id` is always set by the caller; `new_session` says that it was just made.
    A run does not depend on its client's connection: it goes on when that breaks, and stops only when cancelled.
    """

    survives_caller: ClassVar[bool] = True

    run_id: str
    session_id: str
    messages: list[Message]
    params: ModelParams = ModelParams()
    tenant: str = ""
    user_id: str = ""
    agent: str = ""
    client: str = ""
    stream: bool = False
    progress: bool = False
    new_session: bool = False
    channel: str = "native"
    instructions: str = ""
    """Added to the agents' own system prompts (a client's system message)."""
    system_prompt: str = ""
    """Replaces the agents' own system prompts when set."""
    job_id: str = ""
    item_id: str = ""
    metadata: dict[str, str] = {}


class PartSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one agent's part of a run went."""

    agent: str
    status: str
    duration_ms: float = 0.0
    ttft_ms: float | None = None
    usage: Usage = Usage()
    error: str = ""


class RunResult(Payload, frozen=True, omit_defaults=True, tag=True):
    """The finished run. It exists only after the answer is durable in the session.

    `streamed` is the agent whose tokens are the answer, or "" when the answer was joined from several parts.
    """

    run_id: str
    session_id: str
    content: str
    finish_reason: FinishReason
    usage: Usage
    model: str
    agents: list[str]
    tool_calls: list[ToolCall] = []
    streamed: str = ""
    strategy: str = ""
    confidence: float = 1.0
    turn: int = 0
    """Sequence number of the answer in its session."""
    last_seq: int = 0
    duration_ms: float = 0.0
    parts: list[PartSummary] = []
    metadata: dict[str, Any] = {}


class CancelRun(Payload, frozen=True, tag=True):
    """Stop a run; its upstream calls are closed. Unknown and finished runs are ignored."""

    run_id: str
    reason: str = "client disconnected"


class Token(Payload, frozen=True, omit_defaults=True, tag=True):
    """Pieces of an agent's answer as the model cut them, told to the run's client directly by the replica."""

    run_id: str
    seq: int
    agent: str
    pieces: list[str]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Progress(Payload, frozen=True, tag=True):
    """A coarse event of a run, told to the run's client by the router."""

    event: Event


class AgentCall(Payload, frozen=True, omit_defaults=True, tag=True):
    """Ask a replica for one part of a run. Reply: `AgentReply`.

    The replica numbers its tokens `seq_start`, `seq_start + seq_step`, ...: parts that run side by side take turns, so
    that no two events of a run share a number.
    """

    run_id: str
    agent: str
    messages: list[Message]
    params: ModelParams = ModelParams()
    client: str = ""
    seq_start: int = 1
    seq_step: int = 1
    instructions: str = ""
    system_prompt: str = ""
    """As in `RunRequest`."""


class AgentReply(Payload, frozen=True, omit_defaults=True, tag=True):
    """A complete part. `last_seq` is the highest event number the replica used (0: none)."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    model: str
    duration_ms: float
    ttft_ms: float | None = None
    tool_calls: list[ToolCall] = []
    last_seq: int = 0
    chunks: int = 0
    in_flight: int = 0
    """Calls this replica was busy with when it answered: load travels on replies, never through the coordinator."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """One agent's answer (or its error) as the aggregator sees it."""

    agent: str
    text: str = ""
    error: str = ""
    role: str = ""
    duration_ms: float = 0.0


class JoinParts(Payload, frozen=True, tag=True):
    """Ask an aggregator for one answer out of several. Reply: `Joined`."""

    run_id: str
    question: str
    parts: list[Part]


class Joined(Payload, frozen=True, omit_defaults=True, tag=True):
    text: str
    strategy: str
    confidence: float
    agents: list[str]
    """The agents whose text is in the answer."""
    metadata: dict[str, Any] = {}


# --- sessions ---------------------------------------------------------------------------------------------------------


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One durable entry of a session. `seq` counts from 1 within the session."""

    seq: int
    message: Message
    run_id: str = ""
    agent: str = ""
    status: str = "complete"
    created_us: int = 0


class SessionInfo(Payload, frozen=True, omit_defaults=True, tag=True):
    session_id: str
    tenant: str = ""
    user_id: str = ""
    created_us: int = 0
    updated_us: int = 0
    turns: int = 0
    metadata: dict[str, Any] = {}


class CreateSession(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `SessionInfo`. Fails with `Conflict` where the id is taken."""

    tenant: str
    session_id: str
    user_id: str = ""
    metadata: dict[str, Any] = {}


class GetSession(Payload, frozen=True, tag=True):
    """Reply: `SessionInfo`, or `NotFound`."""

    tenant: str
    session_id: str


class GetHistory(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `History` with turns of `after < seq`, oldest first; or the last `limit` ones with `tail`."""

    tenant: str
    session_id: str
    after: int = 0
    limit: int = 100
    tail: bool = False


class History(Payload, frozen=True, tag=True):
    info: SessionInfo
    turns: list[Turn]


class DeleteSession(Payload, frozen=True, tag=True):
    """Reply: `Ack`, or `NotFound`."""

    tenant: str
    session_id: str


class AppendTurns(Payload, frozen=True, omit_defaults=True, tag=True):
    """Make messages durable at the end of a session, making the session where it is new. Reply: `Appended`, after
    fsync.

    `expected_seq`: the last number the caller knows, or -1 for "whatever it is"; another one fails with `Conflict`,
    and a session that is gone with `NotFound`.
    `window`: also return the last so many turns from before this append (0: none).
    A `run_id` and role already present are not written again: an append may be repeated safely.
    """

    tenant: str
    session_id: str
    messages: list[Message]
    run_id: str = ""
    user_id: str = ""
    agent: str = ""
    expected_seq: int = -1
    window: int = 0
    status: str = "complete"


class Appended(Payload, frozen=True, omit_defaults=True, tag=True):
    last_seq: int
    created: bool = False
    window: list[Turn] = []


# --- system: coordinator, event log, life cycle -----------------------------------------------------------------------


class Ack(Payload, frozen=True, tag=True):
    """Done; nothing to say."""


class Failure(Payload, frozen=True, tag=True):
    """The reply of a handler that raised."""

    error: ErrorInfo


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an actor listens: `unix:/path` or `tcp:host:port`. `epoch` grows with each incarnation."""

    address: str
    endpoint: str
    epoch: int = 0
    node: str = ""


class Directory(Payload, frozen=True, tag=True):
    """Who is where. The coordinator pushes it whenever it changes; a higher `version` replaces a lower one."""

    version: int
    entries: list[Endpoint]


class Launch(Payload, frozen=True, tag=True):
    """Ask a new coordinator to start this workflow. Reply: `Status` when every actor is ready."""

    config: bytes


class Join(Payload, frozen=True, omit_defaults=True, tag=True):
    """A process tells the coordinator that it listens, and asks what it should be. Reply: `Welcome`."""

    entry: Endpoint
    pid: int
    role: str


class Welcome(Payload, frozen=True, tag=True):
    """`config`: the workflow configuration as JSON. It travels here, not in Ray arguments, because it holds keys."""

    config: bytes
    directory: Directory


class Ready(Payload, frozen=True, tag=True):
    """Told by an actor when it can take messages; `boot` names the seconds its start took, by step."""

    address: str
    boot: dict[str, float]


class Leave(Payload, frozen=True, tag=True):
    """Told by an actor or ingress that ends on purpose."""

    address: str


class EventBatch(Payload, frozen=True, tag=True):
    events: list[Event]


class FlushEvents(Payload, frozen=True, tag=True):
    """Write what is buffered. Reply: `Ack` when it is readable by queries."""


class Ping(Payload, frozen=True, tag=True):
    """Reply: `Pong`."""


class Pong(Payload, frozen=True, omit_defaults=True, tag=True):
    address: str
    pid: int
    in_flight: int = 0
    stats: dict[str, float] = {}


class GetStatus(Payload, frozen=True, tag=True):
    """Ask the coordinator for the state of all actors. Reply: `Status`."""


class ActorStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    address: str
    role: str
    state: str
    pid: int = 0
    restarts: int = 0
    uptime_s: float = 0.0
    detail: str = ""


class Status(Payload, frozen=True, omit_defaults=True, tag=True):
    workflow: str
    version: str
    state: str
    actors: list[ActorStatus]
    timeline: dict[str, float] = {}
    """Seconds from the start of the coordinator to each step of the start."""


class Drain(Payload, frozen=True, tag=True):
    """Finish what is in flight, take nothing new. Reply: `Drained` within `budget_s`."""

    budget_s: float


class Drained(Payload, frozen=True, tag=True):
    left: list[str]
    """Ids of the work that did not finish within the budget."""


class Shutdown(Payload, frozen=True, omit_defaults=True, tag=True):
    """Ask the coordinator to drain and stop all actors. Reply: `Drained`."""

    reason: str = ""
    budget_s: float = 30.0


AnyPayload = (
    RunRequest | RunResult | CancelRun | Token | Progress | AgentCall | AgentReply | JoinParts | Joined
    | SessionInfo | CreateSession | GetSession | GetHistory | History | DeleteSession | AppendTurns | Appended
    | Ack | Failure | Directory | Launch | Join | Welcome | Ready | Leave | EventBatch | FlushEvents | Ping | Pong
    | GetStatus | Status | Drain | Drained | Shutdown
)  # fmt: skip
