"""The coordinator actor: carries out what the supervisor decides, and tells everybody who is where.

It starts, watches, restarts and stops all others, and never touches a message of a run. A death is learnt from the
backend's notice or from the child's broken connection, whichever comes first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Iterable, Mapping
from contextlib import suppress

from rayflow import __version__
from rayflow.actors.outbox import Outbox
from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import restore
from rayflow.errors import Unavailable, WorkflowError
from rayflow.events import Event
from rayflow.messages import (
    ActorStatus,
    Directory,
    Drain,
    Drained,
    Endpoint,
    GetStatus,
    Join,
    Launch,
    Leave,
    Payload,
    Ping,
    Pong,
    Ready,
    Shutdown,
    Status,
    Welcome,
)
from rayflow.runtime.ports import Backend, Fabric, Handler
from rayflow.runtime.roster import COORDINATOR, NODE, roster
from rayflow.runtime.supervisor import Admit, Child, Instruction, Spawn, Stop, Supervisor

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
HANG_S = 4.0
"""A child that has not answered for so long hangs: it is taken out of rotation, ended and started again."""
KILL_GRACE_S = 2.0
"""After a child's drain budget, this long until it is killed."""


class Coordinator:
    def __init__(self, fabric: Fabric, backend: Backend, clock: Clock, rng: random.Random) -> None:
        self._fabric = fabric
        self._backend = backend
        self._clock = clock
        self._rng = rng
        self._outbox = Outbox(fabric)
        self._supervisor = Supervisor([])
        self._config: WorkflowConfig | None = None
        self._config_json = b""
        self._entries: dict[str, Endpoint] = {}
        self._members: dict[str, Join] = {}
        # Starts at the time, so that a later coordinator's directory replaces this one's.
        self._version = clock.wall_us()
        self._pushing = False
        self._admitted: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._budget_s = 30.0
        self._left: list[str] = []
        self._closed = False
        self._timeline: dict[str, float] = {}
        self._born = clock.now()
        backend.on_exit(self._on_exit)

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {
            Launch: self._launch,
            Join: self._join,
            Ready: self._ready,
            Leave: self._leave,
            GetStatus: self._status,
            Shutdown: self._shutdown,
            Ping: lambda _: Pong(COORDINATOR, os.getpid()),
        }

    async def start(self) -> None:
        """It waits for `Launch`."""
        self._task(self._listen())

    async def drain(self, budget_s: float) -> list[str]:
        return (await self._shutdown(Shutdown("coordinator is stopping", budget_s))).left

    async def stop(self) -> None:
        """From here on deaths are nobody's business: nothing is started again."""
        self._closed = True
        self._outbox.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- starting ---

    async def _launch(self, request: Launch) -> Status:
        if self._config is not None:
            raise WorkflowError("this coordinator already runs a workflow")
        self._config = restore(request.config)
        self._config_json = request.config
        self._entries[COORDINATOR] = Endpoint(COORDINATOR, self._fabric.endpoint)
        self._supervisor = Supervisor(roster(self._config))
        self._outbox.enabled = self._config.monitoring.event_log
        self._mark("launch")
        self._do(self._supervisor.start(self._clock.now()))
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._supervisor.all_ready or self._supervisor.stopping or self._parked()
            )
        if not self._supervisor.all_ready:
            raise Unavailable("the workflow did not start: " + "; ".join(self._parked() or ["stopped while starting"]))
        self._mark("ready")
        took_ms = (self._clock.now() - self._born) * 1000
        self._record("system.started", COORDINATOR, duration_ms=took_ms, data={"timeline": self._timeline})
        return self._status(GetStatus())

    async def _join(self, request: Join) -> Welcome:
        """A process listens. A child is welcomed when its turn in the start order has come, anybody else at once."""
        entry = request.entry
        if self._config is None:
            raise Unavailable("the workflow has not been launched yet", retry_after_s=1)
        node = Endpoint(NODE + entry.address, entry.endpoint, entry.epoch, entry.node)
        child = self._supervisor.children.get(entry.address)
        self._members[entry.address] = request
        if child is None:
            self._enter(node, entry)
        else:
            admitted = self._admitted[entry.address] = asyncio.Event()
            self._enter(node)
            self._do(self._supervisor.joined(entry.address, entry.epoch, self._clock.now()))
            if child.state in ("starting", "ready"):
                admitted.set()  # by this join, or by an earlier one whose welcome was lost on the way
            await admitted.wait()
        return Welcome(self._config_json, Directory(self._version, list(self._entries.values())))

    def _ready(self, message: Ready) -> None:
        join = self._members.get(message.address)
        if join is None:
            return
        self._enter(join.entry)
        self._timeline[message.address] = round(self._clock.now() - self._born, 3)
        self._do(self._supervisor.ready(message.address, join.entry.epoch, self._clock.now()))
        self._record(
            "actor.started", message.address, epoch=join.entry.epoch, data={"pid": join.pid, "boot": message.boot}
        )
        self._notify()

    # --- watching ---

    async def _listen(self) -> None:
        """Heartbeats: death is seen by others, but a process that hangs only shows by its silence."""
        before = self._clock.now()
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            now = self._clock.now()
            if now - before > HANG_S / 2:
                self._supervisor.excuse(now)
            before = now
            for address, epoch in self._supervisor.silent(HANG_S, now):
                self._gone(address, epoch, f"no sign of life for {HANG_S:g} s")
            for address, child in self._supervisor.children.items():
                if child.state == "ready":
                    self._task(self._ping(address, child.epoch))

    async def _ping(self, address: str, epoch: int) -> None:
        with suppress(WorkflowError):
            await self._fabric.ask(NODE + address, Ping(), HEARTBEAT_S)
            self._supervisor.heard(address, epoch, self._clock.now())

    def peer_lost(self, endpoint: str) -> None:
        """The fabric lost a connection: whoever listened there is dead or cut off."""
        for address, join in list(self._members.items()):
            if join.entry.endpoint == endpoint:
                self._gone(address, join.entry.epoch, "connection lost")

    def _on_exit(self, address: str, epoch: int, reason: str) -> None:
        self._gone(address, epoch, reason)

    def _leave(self, message: Leave) -> None:
        if message.address in self._members and message.address not in self._supervisor.children:
            self._remove(message.address)

    def _gone(self, address: str, epoch: int, reason: str) -> None:
        child = self._supervisor.children.get(address)
        if self._closed:
            return
        if child is None:
            self._remove(address)
            return
        if child.epoch != epoch:
            return
        before = child.state
        self._remove(address)
        instructions = self._supervisor.lost(address, epoch, reason, self._clock.now(), self._rng)
        if child.state == before:
            return
        match child.state:
            case "stopped":
                self._record("actor.stopped", address, epoch=epoch)
            case "parked":
                self._task(self._backend.kill(address))
                log.error("%s died %d times and stays down: %s", address, len(child.deaths), reason)
                self._record(
                    "actor.parked", address, epoch=epoch, error_message=reason, data={"restarts": child.restarts}
                )
            case _:
                log.warning("%s was lost (%s); starting it again", address, reason)
                self._record("actor.lost", address, epoch=epoch, error_message=reason)
        self._do(instructions)
        self._notify()

    # --- stopping ---

    async def _shutdown(self, request: Shutdown) -> Drained:
        self._record("system.stopping", COORDINATOR, data={"reason": request.reason})
        self._outbox.flush()
        self._budget_s = request.budget_s
        self._do(self._supervisor.shutdown(self._clock.now()))
        async with self._changed:
            await self._changed.wait_for(lambda: self._supervisor.all_stopped)
        return Drained(self._left)

    async def _stop_child(self, address: str) -> None:
        """Drain it and see it end. One that does not, or that is still starting and so has nothing to finish, is
        killed."""
        try:
            if address in self._entries:
                request = Drain(self._budget_s)
                drained: Drained = await self._fabric.ask(NODE + address, request, self._budget_s + KILL_GRACE_S)
                self._left += drained.left
                await asyncio.wait_for(self._until_stopped(address), KILL_GRACE_S)
                return
        except (WorkflowError, TimeoutError) as error:
            log.warning("%s did not stop by itself: %s", address, error)
        await self._backend.kill(address)
        self._gone(address, self._supervisor.children[address].epoch, "killed while stopping")

    async def _until_stopped(self, address: str) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._supervisor.children[address].state == "stopped")

    # --- carrying out ---

    def _do(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Spawn():
                    self._task(self._spawn(instruction))
                case Admit(address, _):
                    self._admitted[address].set()
                case Stop(address):
                    self._task(self._stop_child(address))

    async def _spawn(self, spawn: Spawn) -> None:
        spec = spawn.spec
        if spawn.epoch > 1:
            restarts = self._supervisor.children[spec.address].restarts
            facts = {"attempt": restarts, "delay_s": round(spawn.delay_s, 3)}
            self._record("actor.restarted", spec.address, epoch=spawn.epoch, data=facts)
            await asyncio.sleep(spawn.delay_s)
            # It may only have been cut off: there must never be two of one address.
            await self._backend.kill(spec.address)
        if not self._supervisor.spawning(spec.address, spawn.epoch, self._clock.now()):
            return
        try:
            await self._backend.spawn(spec.address, spec.role, spawn.epoch)
        except WorkflowError as error:
            self._gone(spec.address, spawn.epoch, error.message)

    def _enter(self, *entries: Endpoint) -> None:
        for entry in entries:
            self._entries[entry.address] = entry
        self._directory_changed()

    def _remove(self, address: str) -> None:
        self._members.pop(address, None)
        for name in (address, NODE + address):
            self._entries.pop(name, None)
        self._directory_changed()

    def _directory_changed(self) -> None:
        """Push once per turn of the loop, however many changes there were."""
        self._version += 1
        if not self._pushing:
            self._pushing = True
            asyncio.get_running_loop().call_soon(self._push)

    def _push(self) -> None:
        self._pushing = False
        directory = Directory(self._version, list(self._entries.values()))
        self._fabric.directory.update(directory)
        for address in self._members:
            self._fabric.tell(NODE + address, directory)

    # --- telling ---

    def _status(self, _: GetStatus) -> Status:
        now = self._clock.now()
        children = [self._child_status(address, child, now) for address, child in self._supervisor.children.items()]
        others = [
            ActorStatus(address, join.role, "ready", join.pid)
            for address, join in self._members.items()
            if address not in self._supervisor.children
        ]
        own = ActorStatus(COORDINATOR, "coordinator", "ready", os.getpid(), uptime_s=round(now - self._born, 1))
        name = self._config.name if self._config else ""
        state = "stopping" if self._supervisor.stopping else "ready" if self._supervisor.all_ready else "degraded"
        return Status(name, __version__, state, [own, *children, *others], self._timeline)

    def _child_status(self, address: str, child: Child, now: float) -> ActorStatus:
        join = self._members.get(address)
        return ActorStatus(
            address,
            child.spec.role,
            child.state,
            pid=join.pid if join else 0,
            restarts=child.restarts,
            uptime_s=round(now - child.since, 1) if child.state == "ready" else 0.0,
            detail=child.detail,
        )

    def _parked(self) -> list[str]:
        return [f"{a}: {c.detail}" for a, c in self._supervisor.children.items() if c.state == "parked"]

    def _record(self, kind: str, source: str, **fields: object) -> None:
        workflow = self._config.name if self._config else ""
        self._outbox.emit(Event(kind, self._clock.wall_us(), source, workflow=workflow, **fields))  # type: ignore[arg-type]

    def _mark(self, step: str) -> None:
        self._timeline[step] = round(self._clock.now() - self._born, 3)

    def _notify(self) -> None:
        self._task(self._wake())

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _task(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
