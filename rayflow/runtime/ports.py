"""What the runtime needs from the world, as protocols.

Rooms further out implement them (models, stores, cluster, analytics) without importing this file; the composition root
puts the two together, and the type checker sees to it that they fit.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from rayflow.chat import ModelChunk, ModelReply, ModelRequest
from rayflow.events import Event
from rayflow.messages import (
    Appended,
    AppendTurns,
    CreateSession,
    DeleteSession,
    Directory,
    GetHistory,
    GetSession,
    History,
    Payload,
    SessionInfo,
)

Handler = Callable[[Any], Awaitable[Payload] | Payload | None]
"""Takes one message. What it returns (or awaits) is the reply of an ask; None is right for messages that are told.
A plain function runs at once, on the loop, in order; a coroutine function runs as a task."""


class Fabric(Protocol):
    """Messages between logical addresses such as `router/0` or `agent/technical/2`. Any actor may call all of it."""

    endpoint: str
    """Where this process listens, for other processes."""

    @property
    def directory(self) -> DirectoryView: ...

    def bind(self, address: str, handlers: Mapping[type[Payload], Handler]) -> None:
        """Receive messages for `address` in this process."""
        ...

    def unbind(self, address: str) -> None: ...

    def tell(self, to: str, message: Payload) -> None:
        """Send and forget. Never blocks and never raises for a missing peer: what cannot be delivered is dropped."""
        ...

    async def ask(self, to: str, message: Payload, timeout_s: float) -> Any:
        """Send and wait for the reply. Raises what the handler raised, `UnknownAddress`, `PeerLost` as soon as the
        connection breaks, or `DeadlineExceeded`. Cancelling the caller cancels the handler at the other end."""
        ...


class DirectoryView(Protocol):
    """The local copy of who is where. It may lag behind by a moment; `ask` tells the truth."""

    @property
    def version(self) -> int: ...

    def addresses(self, prefix: str) -> list[str]:
        """All addresses that start with `prefix`, sorted."""
        ...

    def endpoint(self, address: str) -> str | None: ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after each change."""
        ...

    def update(self, directory: Directory) -> None: ...


class Backend(Protocol):
    """How the coordinator gets processes. A spawned process joins the fabric by itself and asks the coordinator what
    to be."""

    def on_exit(self, callback: Callable[[str, int, str], None]) -> None:
        """Call back with (address, epoch, reason) when a spawned process has ended, for whatever reason."""
        ...

    async def spawn(self, address: str, role: str, epoch: int) -> None:
        """Start a process. Raises `WorkflowError` where none can be had."""
        ...

    async def kill(self, address: str) -> None:
        """End the process now, drained or not. `on_exit` follows."""
        ...


class Actor(Protocol):
    """What runs behind an address: handlers, and a life of start, drain and stop. Plain async classes that know
    nothing of Ray."""

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]: ...

    async def start(self) -> None:
        """Open what it needs. It is bound to its address only afterwards."""
        ...

    async def drain(self, budget_s: float) -> list[str]:
        """Take nothing new, finish what is in flight; ids of what was left when the budget was spent."""
        ...

    async def stop(self) -> None:
        """Give everything back."""
        ...


class Supervising(Actor, Protocol):
    """The coordinator, as the process that hosts it sees it."""

    def peer_lost(self, endpoint: str) -> None:
        """The fabric lost a connection to this endpoint."""
        ...


class ModelClient(Protocol):
    """One configured model. An agent replica holds one and makes many calls at once."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """One whole answer. Raises `ModelError` and its subclasses, `ValidationError` for requests it cannot
        express."""
        ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """The answer in pieces; the last has `finish_reason`. A stream that ends without one raises
        `ModelIncomplete`. Closing the generator closes the upstream call."""
        ...

    async def close(self) -> None: ...


class SessionStore(Protocol):
    """Where a session store actor keeps its shard. One writer: only that actor calls it. All methods may wait for disk;
    writes return when they are durable. They raise `NotFound`, `Conflict`, `StorageError`, `StorageFull`."""

    async def open(self) -> None: ...

    async def append(self, request: AppendTurns, now_us: int) -> Appended: ...

    async def create(self, request: CreateSession, now_us: int) -> SessionInfo: ...

    async def get(self, request: GetSession) -> SessionInfo: ...

    async def history(self, request: GetHistory) -> History: ...

    async def delete(self, request: DeleteSession) -> None: ...

    async def close(self) -> None: ...


class EventWriter(Protocol):
    """Where the event log actor writes. Its methods run in a thread, one at a time, and raise `StorageError`."""

    def write(self, events: list[Event]) -> None:
        """Returns when the events are readable by queries."""
        ...

    def tidy(self) -> None:
        """Housekeeping, called every minute or so: merge what is small, delete what was replaced."""
        ...

    def close(self) -> None: ...


class EventSink(Protocol):
    """Where an actor hands its events. Never blocks."""

    def emit(self, event: Event) -> None: ...
