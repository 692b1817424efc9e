"""Every session store, for the suites of their contract."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from support.servers import PostgresServer, RedisServer, Server

from rayflow.runtime.ports import ShardStore
from rayflow.stores.memory import MemoryStore
from rayflow.stores.payloads import Payloads
from rayflow.stores.sealing import Sealer
from rayflow.stores.servers.database import Database, Place
from rayflow.stores.servers.rows import Rows
from rayflow.stores.servers.store import ServerStore
from rayflow.stores.sqlite import SqliteStore

PATIENCE_S = 10.0


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    yield from _running("RAYFLOW_TEST_POSTGRES_DSN", PostgresServer)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    yield from _running("RAYFLOW_TEST_REDIS_URL", RedisServer)


def _running(variable: str, server: type[Server]) -> Iterator[str]:
    if given := os.environ.get(variable):
        yield given
        return
    started = server()
    started.start()
    yield started.dsn
    started.remove()


@pytest.fixture(
    params=["memory", "sqlite", "sqlite-encrypted", "postgres", "postgres-encrypted", "redis", "redis-encrypted"]
)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShardStore]:
    made: ShardStore
    kind, _, encrypted = request.param.partition("-")
    payloads = Payloads(Sealer([bytes(range(32))]) if encrypted else None)
    match kind:
        case "memory":
            made = MemoryStore(1000)
        case "sqlite":
            made = SqliteStore(tmp_path / "s" / "0.sqlite", payloads=payloads)
        case _:
            made = ServerStore(_database(request, kind, payloads), Rows(payloads), PATIENCE_S)
    await made.open()
    yield made
    await made.close()


def _database(request: pytest.FixtureRequest, kind: str, payloads: Payloads) -> Database:
    """In a namespace of its own: the server is shared by all tests."""
    place, rows = Place(uuid4().hex, 0, 1), Rows(payloads)
    if kind == "postgres":
        dsn = request.getfixturevalue("postgres_dsn")
        from rayflow.stores.servers.postgres import Postgres

        return Postgres(dsn, place, rows)
    url = request.getfixturevalue("redis_url")
    from rayflow.stores.servers.redis import Redis

    return Redis(url, place, rows)
