"""Sessions in Redis.

A session is three keys: its head (a string), its turns (a list, which only ever grows at its end) and its runs (a hash,
for recognising repetitions). Sorted sets find sessions by age, use, tenant, user and data key. All keys of a shard
carry one hash tag, so they lie on one node of a cluster and change in one transaction.

A shard has an owner key with the epoch of its owner and the number of its last batch. A commit watches it: `EXEC`
fails for whoever is not the owner any more. Redis answers before it has written anything to disk unless it is told
otherwise, so how it is configured is looked at before a session is trusted to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
    WatchError,
)

from rayflow.errors import ConfigurationError, StorageError, StorageFull
from rayflow.messages import GetHistory, ListRecords, ListSessions, ReadRecords, RecordList, Records, SessionInfo, Turn
from rayflow.stores.repeat import Written
from rayflow.stores.servers.checks import check_owner, check_schema, other_shards
from rayflow.stores.servers.database import SCHEMA_VERSION, Away, Place
from rayflow.stores.servers.draft import Change, Found, HeadRow, Needs, Range
from rayflow.stores.servers.pool import LIMITS, Pool, PoolLimits
from rayflow.stores.servers.redis_keys import Keys, RecordKeys
from rayflow.stores.servers.redis_records import RecordHashes
from rayflow.stores.servers.rows import Head, Key, Rows

CONNECT_S = 5.0
ANSWER_S = 10.0
"""A server that leaves a command unanswered for so long is taken for gone."""

WRITE_POLL_S = 0.002

Client = Any
Pipeline = Any
"""As redis-py declares them every answer may be text or bytes; without `decode_responses` all are bytes."""

_encode = msgspec.msgpack.Encoder().encode
_decode_run = msgspec.msgpack.Decoder(list[Written]).decode


class Redis:
    """`url`: as redis-py takes it. `limits`: of its connections. `allow_volatile`: accept a server that may forget."""

    name = "Redis"

    def __init__(
        self,
        url: str,
        place: Place,
        rows: Rows,
        limits: PoolLimits = LIMITS,
        *,
        allow_volatile: bool = False,
    ) -> None:
        self._url = url
        self._place = place
        self._rows = rows
        self._keys = Keys(place)
        self._records = RecordHashes(self._keys, rows.payloads)
        self._allow_volatile = allow_volatile
        self._epoch = 0
        self._fsync = ""
        self.pool: Pool[Client] = Pool(self._connect, _close, limits)

    async def open(self) -> None:
        async with self._client() as client:
            await self._check_schema(client)
            await self._check_shards(client)
            self._epoch = int(await client.hincrby(self._keys.owner, "epoch", 1))

    async def close(self) -> None:
        await self.pool.clear()

    async def load(self, needs: Needs) -> Found:
        async with self._client() as client:
            users = list(needs.users)
            idle = list(needs.idle)
            runs = list(needs.runs)
            asked = client.pipeline(transaction=False)
            asked.hmget(self._keys.owner, "epoch", "batch")
            for user in users:
                asked.zrange(self._keys.user(*user), 0, -1)
            for one in idle:
                asked.zrange(self._keys.use, "-inf", f"({one.unused_us}", byscore=True, offset=0, num=one.limit)
                asked.zrange(self._keys.birth, "-inf", f"({one.born_us}", byscore=True, offset=0, num=one.limit)
            for run in runs:
                asked.hget(self._keys.runs(run.key), run.run_id)
            if needs.stale:
                present = self._keys.wrapped_by(self._rows.wrapper)
                asked.zrangebylex(self._keys.wrappers, "-", b"(" + present, 0, needs.stale)
                asked.zrangebylex(self._keys.wrappers, b"[" + present + b"\xff", "+", 0, needs.stale)
            answers = iter(await asked.execute())
            found = Found(self._owned(next(answers)))
            wanted = set(needs.heads)
            for (tenant, _), ids in zip(users, answers, strict=False):
                wanted |= {(tenant, session_id.decode()) for session_id in ids}
            for one in idle:
                either = dict.fromkeys(map(self._keys.parse, [*next(answers), *next(answers)]))
                found.idle[one] = list(either)[: one.limit]
            for run in runs:
                row = next(answers)
                found.runs[run] = [] if row is None else _decode_run(row)
            if needs.stale:
                stale = [self._keys.parse_wrapped(member) for member in [*next(answers), *next(answers)]]
                found.stale = stale[: needs.stale]
            wanted.update(found.stale, *found.idle.values())
            found.heads = await self._heads(client, wanted)
            plain = (key for key in found.stale if key in found.heads and not found.heads[key].key)
            logs = [found.heads[key] for key in {*needs.logs, *plain} if key in found.heads]
            turns = await self._ranges(client, [Range(head, 0, head.info.turns) for head in logs])
            found.logs = {head.of: read for head, read in zip(logs, turns, strict=True)}
            if (records := found.record_needs(needs)) is not None:
                found.records = await self._records.load(client, records)
        return found

    async def ranges(self, wanted: Sequence[Range]) -> list[list[Turn]]:
        async with self._client() as client:
            return await self._ranges(client, wanted)

    async def commit(self, change: Change, after: int, number: int) -> bool:
        async with self._client() as client, client.pipeline(transaction=True) as commit:
            await commit.watch(self._keys.owner)
            last = self._owned(await commit.hmget(self._keys.owner, ["epoch", "batch"]))
            if last != after:
                await self._written(client)
                return last == number
            commit.multi()
            self._write(commit, change)
            self._records.write(commit, change.records)
            commit.hset(self._keys.owner, "batch", number)
            await commit.execute()
            await self._written(client)
        return True

    async def head(self, key: Key) -> Head | None:
        (row,) = await self._together(("GET", self._keys.head(key)))
        return None if row is None else self._rows.head(key, row)

    async def history(self, request: GetHistory) -> tuple[SessionInfo, list[Turn]] | None:
        key = (request.tenant, request.session_id)
        first, last = (-request.limit, -1) if request.tail else (request.after, request.after + request.limit - 1)
        row, page = await self._together(("GET", self._keys.head(key)), ("LRANGE", self._keys.turns(key), first, last))
        if row is None:
            return None
        head = self._rows.head(key, row)
        return head.info, [
            turn for turn in (self._rows.turn(head.log, row) for row in page) if turn.seq > request.after
        ]

    async def page(self, request: ListSessions) -> list[SessionInfo]:
        of, after = request.tenant, request.after
        index = self._keys.user(of, request.user_id) if request.user_id else self._keys.tenant(of)
        async with self._client() as client:
            ids: list[str] = []
            since = "+inf"
            if after is not None:
                # Those of the same age stand in the order of their bytes, and some of them were listed before.
                same = await client.zrange(index, after.created_us, after.created_us, byscore=True)
                ids = sorted((i.decode() for i in same if i < after.session_id.encode()), reverse=True)
                since = f"({after.created_us}"
            more = await client.zrange(index, since, "-inf", byscore=True, desc=True, offset=0, num=request.limit)
            ids = [*ids, *(session_id.decode() for session_id in more)][: request.limit]
            self._owned(await client.hmget(self._keys.owner, ["epoch", "batch"]))
            heads = await self._heads(client, [(of, session_id) for session_id in ids])
        return [heads[of, session_id].info for session_id in ids if (of, session_id) in heads]

    async def tenants(self) -> list[str]:
        async with self._client() as client:
            self._owned(await client.hmget(self._keys.owner, ["epoch", "batch"]))
            counts = await client.hgetall(self._keys.tenants)
        return sorted(tenant.decode() for tenant, count in counts.items() if int(count) > 0)

    async def read_records(self, request: ReadRecords, now_us: int) -> Records:
        async with self._client() as client:
            self._owned(await client.hmget(self._keys.owner, ["epoch", "batch"]))
            return await self._records.read(client, request, now_us)

    async def list_records(self, request: ListRecords) -> RecordList:
        async with self._client() as client:
            self._owned(await client.hmget(self._keys.owner, ["epoch", "batch"]))
            return await self._records.list(client, request)

    # --- how ---

    def _write(self, commit: Pipeline, change: Change) -> None:
        keys = self._keys
        for key, head in change.dropped.items():
            commit.delete(keys.head(key), keys.turns(key), keys.runs(key))
            self._unlist(commit, head)
        for key, keep in change.cut.items():
            if keep:
                commit.ltrim(keys.turns(key), 0, keep - 1)
            else:
                commit.delete(keys.turns(key))
        for key, row in change.heads.items():
            commit.set(keys.head(key), row.row)
            self._relist(commit, row, change.before.get(key))
        for key, turns in change.turns.items():
            commit.rpush(keys.turns(key), *(row for _, row in turns))
        for run, written in change.runs.items():
            if written:
                commit.hset(keys.runs(run.key), run.run_id, _encode(written))
            else:
                commit.hdel(keys.runs(run.key), run.run_id)

    def _relist(self, commit: Pipeline, row: HeadRow, before: Head | None) -> None:
        keys, head, info = self._keys, row.head, row.head.info
        commit.zadd(keys.use, {keys.member(head.of): info.updated_us})
        if before is None:
            commit.zadd(keys.birth, {keys.member(head.of): info.created_us})
            commit.zadd(keys.tenant(info.tenant), {info.session_id: info.created_us})
            commit.zadd(keys.user(info.tenant, info.user_id), {info.session_id: info.created_us})
            commit.hincrby(keys.tenants, info.tenant, 1)
        elif before.wrapper != head.wrapper:
            commit.zrem(keys.wrappers, keys.wrapped(before))
        if before is None or before.wrapper != head.wrapper:
            commit.zadd(keys.wrappers, {keys.wrapped(head): 0})

    def _unlist(self, commit: Pipeline, head: Head) -> None:
        keys, info = self._keys, head.info
        for index in (keys.use, keys.birth):
            commit.zrem(index, keys.member(head.of))
        for index in (keys.tenant(info.tenant), keys.user(info.tenant, info.user_id)):
            commit.zrem(index, info.session_id)
        commit.zrem(keys.wrappers, keys.wrapped(head))
        commit.hincrby(keys.tenants, info.tenant, -1)

    async def _written(self, client: Client) -> None:
        """Wait until the append-only file holds all that was done so far. With `appendfsync everysec` Redis answers
        while the file may still be up to two seconds behind, namely while an earlier part of it is forced to disk; what
        is in the file survives the death of Redis."""
        if self._fsync in ("always", "off"):
            return
        for _ in range(round(ANSWER_S / WRITE_POLL_S)):
            if not (await client.info("persistence")).get("aof_buffer_length"):
                return
            await asyncio.sleep(WRITE_POLL_S)
        raise ConnectionError("it does not write its append-only file")

    async def _together(self, *commands: tuple[str | int, ...]) -> list[Any]:
        """The answers of commands between which no batch was committed. A transaction would give the same, but not
        where Redis is full: then it refuses transactions, and reads are still fine."""
        while True:
            async with self._client() as client:
                asked = client.pipeline(transaction=False)
                asked.hmget(self._keys.owner, "epoch", "batch")
                for command in commands:
                    asked.execute_command(*command)
                asked.hmget(self._keys.owner, "epoch", "batch")
                answers: list[Any] = await asked.execute()
            if self._owned(answers[0]) == self._owned(answers[-1]):
                return answers[1:-1]

    async def _heads(self, client: Client, wanted: Iterable[Key]) -> dict[Key, Head]:
        wanted = list(wanted)
        rows = await client.mget([self._keys.head(key) for key in wanted]) if wanted else []
        return {key: self._rows.head(key, row) for key, row in zip(wanted, rows, strict=True) if row is not None}

    async def _ranges(self, client: Client, wanted: Sequence[Range]) -> list[list[Turn]]:
        if not wanted:
            return []
        asked = client.pipeline(transaction=False)
        for one in wanted:
            asked.lrange(self._keys.turns(one.head.of), one.after, one.upto - 1)
        pages = await asked.execute()
        return [[self._rows.turn(one.head.log, row) for row in page] for one, page in zip(wanted, pages, strict=True)]

    def _owned(self, owner: Sequence[bytes | None]) -> int:
        """The number of the last batch, for the owner."""
        epoch, batch = (int(value or 0) for value in owner)
        if epoch == 0:
            raise StorageError(
                f"the sessions of {self._place} are not in Redis any more: it was emptied, or restarted without its"
                " append-only file; restore that, or restart rayflow to begin anew"
            )
        check_owner(self._place, self._epoch, epoch)
        return batch

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        with _translated():
            async with self.pool.lease() as client:
                yield client

    async def _connect(self) -> Client:
        try:
            client = redis.asyncio.Redis.from_url(
                self._url,
                single_connection_client=True,
                socket_connect_timeout=CONNECT_S,
                socket_timeout=ANSWER_S,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
        except ValueError as error:
            raise ConfigurationError(f"session.dsn: {error}", key="session.dsn") from None
        try:
            await client.initialize()
            await self._check_durable(client)
        except BaseException:
            await _close(client, False)
            raise
        return client

    async def _check_durable(self, client: Client) -> None:
        """At each connection, because a restart may have changed it."""
        persistence, memory = await client.info("persistence"), await client.info("memory")
        if persistence["loading"]:
            raise BusyLoadingError("Redis is loading its data")  # and tells nothing true of its file meanwhile
        wrong, self._fsync = None, await _fsync(client) if persistence["aof_enabled"] else "off"
        if not persistence["aof_enabled"]:
            wrong = "keeps no append-only file and forgets all sessions when it ends: set appendonly yes"
        elif self._fsync == "no":
            wrong = "leaves its append-only file to the kernel: set appendfsync everysec or always"
        elif memory.get("maxmemory") and str(memory.get("maxmemory_policy", "")).startswith("allkeys"):
            wrong = f"drops sessions when it is full ({memory['maxmemory_policy']}): set maxmemory-policy noeviction"
        if wrong and not self._allow_volatile:
            raise StorageError(f"Redis {wrong}, or set session.allow_volatile where sessions may be lost")

    async def _check_schema(self, client: Client) -> None:
        version = int(await client.get(Keys.schema) or 0)
        check_schema(self.name, version)
        if version < SCHEMA_VERSION:
            await client.set(Keys.schema, SCHEMA_VERSION)

    async def _check_shards(self, client: Client) -> None:
        namespace, _, shards = self._place
        key = Keys.shards(namespace)
        before = int(await client.get(key) or shards)
        others = [Keys(Place(namespace, shard, before)) for shard in range(before)] if before != shards else []
        for other in others:
            if await client.exists(other.birth, RecordKeys(other).owners):
                raise other_shards(self.name, self._place, before)
        await client.set(key, shards)


async def _fsync(client: Client) -> str:
    """When the append-only file is forced to disk; empty where the server does not tell."""
    try:
        return str((await client.config_get("appendfsync")).get("appendfsync", ""))
    except ResponseError:
        return ""


async def _close(client: Client, fit: bool) -> None:
    with contextlib.suppress(RedisError, OSError):
        await client.aclose()


@contextmanager
def _translated() -> Iterator[None]:
    """What redis-py raises, as what a `Database` may raise."""
    try:
        yield
    except (RedisError, OSError) as error:
        said = str(error) or type(error).__name__
        if isinstance(error, OutOfMemoryError) or "No space left" in said:
            raise StorageFull(f"no space left for Redis ({said}): give it some; nothing was lost") from error
        if isinstance(error, _PASSING) and not isinstance(error, AuthenticationError):
            raise Away(said) from error
        raise StorageError(f"Redis refused: {said}") from error


_PASSING = (ConnectionError, TimeoutError, OSError, ReadOnlyError, ClusterDownError, TryAgainError, WatchError)
"""What a server says while it goes, comes or changes its role. Watching ends with the connection and with a change of
the owner's key; the next try finds out which."""
