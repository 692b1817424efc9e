"""Runs: client -> router -> agents, aggregator -> client."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from rayflow.chat import FinishReason, Message, ModelParams, ToolCall, Usage
from rayflow.events import Event
from rayflow.messages.base import Payload
from rayflow.messages.caches import CacheUse

Multitask = Literal["enqueue", "reject", "interrupt", "rollback"]
"""What becomes of a run whose session is busy with another one (`RunRequest.multitask`)."""

PART_ATTEMPTS = 16
"""Attempts of a part are numbered across all askings for its run: so many are set aside for each."""

ATTEMPT_NUMBERS = 1 << 32
"""Event numbers set aside for each time that the client asks for a run: the router that died took its count along."""


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
    stateless: bool = False
    """Nobody will go on with this conversation: no session is read or written, and the messages are all there is. It
    costs half of what a turn costs that is made durable."""
    repeatable: bool = False
    """The client may ask again under this `run_id` (it sent an idempotency key): a repetition joins the run that is
    under way, or gets the answer that is in the session already."""
    joins: bool = True
    """A repetition waits for the run under way; with False it fails with `Conflict`."""
    outlives: bool = False
    """It goes on when its client leaves."""
    multitask: Multitask | Literal[""] = ""
    """Where an earlier run of the session is not finished: wait for it in order (enqueue), fail with `Conflict`
    (reject), cancel all earlier ones and keep what was shown of their answers (interrupt), or cancel them and take back
    what they have written (rollback). "": as configured."""
    cache: CacheUse = ""
    """What the client wants of the result cache."""
    lock: str = ""
    """Token of the lock on the session that the client holds."""
    attempt: int = 0
    """How often the system's client asked for this run before: it asks again when a router died."""
    metadata: dict[str, str] = {}
    service_class: str = "interactive"
    """interactive, tool or batch: who goes first where calls wait."""
    user_tier: str = ""
    urgency: str = ""
    """Names in the `priority` section of the configuration."""


class PartSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one agent's part of a run went."""

    agent: str
    status: str
    duration_ms: float = 0.0
    ttft_ms: float | None = None
    usage: Usage = Usage()
    error: str = ""
    instead_of: str = ""
    """The agent that this part was routed to, where its fallback agent has taken it over."""


class RunResult(Payload, frozen=True, omit_defaults=True, tag=True):
    """The finished run. It exists only after the answer is durable in the session.

    `streamed` is the agent whose tokens are the answer, or the beginning of it where further agents added to it; ""
    where none was streamed that way.
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
    context_read: bool | None = None
    """Whether the store had to be read for what the models got of the conversation; None where they got nothing."""
    cost_usd: float | None = None
    """Of all calls of models that it took, failed ones too, as far as they said what they used; None where none of
    them has a price."""
    metadata: dict[str, Any] = {}


class CancelRun(Payload, frozen=True, omit_defaults=True, tag=True):
    """Stop a run for all who wait for it; its upstream calls are closed. Reply: `Ack` when the run has ended and what
    was shown of its answer is durable. Fails with `NotFound` where no run of this tenant under way has that id."""

    run_id: str
    reason: str = "client disconnected"
    tenant: str = ""


class GetRuns(Payload, frozen=True, tag=True):
    """Ask a router what it works on. Reply: `RunIds`."""


class RunIds(Payload, frozen=True, tag=True):
    """The runs under way, those that wait included."""

    ids: list[str]


class Shown(Payload, frozen=True, tag=True):
    """Tell a router that the client of a stream has left, and what it was given of the answer."""

    run_id: str
    client: str
    text: str


class Follower(msgspec.Struct, frozen=True):
    """Somebody who reads a run along: a fabric address, and which of its readers."""

    client: str
    reader: str


class FollowRun(Payload, frozen=True, tag=True):
    """Ask a router for all of a streamed run, from its first event: to `by` come its tokens and progress, first what
    there is already (`Replay`). Reply: `RunResult`, or what the run failed with.

    A run can be followed while it is under way and for some minutes after. Fails with `NotFound` where this router
    knows of no such run of this tenant.
    """

    run_id: str
    tenant: str
    by: Follower


class FollowPart(Payload, frozen=True, tag=True):
    """Tell a replica to send its tokens of a part also to this follower, from the first one."""

    run_id: str
    agent: str
    by: Follower


class TokenStream(Payload, frozen=True, omit_defaults=True, tag=True):
    """Opens the stream of one part's tokens, from the replica to the run's client. Its items are `Token`s.

    `attempt` as in `AgentCall`: the client reads none of an attempt that it was told is void.
    """

    run_id: str
    agent: str
    attempt: int = 1
    reader: str = ""
    """As in `Follower`; "": the run's own client."""


