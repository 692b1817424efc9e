"""What the runtime needs from the world, as protocols.

Rooms further out implement them (models, stores, cluster, analytics) without importing this file; the composition root
puts the two together, and the type checker sees to it that they fit.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from rayflow.caching import Counts
from rayflow.chat import ModelChunk, ModelReply, ModelRequest
from rayflow.events import Event
from rayflow.messages import (
    Appended,
    AppendTurns,
    Balance,
    Booking,
    CloseSession,
    CreateSession,
    DeleteSession,
    Directory,
    Erased,
    ErasedRecords,
    EraseRecords,
    EraseUser,
    ForkSession,
    GetHistory,
    GetSession,
    History,
    ImportRecords,
    ImportSession,
    LinkStats,
    ListRecords,
    ListSessions,
    Payload,
    ReadRecords,
    RecordList,
    Records,
    Reservation,
    RollBackRun,
    RunRequest,
    SessionInfo,
    SessionList,
    UpdateSession,
    WriteRecords,
    Written,
)
from rayflow.policies.similarity import Vector

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

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after each change."""
        ...

    def update(self, directory: Directory) -> None: ...


class Backend(Protocol):
    """How the coordinator gets processes. A spawned process joins the fabric by itself and asks the coordinator what
    to be."""

    def on_exit(self, callback: Callable[[str, int, str], None]) -> None:
        """Call back with (address, epoch, reason) when a spawned process has ended, for whatever reason; `ENDED` when
        it was asked to."""
        ...

    async def spawn(self, address: str, role: str, epoch: int) -> None:
        """Start a process. Raises `WorkflowError` where none can be had."""
        ...

    async def adopt(self, address: str, epoch: int, node: str) -> bool:
        """Watch a process that an earlier coordinator spawned. False where there is none."""
        ...

    async def kill(self, address: str, epoch: int) -> None:
        """End the process now, drained or not. `on_exit` follows where there was one."""
        ...


ENDED = "ended"
"""The reason of an exit that was asked for."""


class Record(Protocol):
    """Where the coordinator keeps what it knows, so that the next one can go on: a map from names to bytes. Only the
    coordinator calls it, from its loop, a few times a second at most: its methods may touch a file but must not wait
    for the disk. They raise `StorageError`."""

    def load(self) -> dict[str, bytes]:
        """All of it. Empty for the first coordinator of a run."""
        ...

    def write(self, changed: Mapping[str, bytes], gone: Iterable[str]) -> None:
        """Set and remove names, all or nothing. What it returned from survives the death of this process."""
        ...

    def close(self) -> None: ...


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


class Embedder(Protocol):
    """Texts as vectors. `name` is that of the model: vectors of different models do not compare."""

    name: str

    @property
    def counts(self) -> Counts:
        """How its cache fared."""
        ...

    def __len__(self) -> int:
        """Vectors in the cache."""
        ...

    async def embed(self, texts: Sequence[str], tenant: str = "") -> Sequence[Vector]:
        """A vector of unit length for each text, in order; compare two with `policies.similarity.similarity`. Any
        number of texts: they go out in batches. `tenant`: whose texts they are; what is known is known for that one
        only. It computes off the loop, may take as long as the model's timeouts allow, and goes on where the caller is
        cancelled. Raises `ModelError` and its subclasses."""
        ...

    async def close(self) -> None: ...


class ContextSource(Protocol):
    """Where more of what a model should know comes from: a knowledge base, a user's profile. A router asks it for every
    run, and waits for two seconds at most. `name` stands in `rayflow context show`."""

    name: str

    async def text(self, request: RunRequest) -> str:
        """What the model should know for this run; "" for nothing. Raises `WorkflowError`, `OSError`."""
        ...


class SessionStore(Protocol):
    """Where a session store actor keeps its shard. One writer: only that actor calls it. All methods may wait for disk;
    writes return when they are durable. They raise `NotFound`, `Conflict`, `ValidationError`, `StorageError`,
    `StorageFull`, `Fenced`. What a request means is said where it is defined (`messages.sessions`)."""

    async def open(self) -> None: ...

    async def append(self, request: AppendTurns, now_us: int) -> Appended: ...

    async def create(self, request: CreateSession, now_us: int) -> SessionInfo: ...

    async def get(self, request: GetSession) -> SessionInfo: ...

    async def history(self, request: GetHistory) -> History: ...

    async def list(self, request: ListSessions) -> SessionList: ...

    async def tenants(self) -> Sequence[str]:
        """Who has sessions here, sorted."""
        ...

    async def update(self, request: UpdateSession, now_us: int) -> SessionInfo: ...

    async def fork(self, request: ForkSession, now_us: int) -> SessionInfo: ...

    async def close_session(self, request: CloseSession, now_us: int) -> SessionInfo: ...

    async def roll_back(self, request: RollBackRun, now_us: int) -> SessionInfo: ...

    async def delete(self, request: DeleteSession) -> None: ...

    async def erase(self, request: EraseUser) -> Erased: ...

    async def expire(self, now_us: int, timeout_s: float, max_s: float, limit: int = 1000) -> int:
        """Delete sessions in which nothing has happened for `timeout_s` (`updated_us`), and those that began more than
        `max_s` ago; 0 for never. Returns how many, at most `limit`, because others wait meanwhile: call again while it
        is that many."""
        ...

    async def import_session(self, request: ImportSession) -> SessionInfo: ...

    async def rekey(self, limit: int = 100) -> int:
        """Wrap the data keys of at most `limit` sessions anew, where another than the present key wraps them, and
        encrypt the sessions that are not. Returns how many; 0 when nothing is left, and without encryption."""
        ...

    async def close(self) -> None: ...


class RecordStore(Protocol):
    """Where a session store actor keeps the records of its shard (`messages.records`). As `SessionStore` in everything
    else. What deletes a session deletes the records of `session/<id>` in the same transaction, and `erase` those of
    `user/<id>`."""

    async def read_records(self, request: ReadRecords, now_us: int) -> Records: ...

    async def write_records(self, request: WriteRecords, now_us: int) -> Written: ...

    async def erase_records(self, request: EraseRecords) -> ErasedRecords: ...

    async def list_records(self, request: ListRecords) -> RecordList:
        """Expired ones too, where they are not yet deleted."""
        ...

    async def import_records(self, request: ImportRecords) -> None: ...

    async def expire_records(self, now_us: int, limit: int = 1000) -> int:
        """Delete records that have expired. Returns how many it dealt with, at most `limit`: call again while it is
        that many."""
        ...

    async def rekey_records(self, limit: int = 100) -> int:
        """As `SessionStore.rekey`, of owners with all their records."""
        ...


class ShardStore(SessionStore, RecordStore, Protocol):
    """All that a session store actor keeps."""


class Books(Protocol):
    """Where the accounts actor keeps balances and open reservations. One writer: only that actor calls it. All methods
    may wait for disk, and take effect in the order of their calls; a write returns when it is durable. They raise
    `StorageError`, `StorageFull`, `Fenced`."""

    async def open(self) -> None: ...

    async def reservations(self) -> list[Reservation]:
        """Those of runs that were not settled."""
        ...

    async def balances(self, names: Sequence[str]) -> list[Balance]:
        """Of these accounts, where there are any."""
        ...

    async def write(self, booking: Booking) -> None: ...

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
