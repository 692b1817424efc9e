"""What a session store on a database server promises beyond the contract: one owner, outages, nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from support.servers import PostgresServer, RedisServer, Server
from support.sessions import NOW_US, append, history, texts, user

from rayflow.errors import ConfigurationError, Fenced, StorageError, StorageFull, Unavailable
from rayflow.messages import (
    AppendTurns,
    CreateSession,
    DeleteSession,
    GetSession,
    ListRecords,
    ListSessions,
    ReadRecords,
    RecordWrite,
    WriteRecords,
)
from rayflow.messages.records import TENANT, of_session
from rayflow.stores.payloads import PLAIN
from rayflow.stores.servers.database import SCHEMA_VERSION, Away, Database, Place
from rayflow.stores.servers.draft import Change
from rayflow.stores.servers.pool import LIMITS, PoolLimits
from rayflow.stores.servers.rows import Rows
from rayflow.stores.servers.store import ServerStore

ROWS = Rows(PLAIN)


@dataclass
class Kind:
    """One kind of server, running."""

    name: str
    server: Server

    def database(self, place: Place, limits: PoolLimits = LIMITS, **more: Any) -> Database:
        if self.name == "postgres":
            from rayflow.stores.servers.postgres import Postgres

            return Postgres(self.server.dsn, place, ROWS, limits, **more)
        from rayflow.stores.servers.redis import Redis

        return Redis(self.server.dsn, place, ROWS, limits, **more)


@pytest.fixture(scope="module", params=["postgres", "redis"])
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """A server of this module's own, because its tests end it."""
    server = PostgresServer() if request.param == "postgres" else RedisServer()
    with server:
        yield Kind(request.param, server)


@pytest.fixture
def place() -> Place:
    return Place(uuid4().hex, 0, 1)


@asynccontextmanager
async def opened(database: Database, patience_s: float = 10.0) -> AsyncIterator[ServerStore]:
    store = ServerStore(database, ROWS, patience_s)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_whoever_opens_a_shard_next_fences_its_owner(kind: Kind, place: Place) -> None:
    async with opened(kind.database(place)) as zombie:
        await append(zombie, user("1"))
        async with opened(kind.database(place)) as owner:
            requests: list[Callable[[], Any]] = [
                lambda: append(zombie, user("lost")),
                lambda: append(zombie, user("lost"), session="other"),
                lambda: zombie.get(GetSession("t", "s")),
                lambda: history(zombie),
                lambda: zombie.list(ListSessions("t")),
                lambda: zombie.delete(DeleteSession("t", "s")),
                lambda: zombie.write_records(WriteRecords("t", TENANT, [RecordWrite("k", "a", b"lost")]), NOW_US),
                lambda: zombie.read_records(ReadRecords("t", TENANT, "k"), NOW_US),
                lambda: zombie.list_records(ListRecords()),
            ]
            for request in requests:
                with pytest.raises(Fenced) as caught:
                    await request()
                assert caught.value.retry_after_s == 1
            await append(owner, user("2"))
            assert await texts(owner) == ["1", "2"]
            assert (await owner.list_records(ListRecords())).records == []


async def test_records_share_a_commit_with_turns(kind: Kind, place: Place) -> None:
    async with opened(kind.database(place)) as store:
        await asyncio.gather(
            *(append(store, user("x"), session=f"s{n}") for n in range(100)),
            *(
                store.write_records(WriteRecords("t", of_session(f"s{n}"), [RecordWrite("k", "a", b"x")]), NOW_US)
                for n in range(100)
            ),
        )
        assert store.commits < 20
        assert len((await store.list_records(ListRecords(limit=1000))).records) == 100


async def test_another_number_of_shards_is_refused_also_where_there_are_records_only(kind: Kind, place: Place) -> None:
    async with opened(kind.database(place)) as store:
        await store.write_records(WriteRecords("t", TENANT, [RecordWrite("k", "a", b"x")]), NOW_US)
    with pytest.raises(ConfigurationError, match="were written with 1: set it back"):
        async with opened(kind.database(Place(place.namespace, 0, 2))):
            pass


