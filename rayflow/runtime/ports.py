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


class ModelClient(Protocol):
    """One configured model. An agent replica holds one and makes many calls at once."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """One whole answer. Raises `ModelError` and its subclasses, `ValidationError` for requests it cannot express."""
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
    """Where the event log actor writes. `write` runs in a thread and returns when the events are readable."""

    def write(self, events: list[Event]) -> None: ...

    def close(self) -> None: ...


class EventSink(Protocol):
    """Where an actor hands its events. Never blocks."""

    def emit(self, event: Event) -> None: ...
