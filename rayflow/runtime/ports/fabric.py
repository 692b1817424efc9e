"""Messages and streams between addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from rayflow.messages import Directory, Endpoint, LinkStats, Payload

Handler = Callable[[Any], Awaitable[Payload] | Payload | None]
"""Takes one message. What it returns (or awaits) is the reply of an ask; None is right for messages that are told.
A plain function runs at once, on the loop, in order; a coroutine function runs as a task."""


class Outlet(Protocol):
    """The writing end of a stream. The reader's credit bounds what may be under way; a reader that stops stops the
    writer."""

    @property
    def ready(self) -> bool:
        """Whether an item would leave now."""
        ...

    @property
    def lost(self) -> bool:
        """Whether the reader is gone: its process was lost, it refused the stream, or it closed it."""
        ...

    def offer(self, item: Payload) -> bool:
        """Send now if there is credit. False, and nothing sent, while the reader is behind, and when it is gone."""
        ...

    async def send(self, item: Payload) -> None:
        """Send as soon as there is credit. Raises `PeerLost`, `UnknownAddress` or what else the reader refused with,
        `Cancelled` where it closed, and `DeadlineExceeded` past the deadline under which the stream was opened."""
        ...

    async def room(self) -> None:
        """Wait until `ready` or `lost`."""
        ...

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call back once when the reader is gone; at once where it is already."""
        ...

    def close(self) -> None:
        """The end of the stream: the reader sees it after the last item. Closing twice is fine."""
        ...


class Inlet(Protocol):
    """The reading end of a stream: an asynchronous iterator over its items, for one reader.

    Whoever takes an item gives the writer credit for another. After the last item that arrived, reading ends, or raises
    `PeerLost` where the writer's process was lost.
    """

    def __aiter__(self) -> AsyncIterator[Any]: ...

    async def __anext__(self) -> Any: ...

    @property
    def ended(self) -> bool:
        """Whether the writer has closed the stream and every item was taken."""
        ...

    def take(self) -> list[Any]:
        """What has arrived, without waiting; empty where nothing has. Raises where iterating would."""
        ...

    def on_readable(self, callback: Callable[[], None]) -> None:
        """Call back, on the loop, whenever there is again something for `take`: the first item after an empty `take`,
        the end, or the loss. For a reader too busy to wake a task per item."""
        ...

    def close(self) -> None:
        """Read no more: the writer learns it at once."""
        ...


StreamHandler = Callable[[Any, Inlet], None]
"""Takes the opening of a stream and its reading end. It runs at once, on the loop; what it raises refuses the
stream."""


class Fabric(Protocol):
    """Messages between logical addresses such as `router/0` or `agent/technical/2`. Any actor may call all of it."""

    endpoint: str
    """Where this process listens, for other processes."""

    @property
    def directory(self) -> DirectoryView: ...

    def bind(
        self,
        address: str,
        handlers: Mapping[type[Payload], Handler],
        streams: Mapping[type[Payload], StreamHandler] | None = None,
        *,
        epoch: int = 0,
    ) -> None:
        """Receive messages for `address` in this process, and the streams that open with one of `streams`.

        A message for another incarnation than `epoch` is refused; 0 takes all.
        """
        ...

    def unbind(self, address: str) -> None: ...

    def tell(self, to: str, message: Payload) -> None:
        """Send and forget. Never blocks and never raises for a missing peer: what cannot be delivered is dropped."""
        ...

    async def ask(self, to: str, message: Payload, timeout_s: float) -> Any:
        """Send and wait for the reply. Raises what the handler raised, `UnknownAddress`, `PeerLost` as soon as the
        connection breaks, or `DeadlineExceeded`. Cancelling the caller cancels the handler at the other end."""
        ...

    def stream(self, to: str, opening: Payload) -> Outlet:
        """Open a stream of items to `to`. Returns at once and never raises for a missing peer: then the outlet is
        lost. Close it at the end."""
        ...

    def links(self) -> list[LinkStats]:
        """The connections of this process to others."""
        ...


class DirectoryView(Protocol):
    """The local copy of who is where. It may lag behind by a moment; `ask` tells the truth."""

    @property
    def version(self) -> int: ...

    def addresses(self, prefix: str) -> list[str]:
        """All addresses that start with `prefix`, sorted."""
        ...

    def endpoint(self, address: str) -> str | None: ...

    def entry(self, address: str) -> Endpoint | None: ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after each change."""
        ...

    def update(self, directory: Directory) -> None: ...
