"""The system itself: coordinator, life cycle, directory, event log."""

from __future__ import annotations

import msgspec

from rayflow.messages.base import Payload
from rayflow.messages.scaling import PoolStatus


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an actor listens: `unix:/path` or `tcp:host:port`. `epoch` grows with each incarnation.

    On a cluster of several nodes, `node` names the machine and `tcp` is how the others reach it.
    """

    address: str
    endpoint: str
    epoch: int = 0
    node: str = ""
    tcp: str = ""

    @property
    def host(self) -> str:
        """The machine, as the others call it; "" where there is only one."""
        return self.tcp.removeprefix("tcp:").rpartition(":")[0]


class Directory(Payload, frozen=True, omit_defaults=True, tag=True):
    """Who is where. The coordinator pushes it whenever it changes; a higher `version` replaces a lower one.

    `retired`: endpoints that the coordinator has declared dead. Nobody talks to them any more, unless an entry names
    them again. An endpoint that merely left `entries` may still finish what it has in flight.
    """

    version: int
    entries: list[Endpoint]
    retired: list[str] = []


class Launch(Payload, frozen=True, tag=True):
    """Ask a new coordinator to start this workflow. Reply: `Status` when every actor is ready."""

    config: bytes


class Join(Payload, frozen=True, omit_defaults=True, tag=True):
    """A process tells the coordinator that it listens, and asks what it should be. Reply: `Welcome`.

    `ready`: it takes messages already. It knew an earlier coordinator, lost it, and now looks for the next one.
    """

    entry: Endpoint
    pid: int
    role: str
    ready: bool = False


class Welcome(Payload, frozen=True, tag=True):
    """`config`: the workflow configuration as JSON. It travels here, not in Ray arguments, because it holds keys."""

    config: bytes
    directory: Directory


class Ready(Payload, frozen=True, omit_defaults=True, tag=True):
    """Told by an actor when it can take messages; `boot` names the seconds its start took, by step."""

    address: str
    boot: dict[str, float]
    epoch: int = 0


class Leave(Payload, frozen=True, tag=True):
    """Told by an actor or ingress that ends on purpose."""

    address: str


class EventBatch(Payload, frozen=True, omit_defaults=True, tag=True):
    """Events `first` to `first + count - 1` of one sender, encoded by it: a line of JSON each. Reply: `Ack` when they
    are on disk. Sent again, they are in the log once."""

    origin: str
    """Unique for each incarnation of a sender."""
    first: int
    count: int
    lines: bytes
    dropped: int = 0
    """Events that this sender had to drop since it began."""

    def after(self, number: int) -> EventBatch:
        """Without the events before `number`."""
        known = number - self.first
        if known <= 0:
            return self
        return EventBatch(self.origin, number, self.count - known, self.lines.split(b"\n", known)[known])


class GetLogStats(Payload, frozen=True, tag=True):
    """Ask the event log how it fares. Reply: `LogStats`."""


class LogStats(Payload, frozen=True, omit_defaults=True, tag=True):
    """Of one incarnation of the event log. `repeated`: batches it had already. `refused`: batches that the disk did not
    take. `dropped`: events that senders gave up, as far as they could say so. `problem`: slug of the error of the last
    write, "" while all is well."""

    events: int = 0
    batches: int = 0
    bytes: int = 0
    repeated: int = 0
    refused: int = 0
    dropped: int = 0
    problem: str = ""


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
    epoch: int = 0
    node: str = ""


class Status(Payload, frozen=True, omit_defaults=True, tag=True):
    workflow: str
    version: str
    state: str
    actors: list[ActorStatus]
    timeline: dict[str, float] = {}
    """Seconds from the start of the coordinator to each step of the start."""
    pools: list[PoolStatus] = []


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


class Reconfigure(Payload, frozen=True, tag=True):
    """Ask the coordinator to go over to this configuration without failing a request. Reply: `Reconfigured` when every
    actor has it; `ConfigurationError` for what can only change with a restart, and then nothing has changed."""

    config: bytes


class Reconfigured(Payload, frozen=True, omit_defaults=True, tag=True):
    """Addresses of the actors that were replaced, started and stopped."""

    replaced: list[str] = []
    added: list[str] = []
    removed: list[str] = []


class Configure(Payload, frozen=True, tag=True):
    """The workflow has a new configuration: told to processes that no supervisor replaces (ingress, clients).
    Reply: `Ack`."""

    config: bytes


class GetLinks(Payload, frozen=True, tag=True):
    """Ask a process for its connections. Reply: `Links`."""


class LinkStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """One connection of a process, since it was opened. `peer` is the other side's endpoint."""

    peer: str
    age_s: float
    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    asks: int = 0
    """Asks of ours that wait for their reply."""
    serving: int = 0
    """Asks of the peer that we work on."""
    streams: int = 0
    """Open streams, both ways."""
    queued_bytes: int = 0
    """Written, but not yet taken by the peer."""
    stalled_s: float = 0.0
    """How long, in all, the peer did not keep up."""
    dropped: int = 0
    """Told messages that were thrown away because it did not."""


class Links(Payload, frozen=True, tag=True):
    links: list[LinkStats]
