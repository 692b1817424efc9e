"""The session store that a configuration asks for. A server's client library is imported only where it is used."""

from __future__ import annotations

from pathlib import Path

from rayflow.config.schema import WorkflowConfig
from rayflow.config.sections.processing import SessionConfig
from rayflow.errors import ConfigurationError
from rayflow.stores.keys import payloads
from rayflow.stores.memory import MemoryStore
from rayflow.stores.payloads import Payloads
from rayflow.stores.servers.database import Database, Place
from rayflow.stores.servers.pool import PoolLimits
from rayflow.stores.servers.rows import Rows
from rayflow.stores.servers.store import ServerStore
from rayflow.stores.sqlite import SqliteStore

Store = MemoryStore | SqliteStore | ServerStore


def build(config: WorkflowConfig, shard: int) -> Store:
    """The store of one shard. Raises `ConfigurationError`."""
    session = config.session
    content = payloads(session.encryption)
    match session.store:
        case "memory":
            return MemoryStore(session.max_memory_sessions)
        case "sqlite":
            folder = Path(config.storage.state) / "sessions"
            _check_shards(folder, session.shards)
            return SqliteStore(folder / f"shard-{shard}-of-{session.shards}.sqlite", session.synchronous, content)
        case "postgres" | "redis":
            place = Place(session.namespace or config.name, shard, session.shards)
            return ServerStore(_database(session, place, content), Rows(content), session.outage_wait_s)


def _database(session: SessionConfig, place: Place, content: Payloads) -> Database:
    assert session.dsn is not None, "the section checks that there is one"
    dsn, rows = session.dsn.get_secret_value(), Rows(content)
    limits = PoolLimits(session.pool_size, session.pool_overflow, session.pool_timeout_s)
    try:
        if session.store == "postgres":
            from rayflow.stores.servers.postgres import Postgres

            return Postgres(dsn, place, rows, limits, allow_volatile=session.allow_volatile)
        from rayflow.stores.servers.redis import Redis

        return Redis(dsn, place, rows, limits, allow_volatile=session.allow_volatile)
    except ImportError as error:
        raise ConfigurationError(
            f"session.store: {session.store} needs the package {error.name}: pip install 'rayflow[{session.store}]'",
            key="session.store",
        ) from None


def _check_shards(folder: Path, shards: int) -> None:
    """Sessions are spread over the shards by their number: with another number they would seem to be gone."""
    for file in sorted(folder.glob("shard-*-of-*.sqlite")):
        before = file.stem.rpartition("-")[2]
        if before != str(shards):
            raise ConfigurationError(
                f"session.shards is {shards}, but the sessions in {folder} were written with {before}: set it back",
                key="session.shards",
            )