async def test_owners_of_other_shards_and_systems_are_left_alone(kind: Kind, place: Place) -> None:
    others = [Place(place.namespace, 1, 2), Place(place.namespace + "x", 0, 2)]
    async with opened(kind.database(Place(place.namespace, 0, 2))) as first:
        await append(first, user("mine"))
        for other in others:
            async with opened(kind.database(other)) as store:
                await append(store, user("theirs"))
        assert await texts(first) == ["mine"]


async def test_many_appends_share_a_commit(kind: Kind, place: Place) -> None:
    async with opened(kind.database(place)) as store:
        await asyncio.gather(*(append(store, user("x"), session=f"s{n}") for n in range(300)))
        assert store.commits < 30


async def test_requests_wait_for_a_server_that_is_restarted(kind: Kind, place: Place) -> None:
    async with opened(kind.database(place), patience_s=60) as store:
        await append(store, user("before"))
        await asyncio.gather(*(history(store) for _ in range(10)))  # opens connections that are then dead
        kind.server.crash()
        waiting = [asyncio.create_task(append(store, user(str(i)), session=f"w{i}")) for i in range(5)]
        waiting += [asyncio.create_task(history(store))]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in waiting)
        await asyncio.to_thread(kind.server.start)
        await asyncio.gather(*waiting)
        assert await texts(store) == ["before"]
        assert [await texts(store, session=f"w{i}") for i in range(5)] == [[str(i)] for i in range(5)]


async def test_an_outage_beyond_patience_is_unavailable_and_ends_with_the_server(kind: Kind, place: Place) -> None:
    async with opened(kind.database(place), patience_s=0.1) as store:
        await append(store, user("before"))
        kind.server.crash()
        try:
            for request in (lambda: append(store, user("x")), lambda: history(store)):
                with pytest.raises(Unavailable) as caught:
                    await request()
                assert caught.value.retry_after_s == 1
        finally:
            await asyncio.to_thread(kind.server.start)
        assert (await append(store, user("after"))).last_seq == 2
        assert await texts(store) == ["before", "after"]


async def test_a_frozen_server_is_as_good_as_gone(kind: Kind, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"rayflow.stores.servers.{kind.name}.ANSWER_S", 0.2)
    monkeypatch.setattr(f"rayflow.stores.servers.{kind.name}.CONNECT_S", 0.2)
    async with opened(kind.database(place), patience_s=0.1) as store:
        await append(store, user("before"))
        kind.server.freeze()
        try:
            with pytest.raises(Unavailable):
                await append(store, user("x"), run_id="r")
        finally:
            kind.server.thaw()
        await append(store, user("x"), run_id="r")
        assert await texts(store) == ["before", "x"]


async def test_restarts_under_load_lose_and_repeat_nothing(kind: Kind, place: Place) -> None:
    """Each writer appends its next turn when the last one is acknowledged, and again what it has not heard of."""
    acknowledged: dict[str, list[str]] = {f"s{n}": [] for n in range(16)}
    done = asyncio.Event()

    async def write(store: ServerStore, session: str) -> None:
        number = 0
        while not done.is_set():
            number += 1
            request = AppendTurns("t", session, [user(str(number))], run_id=f"r{number}")
            while True:
                try:
                    appended = await store.append(request, NOW_US)
                except Unavailable:
                    await asyncio.sleep(0.05)
                else:
                    break
            assert appended.last_seq == number
            acknowledged[session].append(str(number))

    async with opened(kind.database(place), patience_s=0.3) as store:
        writers = [asyncio.create_task(write(store, session)) for session in acknowledged]
        for _ in range(5):
            before = sum(map(len, acknowledged.values()))
            while sum(map(len, acknowledged.values())) < before + 200:
                await asyncio.sleep(0.01)
            kind.server.crash()
            await asyncio.to_thread(kind.server.start)
        done.set()
        await asyncio.gather(*writers)
        for session, expected in acknowledged.items():
            assert await texts(store, session=session, limit=10_000) == expected


