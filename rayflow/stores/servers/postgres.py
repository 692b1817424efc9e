"""Sessions in PostgreSQL.

Every statement handles a whole batch: its parameters are arrays, which `unnest` turns into rows. All access is by key,
so connections are told to use the indexes even while the tables are too small for the planner to see the point; it
would not look again soon.

A shard has one row in `rayflow.shards` with the epoch of its owner and the number of its last batch. A commit begins by
counting that row on, which fails for whoever is not the owner any more, and makes a predecessor that still writes and
its successor wait for each other (as `sqlite_file` does for a file).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any

import asyncpg

from rayflow.errors import ConfigurationError, StorageError, StorageFull
from rayflow.messages import GetHistory, ListRecords, ListSessions, ReadRecords, RecordList, Records, SessionInfo, Turn
from rayflow.stores.repeat import Written
from rayflow.stores.servers.checks import check_owner, check_schema, other_shards
from rayflow.stores.servers.database import SCHEMA_VERSION, Away, Place
from rayflow.stores.servers.draft import Change, Found, Needs, Range
from rayflow.stores.servers.pool import LIMITS, Pool, PoolLimits
from rayflow.stores.servers.postgres_records import RecordTables
from rayflow.stores.servers.rows import Head, Key, Rows
from rayflow.stores.servers.statements import columns, named_statements

CONNECT_S = 5.0
ANSWER_S = 10.0
"""A server that leaves a statement unanswered for so long is taken for gone."""

UPGRADE_LOCK = 7_239_462_310
"""Shards that open at the same time upgrade one after the other: the number of an advisory lock."""

SETTINGS = {
    "application_name": "rayflow",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    # A frozen owner must not keep its successor waiting for the lock on the shard's row.
    "idle_in_transaction_session_timeout": "5s",
}

SQL = named_statements("postgres_queries.sql")

Connection = Any
"""An asyncpg connection; the package ships no types."""


class Postgres:
    """`dsn`: as libpq takes it. `limits`: of its connections. `allow_volatile`: accept a server that does not write to
    disk."""

    name = "PostgreSQL"

    def __init__(
        self,
        dsn: str,
        place: Place,
        rows: Rows,
        limits: PoolLimits = LIMITS,
        *,
        allow_volatile: bool = False,
    ) -> None:
        self._dsn = dsn
        self._place = place
        self._rows = rows
        self._allow_volatile = allow_volatile
        self.pool: Pool[Connection] = Pool(self._connect, _close, limits)
        self._shard = 0
        self._epoch = 0
        self._records = RecordTables(0, rows.payloads)

    async def open(self) -> None:
        async with self._connection() as db:
            if await db.fetchval("show fsync") == "off" and not self._allow_volatile:
                raise StorageError(
                    "PostgreSQL runs with fsync = off and may lose everything with the power: switch it on, or set"
                    " session.allow_volatile where sessions may be lost"
                )
            await self._upgrade(db)
            self._shard, self._epoch = await self._take_over(db)
            self._records = RecordTables(self._shard, self._rows.payloads)

    async def close(self) -> None:
        await self.pool.clear()

    async def load(self, needs: Needs) -> Found:
        async with self._connection() as db:
            found = Found(await self._last_batch(db))
            if needs.heads:
                self._add(found, await db.fetch(SQL["heads"], self._shard, *columns(needs.heads, 2)))
            if needs.users:
                self._add(found, await db.fetch(SQL["of_users"], self._shard, *columns(needs.users, 2)))
            for idle in needs.idle:
                found.idle[idle] = self._add(found, await db.fetch(SQL["idle"], self._shard, *idle))
            if needs.stale:
                found.stale = self._add(
                    found, await db.fetch(SQL["stale"], self._shard, self._rows.wrapper, needs.stale)
                )
            if needs.runs:
                runs = list(needs.runs)
                of = [(*run.key, run.run_id) for run in runs]
                for n, *turn in await db.fetch(SQL["runs"], self._shard, *columns(of, 3)):
                    found.runs.setdefault(runs[n - 1], []).append(Written(*turn))
            plain = (key for key in found.stale if not found.heads[key].key)
            logs = [found.heads[key] for key in {*needs.logs, *plain} if key in found.heads]
            for head, turns in zip(
                logs, await self._ranges(db, [Range(h, 0, h.info.turns) for h in logs]), strict=True
            ):
                found.logs[head.of] = turns
            if (records := found.record_needs(needs)) is not None:
                found.records = await self._records.load(db, records)
        return found

    async def ranges(self, wanted: Sequence[Range]) -> list[list[Turn]]:
        async with self._connection() as db:
            return await self._ranges(db, wanted)

    async def commit(self, change: Change, after: int, number: int) -> bool:
        shard = self._shard
        async with self._connection() as db, db.transaction():
            if await db.fetchval(SQL["next_batch"], shard, self._epoch, after, number) is None:
                return await self._last_batch(db) == number
            if change.dropped:
                await db.execute(SQL["drop"], shard, *columns(change.dropped, 2))
            if change.cut:
                cut = [(*key, keep) for key, keep in change.cut.items()]
                await db.execute(SQL["cut"], shard, *columns(cut, 3))
            if change.heads:
                heads = [_head_columns(head, row) for head, row in change.heads.values()]
                await db.execute(SQL["write_heads"], shard, *columns(heads, 8))
            turns = [_turn_columns(key, turn, row) for key, rows in change.turns.items() for turn, row in rows]
            if turns:
                await db.execute(SQL["write_turns"], shard, *columns(turns, 8))
            if change.records:
                await self._records.write(db, change.records)
        return True

    async def head(self, key: Key) -> Head | None:
        async with self._connection() as db:
            epoch, row = await db.fetchrow(SQL["head"], self._shard, *key)
        check_owner(self._place, self._epoch, epoch)
        return None if row is None else self._rows.head(key, row)

    async def history(self, request: GetHistory) -> tuple[SessionInfo, list[Turn]] | None:
        key = (request.tenant, request.session_id)
        async with self._connection() as db:
            epoch, row, turns = await db.fetchrow(
                SQL["history"], self._shard, *key, request.after, request.limit, request.tail
            )
        check_owner(self._place, self._epoch, epoch)
        if row is None:
            return None
        head = self._rows.head(key, row)
        return head.info, [self._rows.turn(head.log, turn) for turn in turns or ()]

    async def page(self, request: ListSessions) -> list[SessionInfo]:
        after = request.after
        async with self._connection() as db:
            await self._last_batch(db)
            rows = await db.fetch(
                SQL["list_of_user"] if request.user_id else SQL["list"],
                self._shard,
                request.tenant,
                2**63 - 1 if after is None else after.created_us,
                "" if after is None else after.session_id,
                request.limit,
                *([request.user_id] if request.user_id else []),
            )
        return [self._rows.head((request.tenant, session_id), row).info for session_id, row in rows]

    async def tenants(self) -> list[str]:
        async with self._connection() as db:
            await self._last_batch(db)
            return [tenant for (tenant,) in await db.fetch(SQL["tenants"], self._shard)]

    async def read_records(self, request: ReadRecords, now_us: int) -> Records:
        async with self._connection() as db:
            await self._last_batch(db)
            return await self._records.read(db, request, now_us)

    async def list_records(self, request: ListRecords) -> RecordList:
        async with self._connection() as db:
            await self._last_batch(db)
            return await self._records.list(db, request)

    # --- how ---

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        with _translated():
            async with self.pool.lease() as connection:
                yield connection

    async def _connect(self) -> Connection:
        try:
            connection = await asyncpg.connect(
                self._dsn, timeout=CONNECT_S, command_timeout=ANSWER_S, server_settings=SETTINGS
            )
        except ValueError as error:
            raise ConfigurationError(f"session.dsn: {error}", key="session.dsn") from None
        try:
            await connection.execute(SQL["durable"])
        except BaseException:
            await _close(connection, False)
            raise
        return connection

    async def _upgrade(self, db: Connection) -> None:
        if await _version(db) == SCHEMA_VERSION:
            return
        async with db.transaction():
            await db.execute("select pg_advisory_xact_lock($1)", UPGRADE_LOCK)
            for version in range(await _version(db) + 1, SCHEMA_VERSION + 1):
                await db.execute(files("rayflow.stores").joinpath("sql", f"postgres_{version}.sql").read_text())
                await db.execute("delete from rayflow.schema_version")
                await db.execute("insert into rayflow.schema_version values ($1)", version)

    async def _take_over(self, db: Connection) -> tuple[int, int]:
        namespace, shard, shards = self._place
        before = await db.fetchval(SQL["other_number"], namespace, shards)
        if before is not None:
            raise other_shards(self.name, self._place, before)
        number, epoch = await db.fetchrow(SQL["take_over"], namespace, shard, shards)
        return number, epoch

    async def _last_batch(self, db: Connection) -> int:
        epoch, batch = await db.fetchrow("select epoch, batch from rayflow.shards where id = $1", self._shard)
        check_owner(self._place, self._epoch, epoch)
        return int(batch)

    def _add(self, found: Found, rows: Sequence[Any]) -> list[Key]:
        keys = []
        for tenant, session_id, row in rows:
            key = (tenant, session_id)
            found.heads[key] = self._rows.head(key, row)
            keys.append(key)
        return keys

    async def _ranges(self, db: Connection, wanted: Sequence[Range]) -> list[list[Turn]]:
        if not wanted:
            return []
        rows = await db.fetch(SQL["ranges"], self._shard, *columns([(*r.head.of, r.after, r.upto) for r in wanted], 4))
        return [
            [self._rows.turn(one.head.log, turn) for turn in turns or ()]
            for one, (turns,) in zip(wanted, rows, strict=True)
        ]


async def _version(db: Connection) -> int:
    """Of the schema; 0 where there is none. Raises `StorageError` for a later one."""
    version = 0
    if await db.fetchval("select to_regclass('rayflow.schema_version')") is not None:
        version = await db.fetchval("select version from rayflow.schema_version") or 0
    check_schema(Postgres.name, version)
    return version


async def _close(connection: Connection, fit: bool) -> None:
    if fit and not connection.is_closed():
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=1)
    connection.terminate()


@contextmanager
def _translated() -> Iterator[None]:
    """What asyncpg raises, as what a `Database` may raise."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, EOFError) as error:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, asyncpg.DiskFullError):
            raise StorageFull("no space left for PostgreSQL: free some space; nothing was lost") from error
        if isinstance(error, asyncpg.PostgresError) and not isinstance(error, _PASSING):
            raise StorageError(f"PostgreSQL refused: {said}") from error
        if isinstance(error, ValueError):
            raise StorageError(f"PostgreSQL cannot store this: {said}") from error
        raise Away(said) from error


_PASSING = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,  # of a replica that was not promoted yet
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""What a server says while it goes, comes or changes its role."""


def _head_columns(head: Head, row: bytes) -> tuple[Any, ...]:
    info = head.info
    return (
        info.tenant, info.session_id, info.user_id, info.created_us, info.updated_us, info.turns, head.wrapper, row
    )  # fmt: skip


def _turn_columns(key: Key, turn: Turn, row: bytes) -> tuple[Any, ...]:
    return (*key, turn.seq, turn.run_id, turn.message.role, turn.partial, turn.digest, row)
