"""Get a client of a system: join the one that serves from the state folder, or start one for as long as it is
needed."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from rayflow.actors.outbox import EVENT_LOG
from rayflow.app.client import SystemClient
from rayflow.app.control import ask_reload
from rayflow.app.own_policies import check_policies
from rayflow.app.state import RunFile, owned, read_run_file, write_run_file
from rayflow.app.system import InProcessSystem, RaySystem, System, attach
from rayflow.config.load import load_or_example
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import DeadlineExceeded, FabricError, Unavailable
from rayflow.messages import FlushEvents, GetLinks, GetStatus, Links, LinkStats, Reconfigured, Status
from rayflow.runtime.roster import COORDINATOR, node_address

FLUSH_S = 5.0


def settled(config: WorkflowConfig, state: Path | None) -> WorkflowConfig:
    """The configuration with its folders absolute, so that actors may have any working directory. `state` overrides.

    Raises `ConfigurationError` where a policy of it cannot be had.
    """
    storage = config.storage
    folder = (state or Path(storage.state)).absolute()
    events = str(Path(storage.events).absolute()) if storage.events else None
    config = config.model_copy(update={"storage": storage.model_copy(update={"state": str(folder), "events": events})})
    check_policies(config)
    return config


@asynccontextmanager
async def open_client(
    file: Path | None,
    *,
    state: Path | None = None,
    address: str | None = None,
    in_process: bool = False,
    overrides: Sequence[str] = (),
) -> AsyncIterator[SystemClient]:
    """A client of the system that serves from the state folder; where none does, of one started for this context.

    `file`: workflow file of the system to start; a running system keeps its own. Raises `ConfigurationError`,
    `Unavailable`.
    """
    config = settled(load_or_example(file, overrides), state)
    async with open_configured(config, address=address, in_process=in_process) as client:
        yield client


@asynccontextmanager
async def open_configured(
    config: WorkflowConfig, *, address: str | None = None, in_process: bool = False
) -> AsyncIterator[SystemClient]:
    """As `open_client`, for a configuration that is settled already."""
    folder = Path(config.storage.state)
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    running = read_run_file(folder)
    if running is not None and not running.in_process:
        member, client = await attach(Path(running.run_dir), f"client/{name}", "client")
        try:
            yield client
        finally:
            client.close()
            await member.leave()
            await member.close()
        return
    with owned(folder) as mine:
        write_run_file(folder, RunFile(os.getpid(), str(mine.run_dir), config.name, in_process=in_process))
        system: System = InProcessSystem(config) if in_process else RaySystem(config, mine.run_dir, address)
        async with system:
            client = await system.client(name)
            try:
                yield client
            finally:
                await _flush(client)
                client.close()


async def _flush(client: SystemClient) -> None:
    """What this client recorded should be readable when its command ends."""
    if client.fabric.directory.endpoint(EVENT_LOG) is not None:
        with suppress(FabricError, DeadlineExceeded, TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await client.flush()
                await client.fabric.ask(EVENT_LOG, FlushEvents(), FLUSH_S)


async def running_status(state: Path) -> tuple[RunFile, Status]:
    """What the coordinator of the system on this state folder says. Raises `Unavailable` where none answers."""
    async with visit(state) as (run, client):
        return run, await client.fabric.ask(COORDINATOR, GetStatus(), 3.0)


async def running_links(state: Path) -> dict[str, list[LinkStats]]:
    """The connections of every process of the system, by its actor's address. Raises `Unavailable`."""
    async with visit(state) as (_, client):
        status: Status = await client.fabric.ask(COORDINATOR, GetStatus(), 3.0)
        found: dict[str, list[LinkStats]] = {}
        for actor in status.actors:
            with suppress(FabricError, DeadlineExceeded):  # it is not up, or not a member
                links: Links = await client.fabric.ask(node_address(actor.address, actor.epoch), GetLinks(), 1.0)
                found[actor.address] = sorted(links.links, key=lambda link: link.peer)
        return found


async def scale_running(state: Path, factor: float, agent: str, replicas: int | None) -> dict[str, int]:
    """Multiply the replicas of one agent, or of all of them, or set them. Returns how many there will be, by agent.
    Raises `Unavailable`, and `NotFound` for an unknown agent."""
    async with visit(state) as (_, client):
        return await client.scale(factor, agent, replicas)


@asynccontextmanager
async def visit(state: Path) -> AsyncIterator[tuple[RunFile, SystemClient]]:
    """The system on this state folder, and a client of it. Raises `Unavailable` where none answers."""
    run = _running(state)
    if run.in_process:
        raise Unavailable(f"process {run.pid} runs everything in itself (--in-process): ask it over HTTP at {run.url}")
    member, client = await attach(Path(run.run_dir), f"client/status-{os.getpid()}", "client", patience_s=3.0)
    try:
        yield run, client
    finally:
        await member.leave()
        await member.close()


def stop_running(state: Path) -> int:
    """SIGTERM to the system on this state folder, and wait for its end. Returns its process id. Raises
    `Unavailable`."""
    run = _running(state)
    os.kill(run.pid, signal.SIGTERM)
    while (now := read_run_file(state)) is not None and now.pid == run.pid:
        time.sleep(0.1)
    return run.pid


async def reload_running(state: Path, file: Path | None) -> Reconfigured:
    """Have the system on this state folder go over to its workflow file as it is now, or to another one. Raises
    `ConfigurationError` when nothing was changed, `Unavailable` where nothing runs."""
    return await ask_reload(Path(_running(state).run_dir), file)


def _running(state: Path) -> RunFile:
    run = read_run_file(state)
    if run is None:
        raise Unavailable(
            f"nothing runs on the state folder {state}: start it with `rayflow serve`, or name another with --state"
        )
    return run
