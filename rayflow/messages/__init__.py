"""Everything actors say to each other, as explicitly typed structs.

One tagged union, `AnyPayload`, lists all of them: a frame that decodes to anything else is refused, so a peer can
neither run code nor smuggle in a type (no pickle). Structs are frozen; the in-process fabric passes them by reference.
Times are seconds; a deadline is *remaining* time, because monotonic clocks do not compare across machines.
"""

from __future__ import annotations

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
    Links | VoidAttempt | Voided
)  # fmt: skip

__all__ = [
    "Ack",
    "ActorStatus",
    "AgentCall",
    "AgentReply",
    "AnyPayload",
    "AppendTurns",
    "Appended",
    "CancelRun",
    "Configure",
    "CreateSession",
    "DeleteSession",
    "Directory",
    "Drain",
    "Drained",
    "Endpoint",
    "EventBatch",
    "Failure",
    "FlushEvents",
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
    "Progress",
    "Ready",
    "Reconfigure",
    "Reconfigured",
    "RunRequest",
    "RunResult",
    "SessionInfo",
    "Shutdown",
    "Status",
    "Token",
    "TokenStream",
    "Turn",
    "VoidAttempt",
    "Voided",
    "Welcome",
]
