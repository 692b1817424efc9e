"""What a database server must be able to do to keep a shard of sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from rayflow.messages import GetHistory, ListRecords, ListSessions, ReadRecords, RecordList, Records, SessionInfo, Turn
from rayflow.stores.servers.draft import Change, Found, Needs, Range
from rayflow.stores.servers.rows import Head, Key

SCHEMA_VERSION = 2


class Away(Exception):
    """The server does not answer, or not now: it is being started, restarted or replaced. Nobody knows whether what was
    under way has happened."""


class Place(NamedTuple):
    """Where the sessions of one shard lie: systems that share a server differ in `namespace`."""

    namespace: str
    shard: int
    shards: int

    def __str__(self) -> str:
        return f"{self.namespace}, shard {self.shard} of {self.shards}"


class Database(Protocol):
    """One shard on a server. `ServerStore` alone calls it. Every method may be called again after `Away`, and raises
    also `Fenced` where another owner has opened the shard, `StorageError` and `StorageFull`."""

    name: str
    """Of the product, for messages."""

    async def open(self) -> None:
        """Check what the server promises, bring its schema up to date and take the shard over."""
        ...

    async def load(self, needs: Needs) -> Found: ...

    async def ranges(self, wanted: Sequence[Range]) -> list[list[Turn]]:
        """The turns of each."""
        ...

    async def commit(self, change: Change, after: int, number: int) -> bool:
        """Write a change that follows batch number `after`, all or nothing, and call it batch `number`. Returns when
        it is durable; at once where batch `number` was committed already. False where another than batch `after` is
        the last: one that was given up for lost, and was not."""
        ...

    async def head(self, key: Key) -> Head | None: ...

    async def history(self, request: GetHistory) -> tuple[SessionInfo, list[Turn]] | None: ...

    async def page(self, request: ListSessions) -> list[SessionInfo]: ...

    async def tenants(self) -> list[str]: ...

    async def read_records(self, request: ReadRecords, now_us: int) -> Records: ...

    async def list_records(self, request: ListRecords) -> RecordList: ...

    async def close(self) -> None: ...
