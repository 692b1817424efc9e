"""The system under test with everything around it: upstream, proxy, client and watch."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path

from support.served import Served, rayflow
from support.servers import PostgresServer, RedisServer, Server

from faults.client import Client
from faults.pacing import Pacer
from faults.proxy import FaultProxy
from faults.upstream import Upstream
from faults.watch import POLL_S, Actor, Footprint, Snapshot, Watch, strays
from faults.workflow import write_workflow

START_S = 30.0
DRAIN_S = 60.0
RELOAD_S = 120.0
QUIET_S = 3.0
HEAL_S = 30.0
"""After so long a part counts as not healed."""
SERVERS: dict[str, type[Server]] = {"postgres": PostgresServer, "redis": RedisServer}
ENV = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_USAGE_STATS_ENABLED": "0"}


class System:
    """`rayflow serve` on a folder. `session`: that section of its workflow; `database`: the server that it names.
    `expected`: the addresses that were there when it had started."""

    def __init__(
        self,
        folder: Path,
        upstream: Upstream,
        proxy: FaultProxy | None,
        client: Client,
        session: Mapping[str, object],
        database: Server | None,
    ) -> None:
        self.folder = folder
        self.state = folder / ".rayflow"
        self.upstream = upstream
        self.proxy = proxy
        self.client = client
        self.watch = Watch(self.state)
        self.expected: frozenset[str] = frozenset()
        self.edition = 1
        self.database = database
        self._session = session

    async def start(self) -> None:
        """Serve. Raises AssertionError where it does not get ready."""
        self.write()
        self.served = await asyncio.to_thread(Served, [str(self.workflow)], self.folder, ENV)
        self.client.url = self.served.url
        found, _ = await self.watch.until(lambda now: now.state == "ready" and len(now.of("ingress")) == 2, START_S)
        self.expected = frozenset(found.actors)

    async def victim(self, role: str, pacer: Pacer) -> Actor:
        """The next one of that role, as soon as one is ready and may be hurt. Raises RuntimeError where none gets
        ready."""
        until = time.monotonic() + HEAL_S
        while True:
            # A process id of 0 would be our own process group.
            ready = [a for a in (await self.watch.look()).of(role) if a.state == "ready" and a.pid > 0]
            names = [actor.address for actor in ready]
            wait_s = pacer.wait_s(names, time.monotonic()) if names else POLL_S
            if wait_s <= 0:
                chosen = pacer.choose(names, time.monotonic())
                return next(actor for actor in ready if actor.address == chosen)
            if not names and time.monotonic() > until:
                raise RuntimeError(f"no {role} is ready, so none can be hurt")
            await asyncio.sleep(wait_s)

    async def replaced(self, victim: Actor) -> bool:
        """Wait until everything is ready and the victim has a new process. False where that never came."""

        def healed(now: Snapshot) -> bool:
            found = now.actors.get(victim.address)
            return now.whole(self.expected) and found is not None and found.pid != victim.pid

        _, took_s = await self.watch.until(healed, HEAL_S)
        return took_s is not None

    @property
    def workflow(self) -> Path:
        return self.folder / "team.yaml"

    def write(self) -> None:
        """The workflow file in its present edition."""
        port = self.proxy.port if self.proxy else self.upstream.port
        url = f"http://127.0.0.1:{port}/v1"
        write_workflow(self.workflow, url, edition=self.edition, session=self._session)

    async def reload(self) -> tuple[int, str]:
        """`rayflow reload`: its exit code and what it said."""
        command = partial(rayflow, "reload", "--state", str(self.state), cwd=self.folder, timeout_s=RELOAD_S, **ENV)
        done = await asyncio.to_thread(command)
        return done.returncode, (done.stderr or done.stdout).strip()

    async def ended(self) -> int | None:
        """The exit code of `serve`, once it ends; None where it does not."""
        try:
            return await asyncio.to_thread(self.served.process.wait, DRAIN_S)
        except subprocess.TimeoutExpired:
            return None

    async def restart(self) -> None:
        """SIGKILL for every process at once, and a start on what they left."""
        await self.close()
        await self.start()

    async def close(self) -> None:
        await self.watch.close()
        await asyncio.to_thread(self.served.kill)

    # --- looking at it ---

    async def whole(self, timeout_s: float) -> tuple[Snapshot, float | None]:
        return await self.watch.until(lambda now: now.whole(self.expected), timeout_s)

    async def strays(self) -> list[str]:
        """Processes that should not be, and actors without a process; a dying one is given a moment."""
        until = time.monotonic() + QUIET_S
        while True:
            found = strays(await self.watch.look(), self.served.family())
            if not found or time.monotonic() > until:
                return found
            await asyncio.sleep(0.2)

    def footprint(self) -> Footprint:
        return Footprint.of(self.served.family())

    def damaged_shards(self) -> list[str]:
        """What `pragma integrity_check` says of each session database that is not whole."""
        found = []
        for file in sorted((self.state / "sessions").glob("*.sqlite")):
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                said = [row[0] for row in database.execute("pragma integrity_check")]
            if said != ["ok"]:
                found.append(f"{file.name}: {'; '.join(said)}")
        return found


@contextmanager
def database(store: str) -> Iterator[Server | None]:
    """A server for this kind of session store, if it needs one."""
    if store not in SERVERS:
        yield None
        return
    with SERVERS[store]() as server:
        yield server


@asynccontextmanager
async def running(
    folder: Path, seed: int, *, shards: int = 1, through_proxy: bool = False, store: str = "sqlite"
) -> AsyncIterator[System]:
    """A system that serves from `folder`; it is killed at the end."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(seed))
        proxy = await stack.enter_async_context(FaultProxy(upstream.port, seed)) if through_proxy else None
        client = await stack.enter_async_context(Client(""))
        server = stack.enter_context(database(store))
        session = {"shards": shards, "store": store, **({"dsn": server.dsn} if server else {})}
        system = System(folder, upstream, proxy, client, session, server)
        await system.start()
        stack.push_async_callback(system.close)
        yield system
