"""Everything actors say to each other, as explicitly typed structs.

One tagged union, `AnyPayload`, lists all of them: a frame that decodes to anything else is refused, so a peer can
neither run code nor smuggle in a type (no pickle). Structs are frozen; the in-process fabric passes them by reference.
Times are seconds; a deadline is *remaining* time, because monotonic clocks do not compare across machines.
"""

from __future__ import annotations

from rayflow.messages.accounts import Balance, Booking, Reservation, Reserve, Reserved, Settle, Spent
from rayflow.messages.base import Ack, Failure, Payload
from rayflow.messages.runs import (
    AgentCall,
    AgentReply,
    CancelRun,
    Joined,
    JoinParts,
    Part,
    PartSummary,
    Progress,
    RunRequest,
    RunResult,
    Token,
    TokenStream,
    VoidAttempt,
    Voided,
)
from rayflow.messages.scaling import Demand, GetDemand, PoolDemand, PoolStatus, ScaleCapacity, Scaled
from rayflow.messages.sessions import (
    Appended,
    AppendTurns,
    CreateSession,
    DeleteSession,
    GetHistory,
    GetSession,
    History,
    SessionInfo,
    Turn,
)
from rayflow.messages.system import (
    ActorStatus,
    Configure,
    Directory,
    Drain,
    Drained,
    Endpoint,
    EventBatch,
    FlushEvents,
    GetLinks,
    GetStatus,
    Join,
    Launch,
    Leave,
    Links,
    LinkStats,
    Ping,
    Pong,
    Ready,
    Reconfigure,
    Reconfigured,
    Shutdown,
    Status,
    Welcome,
)

AnyPayload = (
    Ack | Failure | RunRequest | RunResult | CancelRun | TokenStream | Token | Progress | AgentCall | AgentReply |
    JoinParts | Joined | SessionInfo | CreateSession | GetSession | GetHistory | History | DeleteSession |
    AppendTurns | Appended | Directory | Launch | Join | Welcome | Ready | Leave | EventBatch | FlushEvents | Ping
    | Pong | GetStatus | Status | Drain | Drained | Shutdown | Reconfigure | Reconfigured | Configure | GetLinks |
    Links | VoidAttempt | Voided | Reserve | Reserved | Settle | Spent | GetDemand | Demand | ScaleCapacity | Scaled
)  # fmt: skip

__all__ = [
    "Ack",
    "ActorStatus",
    "AgentCall",
    "AgentReply",
    "AnyPayload",
    "AppendTurns",
    "Appended",
    "Balance",
    "Booking",
    "CancelRun",
    "Configure",
    "CreateSession",
    "DeleteSession",
    "Demand",
    "Directory",
    "Drain",
    "Drained",
    "Endpoint",
    "EventBatch",
    "Failure",
    "FlushEvents",
    "GetDemand",
    "GetHistory",
    "GetLinks",
    "GetSession",
    "GetStatus",
    "History",
    "Join",
    "JoinParts",
    "Joined",
    "Launch",
    "Leave",
    "LinkStats",
    "Links",
    "Part",
    "PartSummary",
    "Payload",
    "Ping",
    "Pong",
    "PoolDemand",
    "PoolStatus",
    "Progress",
    "Ready",
    "Reconfigure",
    "Reconfigured",
    "Reservation",
    "Reserve",
    "Reserved",
    "RunRequest",
    "RunResult",
    "ScaleCapacity",
    "Scaled",
    "SessionInfo",
    "Settle",
    "Shutdown",
    "Spent",
    "Status",
    "Token",
    "TokenStream",
    "Turn",
    "VoidAttempt",
    "Voided",
    "Welcome",
]