class Interrupted:
    """A database whose commits meet with accidents: `before` and `after` run around the next one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.before: Callable[[], Any] | None = None
        self.lose_answers = 0
        self.numbers: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def commit(self, change: Change, after: int, number: int) -> bool:
        self.numbers.append(number)
        if self.before is not None:
            before, self.before = self.before, None
            await before()
        committed = await self._database.commit(change, after, number)
        if self.lose_answers:
            self.lose_answers -= 1
            raise Away("the answer got lost")
        return committed


async def test_a_commit_whose_answer_is_lost_is_not_made_twice(kind: Kind, place: Place) -> None:
    database: Any = Interrupted(kind.database(place))
    async with opened(database) as store:
        database.lose_answers = 2
        assert (await append(store, user("once"))).last_seq == 1
        assert (await append(store, user("next"))).last_seq == 2
        assert await texts(store) == ["once", "next"]
        assert database.numbers == [1, 1, 1, 2]


async def test_a_batch_that_lands_late_is_taken_into_account(kind: Kind, place: Place) -> None:
    """It was given up for lost, was under way all the same, and arrives between the next one's reading and writing."""
    database: Any = Interrupted(kind.database(place))
    async with opened(database) as store:
        await append(store, user("1"))

        async def late() -> None:
            found = Change()
            await database._database.commit(found, 1, 77)

        database.before = late
        assert (await append(store, user("2"))).last_seq == 2
        assert await texts(store) == ["1", "2"]
        assert database.numbers == [1, 2, 78]


async def test_another_number_of_shards_is_refused_while_there_are_sessions(kind: Kind, place: Place) -> None:
    async with opened(kind.database(Place(place.namespace, 1, 3))) as store:
        await append(store, user("x"))
    with pytest.raises(ConfigurationError, match=r"session.shards is 2, but .* with 3: set it back"):
        async with opened(kind.database(Place(place.namespace, 0, 2))):
            pass
    async with opened(kind.database(Place(place.namespace, 1, 3))) as store:
        await store.delete(DeleteSession("t", "s"))
    async with opened(kind.database(Place(place.namespace, 0, 2))) as store:
        await store.create(CreateSession("t", "s"), NOW_US)


async def test_requests_that_find_no_connection_in_time_are_told_so(kind: Kind, place: Place) -> None:
    database: Any = kind.database(place, PoolLimits(1, 0, 0.05))
    async with opened(database) as store:
        async with database.pool.lease():
            with pytest.raises(Unavailable, match="connections to the session store were in use"):
                await history(store)
        await append(store, user("x"))


async def test_a_server_that_is_not_there_is_unavailable_at_the_start(place: Place) -> None:
    from rayflow.stores.servers.redis import Redis

    with pytest.raises(Unavailable, match="Redis, which keeps the sessions, does not answer"):
        async with opened(Redis("unix:///nowhere/redis.sock", place, ROWS), patience_s=0):
            pass


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--appendonly", "no"], "keeps no append-only file"),
        (["--appendonly", "yes", "--appendfsync", "no"], "leaves its append-only file to the kernel"),
        (
            ["--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
            "drops sessions when it is full",
        ),
    ],
)
async def test_a_redis_that_may_forget_is_refused_unless_that_is_allowed(
    place: Place, options: list[str], says: str
) -> None:
    from rayflow.stores.servers.redis import Redis

    with RedisServer(*options) as server:
        with pytest.raises(StorageError, match=f"{says}.*session.allow_volatile"):
            async with opened(Redis(server.dsn, place, ROWS)):
                pass
        async with opened(Redis(server.dsn, place, ROWS, allow_volatile=True)) as store:
            await append(store, user("x"))


async def test_sessions_of_a_newer_version_are_left_alone(kind: Kind, place: Place) -> None:
    async with opened(kind.database(place)) as store:
        await append(store, user("x"))
    await _set_version(kind, 99)
    try:
        with pytest.raises(StorageError, match=rf"\(schema 99, this one knows {SCHEMA_VERSION}\): upgrade rayflow"):
            async with opened(kind.database(place)):
                pass
    finally:
        await _set_version(kind, SCHEMA_VERSION)
    async with opened(kind.database(place)) as store:
        assert await texts(store) == ["x"]