class Token(Payload, frozen=True, omit_defaults=True, tag=True):
    """Pieces of an agent's answer as the model cut them, streamed to the run's client directly by the replica."""

    run_id: str
    seq: int
    agent: str
    pieces: list[str]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Replay(Payload, frozen=True, omit_defaults=True, tag=True):
    """Tell a follower of a run what there is of it. What it has already, it leaves out."""

    reader: str
    tokens: list[Token] = []
    events: list[Event] = []


class VoidAttempt(Payload, frozen=True, tag=True):
    """Tell the run's client that the replica behind an attempt died. Reply: `Voided`.

    Where the client has nothing of that part yet, it takes no token of this attempt any more, and the part may be asked
    of another replica.
    """

    run_id: str
    agent: str
    attempt: int


class Voided(Payload, frozen=True, omit_defaults=True, tag=True):
    """`delivered`: how many `Token`s of that part were read already; where there were some, nothing was voided.
    `text`: what they said."""

    delivered: int = 0
    text: str = ""


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
    attempt: int = 1
    """Number of this try in the life of the part, from `PART_ATTEMPTS` x `RunRequest.attempt` + 1."""
    instructions: str = ""
    system_prompt: str = ""
    """As in `RunRequest`."""
    model: str = ""
    """Entry of `models` to call instead of the agent's own."""
    account: str = ""
    """Fabric address that wants to be told (`Spent`) what was used and said where this call is cut short or fails, or
    ""."""
    followers: list[Follower] = []
    """Who else wants the tokens."""


class AgentReply(Payload, frozen=True, omit_defaults=True, tag=True):
    """A complete part. `last_seq` is the highest event number the replica used (0: none). `cuts`: how many characters
    each of its `Token`s had."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    model: str
    duration_ms: float
    ttft_ms: float | None = None
    tool_calls: list[ToolCall] = []
    response_id: str = ""
    last_seq: int = 0
    chunks: int = 0
    cuts: list[int] = []
    in_flight: int = 0
    """Calls this replica was busy with when it answered: load travels on replies, never through the coordinator."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """One agent's answer (or its error) as the aggregator sees it."""

    agent: str
    text: str = ""
    error: str = ""
    role: str = ""
    duration_ms: float = 0.0
    confidence: float = 0.0
    """How sure the routing was that the message belongs to this agent."""
    finish_reason: FinishReason = "stop"
    late: bool = False
    """It was not waited for."""


class JoinParts(Payload, frozen=True, omit_defaults=True, tag=True):
    """Ask an aggregator for one answer out of several. Reply: `Joined`.

    `lead`: agent whose answer the client has been given already; the joined text begins with it.
    """

    run_id: str
    question: str
    parts: list[Part]
    lead: str = ""


class Joined(Payload, frozen=True, omit_defaults=True, tag=True):
    text: str
    strategy: str
    confidence: float
    agents: list[str]
    """The agents whose text is in the answer."""
    metadata: dict[str, Any] = {}
    lead: str = ""
    """As in `JoinParts`."""
    usage: Usage = Usage()
    """Tokens that a judge model used."""
