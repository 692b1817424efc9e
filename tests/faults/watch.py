"""The eye on the system: the coordinator's status over one attached client, and the kernel's list of processes.

Asking the coordinator costs a quarter of a millisecond, so healing can be timed without disturbing what it times.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from rayflow.actors.queue import KIND
from rayflow.app.state import read_run_file
from rayflow.app.system import Attached, attach
from rayflow.errors import WorkflowError
from rayflow.messages import GetStatus, ReadRecords, Records
from rayflow.messages.records import QUEUE
from rayflow.policies.placement import record_shard, shard_addresses
from rayflow.runtime.roster import COORDINATOR

POLL_S = 0.05
ASK_S = 1.0
GIVE_UP_S = 3.0
"""A connection over which nothing was heard for so long is made anew."""
_ACTOR = re.compile(r"ray::(Coordinator|EventLog|SessionStore|Aggregator|Agent|Router|Feeder)\b")
_INGRESS = "rayflow.api.ingress"


@dataclass(frozen=True, slots=True)
class Actor:
    address: str
    role: str
    state: str
    pid: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The system at one moment, clients left out. `state` is "unreachable" where the coordinator does not answer."""

    state: str
    actors: dict[str, Actor]

    def of(self, role: str) -> list[Actor]:
        return sorted((a for a in self.actors.values() if a.role == role), key=lambda a: a.address)

    def whole(self, expected: Iterable[str]) -> bool:
        """All `expected` addresses are there, and every actor is ready in a process of its own."""
        return (
            self.state == "ready"
            and set(expected) <= self.actors.keys()
            and all(a.state == "ready" and a.pid for a in self.actors.values())
        )


UNREACHABLE = Snapshot("unreachable", {})


class Watch:
    """Status of the system on a state folder. It attaches anew where its connection is of no use any more."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._member: Attached | None = None
        self._heard_s = 0.0

    async def close(self) -> None:
        member, self._member = self._member, None
        if member is not None:
            await member.leave()
            await member.close()

    async def look(self) -> Snapshot:
        try:
            member = self._member or await self._attach()
            if member is None:
                return UNREACHABLE
            status = await member.fabric.ask(COORDINATOR, GetStatus(), ASK_S)
        except WorkflowError:
            if time.monotonic() - self._heard_s > GIVE_UP_S:
                await self.close()
            return UNREACHABLE
        self._heard_s = time.monotonic()
        actors = {a.address: Actor(a.address, a.role, a.state, a.pid) for a in status.actors if a.role != "client"}
        return Snapshot(status.state, actors)

    async def waiting(self, shards: int) -> set[str]:
        """The runs that are kept while they wait for their session. Raises `WorkflowError`."""
        member = self._member or await self._attach()
        assert member is not None, "it runs"
        read = ReadRecords("", QUEUE, KIND, limit=1000)
        at = record_shard("", QUEUE, shard_addresses(shards))
        found: Records = await member.fabric.ask(at, read, ASK_S)
        return {record.name for record in found.records}

    async def until(self, wanted: Callable[[Snapshot], bool], timeout_s: float) -> tuple[Snapshot, float | None]:
        """The first snapshot that is wanted and the seconds until it; None in place of them when time ran out."""
        began = time.monotonic()
        while True:
            found = await self.look()
            passed_s = time.monotonic() - began
            if wanted(found):
                return found, passed_s
            if passed_s > timeout_s:
                return found, None
            await asyncio.sleep(POLL_S)

    async def _attach(self) -> Attached | None:
        """None where nothing runs. Raises `Unavailable`."""
        run = read_run_file(self._state)
        if run is None:
            return None
        name = f"client/faults-{os.getpid()}-{time.monotonic_ns()}"
        self._member, client = await attach(Path(run.run_dir), name, "client", patience_s=ASK_S)
        self._heard_s = time.monotonic()
        client.close()
        return self._member


def strays(found: Snapshot, family: Iterable[psutil.Process]) -> list[str]:
    """What lives without being in the status, and what is in it without living; two processes of one address show as
    one of the former."""
    alive = {process.pid: title for process in family if (title := title_of(process))}
    living = [actor for actor in found.actors.values() if actor.state != "parked"]
    named = {actor.pid: actor.address for actor in living}
    orphans = [f"{title} (pid {pid}) is not in the status" for pid, title in alive.items() if pid not in named]
    ghosts = [f"{address} (pid {pid}) does not live" for pid, address in named.items() if pid not in alive]
    holders = Counter(actor.pid for actor in living)
    shared = [f"pid {pid} has {n} addresses" for pid, n in holders.items() if n > 1]
    return orphans + ghosts + shared


def title_of(process: psutil.Process) -> str:
    """What an actor's or an ingress's process calls itself; "" for any other and for one that is gone."""
    try:
        line = " ".join(process.cmdline())
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
    except psutil.NoSuchProcess:
        return ""
    if found := _ACTOR.match(line):
        return found[0]
    return _INGRESS if _INGRESS in line else ""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory (RSS, MiB) and open descriptors of a family of processes."""

    rss_mib: float
    fds: int

    @classmethod
    def of(cls, family: Iterable[psutil.Process]) -> Footprint:
        rss, fds = 0, 0
        for process in family:
            try:
                rss += process.memory_info().rss
                fds += process.num_fds()
            except psutil.NoSuchProcess:
                continue
        return cls(round(rss / 2**20, 1), fds)