async def test_a_database_from_before_there_were_records_is_brought_up_to_date(kind: Kind, place: Place) -> None:
    async with opened(kind.database(place)) as store:
        await append(store, user("x"))
    if kind.name == "postgres":
        import asyncpg

        connection = await asyncpg.connect(kind.server.dsn)
        await connection.execute("drop table rayflow.records, rayflow.record_owners")
        await connection.close()
    await _set_version(kind, 1)
    async with opened(kind.database(place)) as store:
        await store.write_records(WriteRecords("t", TENANT, [RecordWrite("k", "a", b"x")]), NOW_US)
        assert (await texts(store), len((await store.list_records(ListRecords())).records)) == (["x"], 1)


async def _set_version(kind: Kind, version: int) -> None:
    if kind.name == "postgres":
        import asyncpg

        connection = await asyncpg.connect(kind.server.dsn)
        await connection.execute("update rayflow.schema_version set version = $1", version)
        await connection.close()
    else:
        from redis.asyncio import Redis

        async with Redis.from_url(kind.server.dsn) as client:
            await client.set("rayflow:schema", version)


async def test_a_redis_that_was_emptied_says_so(place: Place) -> None:
    from redis.asyncio import Redis as Client

    from rayflow.stores.servers.redis import Redis

    with RedisServer() as server:
        async with opened(Redis(server.dsn, place, ROWS)) as store:
            await append(store, user("x"))
            async with Client.from_url(server.dsn) as client:
                await client.flushall()
            for request in (append(store, user("y")), history(store)):
                with pytest.raises(StorageError, match="are not in Redis any more"):
                    await request
        async with opened(Redis(server.dsn, place, ROWS)) as store:
            await append(store, user("anew"))


async def test_a_full_redis_takes_nothing_and_loses_nothing(place: Place) -> None:
    from redis.asyncio import Redis as Client

    from rayflow.stores.servers.redis import Redis

    with RedisServer("--appendonly", "yes") as server:
        async with opened(Redis(server.dsn, place, ROWS)) as store, Client.from_url(server.dsn) as client:
            await append(store, user("1"))
            await client.config_set("maxmemory", "1")
            with pytest.raises(StorageFull):
                await append(store, user("2"))
            assert await texts(store) == ["1"]
            await client.config_set("maxmemory", "0")
            await append(store, user("2"))
            assert await texts(store) == ["1", "2"]


async def test_a_postgres_that_never_writes_to_disk_is_refused_unless_that_is_allowed(place: Place) -> None:
    from rayflow.stores.servers.postgres import Postgres

    with PostgresServer("-c", "fsync=off") as server:
        with pytest.raises(StorageError, match=r"fsync = off .*session.allow_volatile"):
            async with opened(Postgres(server.dsn, place, ROWS)):
                pass
        async with opened(Postgres(server.dsn, place, ROWS, allow_volatile=True)) as store:
            await append(store, user("x"))


async def test_a_wrong_address_is_named_without_its_password(place: Place) -> None:
    from rayflow.stores.servers.postgres import Postgres
    from rayflow.stores.servers.redis import Redis

    for database in (Postgres("mysql://u:hunter2@h/d", place, ROWS), Redis("mysql://u:hunter2@h/0", place, ROWS)):
        with pytest.raises(ConfigurationError, match=r"session\.dsn") as caught:
            async with opened(database):
                pass
        assert "hunter2" not in str(caught.value)


async def test_redis_acknowledges_when_its_file_holds_what_was_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `appendfsync everysec` it answers earlier while the disk is slow."""
    from redis.asyncio import Redis as Client

    from rayflow.stores.servers.redis import Redis

    behind, asked = [300, 20, 0], []
    real = Client.info

    async def info(client: Any, section: str) -> dict[str, Any]:
        found: dict[str, Any] = await real(client, section)
        if behind and acknowledging:
            asked.append(behind[0])
            found["aof_buffer_length"] = behind.pop(0)
        return found

    acknowledging = False
    monkeypatch.setattr(Client, "info", info)
    with RedisServer() as server:
        async with opened(Redis(server.dsn, place, ROWS)) as store:
            acknowledging = True
            await append(store, user("x"))
            assert asked == [300, 20, 0]
