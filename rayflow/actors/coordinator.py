"""The coordinator actor: the supervisor's hands and ears, and the one who tells everybody who is where.

It starts, watches, restarts and stops all others, and never touches a message of a run. A death is learnt from the
backend's notice or from the child's broken connection, whichever comes first, and a hang from missed heartbeats.
Whatever happens goes one way: an event to the supervisor, then `_do`, which tells the directory, writes the record and
carries out the instructions. So a coordinator that dies leaves all it knew behind, and the next one adopts who lives.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from math import ceil
from typing import Any

from rayflow.actors.chronicle import Chronicle
from rayflow.actors.hands import Hands
from rayflow.actors.membership import Membership
from rayflow.actors.roll_call import status
from rayflow.actors.rolling import Rolling
from rayflow.actors.scaling import Scaling
from rayflow.clock import Clock
from rayflow.errors import ConfigurationError, Conflict, NotFound, StorageError, Unavailable, WorkflowError
from rayflow.messages import (
    Drained,
    GetStatus,
    Join,
    KeepFeeders,
    Launch,
    Leave,
    Payload,
    Ping,
    Pong,
    Ready,
    Reconfigure,
    Reconfigured,
    ScaleCapacity,
    Scaled,
    Shutdown,
    Status,
    Welcome,
)
from rayflow.policies.restart import ExitReason
from rayflow.policies.scaling import Target
from rayflow.runtime.configurations import Configurations
from rayflow.runtime.ledger import Holder, Knowledge, Ledger
from rayflow.runtime.ports import ENDED, Backend, Fabric, Handler, Record
from rayflow.runtime.recall import holders, revive
from rayflow.runtime.rollout import check
from rayflow.runtime.roster import COORDINATOR, ROLES, node_address, roster
from rayflow.runtime.supervision.feeders import Feeders
from rayflow.runtime.supervision.fleet import Fleet, Size
from rayflow.runtime.supervision.instructions import Instruction, Spawn
from rayflow.runtime.supervision.supervisor import ADOPT_S, HANG_S, Supervisor

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
VERSIONS = 1000
"""More versions of the directory than can have been pushed and not put on record."""


class Coordinator:
    """`record`: where what it knows outlives it."""

    def __init__(self, fabric: Fabric, backend: Backend, clock: Clock, rng: random.Random, record: Record) -> None:
        self._fabric = fabric
        self._backend = backend
        self._clock = clock
        self._rng = rng
        self._ledger = Ledger(record)
        self._chronicle = Chronicle(fabric, clock)
        self._supervisor = Supervisor()
        # Its versions start at the time, so that the directory of a later run replaces this one's.
        self._membership = Membership(fabric, clock.wall_us())
        self._configs = Configurations()
        self._fleet = Fleet(self._configs)
        self._feeders = Feeders()
        self._scaling = Scaling(fabric, clock, self._size, self._decided)
        self._hands = Hands(fabric, backend, self._wanted, self._on_exit)
        self._rolling: asyncio.Task[Reconfigured] | None = None
        self._closed = False
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {
            Launch: self._launch,
            Join: self._join,
            Ready: self._ready,
            Leave: self._leave,
            GetStatus: self._status,
            Reconfigure: self._reconfigure,
            ScaleCapacity: self._scale,
            KeepFeeders: self._keep_feeders,
            Shutdown: self._shutdown,
            Ping: lambda _: Pong(COORDINATOR, os.getpid()),
        }

    async def start(self) -> None:
        """Go on where an earlier coordinator of this run left off; else wait for `Launch`."""
        self._backend.on_exit(self._on_exit)
        known = self._ledger.read()
        if known is not None:
            self._adopt(known)
        self._task(self._listen())

    async def drain(self, budget_s: float) -> list[str]:
        return (await self._shutdown(Shutdown("coordinator is stopping", budget_s))).left

    async def stop(self) -> None:
        """From here on deaths are nobody's business: nothing is started again."""
        self._closed = True
        self._chronicle.close()
        self._scaling.close()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._ledger.close()

    # --- starting ---

    async def _launch(self, request: Launch) -> Status:
        """Asked again for the same workflow, or of a coordinator that has adopted it, it says how things are."""
        if self._configs.target and request.config != self._configs.current_json:
            raise Conflict("this coordinator already runs a workflow: reconfigure it, or stop it first")
        first = not self._configs.target
        if first:
            number = self._configs.add(request.config)
            self._scaling.configure(self._configs.parsed[number])
            self._configs.target = number
            self._chronicle.about(self._configs.current)
            self._chronicle.mark("launch")
            self._supervisor = Supervisor(roster(self._configs.current, self._configs.target))
            self._do(self._supervisor.start(self._clock.now()))
        supervisor = self._supervisor
        await self._until(lambda: supervisor.all_ready or supervisor.stopping or bool(self._parked()))
        if first:
            self._launched()
        return self._status(GetStatus())

    def _launched(self) -> None:
        if not self._supervisor.all_ready:
            raise Unavailable("the workflow did not start: " + "; ".join(self._parked() or ["stopped while starting"]))
        self._chronicle.mark("ready")
        facts = {"timeline": self._chronicle.timeline}
        self._chronicle.record("system.started", duration_ms=self._chronicle.age_s * 1000, data=facts)
        self._scaling.run()

    async def _join(self, request: Join) -> Welcome:
        """A process listens. A child is welcomed when its turn in the start order has come, anybody else at once."""
        address, epoch = request.entry.address, request.entry.epoch
        if not self._configs.target:
            raise Unavailable("the workflow has not been launched yet", retry_after_s=1)
        if request.role not in ROLES:
            self._membership.enter(request)
            self._do(())
            return Welcome(self._configs.current_json, self._membership.directory)
        incarnation = self._supervisor.incarnation(address, epoch)
        if incarnation is not None:
            self._membership.enter(request)
            if request.ready:
                self._serves(address, epoch, {})
            else:
                self._do(self._supervisor.joined(address, epoch, self._clock.now()))
            await self._until(lambda: incarnation.state != "joined" or not self._wanted(address, epoch))
        if incarnation is None or not self._wanted(address, epoch):
            self._task(self._hands.kill(address, epoch))
            raise Conflict(f"{address} has no place for incarnation {epoch} any more", address=address, epoch=epoch)
        return Welcome(self._configs.json[incarnation.spec.generation], self._membership.directory)

    def _wanted(self, address: str, epoch: int) -> bool:
        return self._supervisor.incarnation(address, epoch) is not None

    def _ready(self, message: Ready) -> None:
        self._serves(message.address, message.epoch, message.boot)

    def _serves(self, address: str, epoch: int, boot: dict[str, float]) -> None:
        incarnation, join = self._supervisor.incarnation(address, epoch), self._membership.find(address, epoch)
        if incarnation is None or join is None:
            return
        before = incarnation.state
        instructions = self._supervisor.ready(address, epoch, self._clock.now())
        if incarnation.state == "ready" and before in ("starting", "booting"):
            self._chronicle.mark(address)
            self._chronicle.record("actor.started", address, epoch=epoch, data={"pid": join.pid, "boot": boot})
        self._do(instructions)

    # --- adopting ---

    def _adopt(self, known: Knowledge) -> None:
        """The children that are on record are expected to live. Until that is certain, the directory says so: nobody
        sees the system shrink because its coordinator was replaced."""
        self._configs = Configurations(known.configs, known.target)
        self._chronicle.about(self._configs.current)
        version = max(self._clock.wall_us(), known.version + VERSIONS)
        self._membership = Membership(self._fabric, version, known.retired)
        self._supervisor, self._fleet, instructions = revive(known, self._configs, self._clock.now())
        self._feeders.found(self._supervisor, self._clock.now())
        for join in (*(holder.join for holder in known.holders), *known.guests):
            if join is not None:
                self._membership.enter(join)
        self._do(instructions)
        for holder in known.holders:
            self._task(self._find(holder))
        for guest in known.guests:
            self._task(self._find_guest(guest))
        self._task(self._adopted(len(known.holders)))

    async def _find(self, holder: Holder) -> None:
        node = holder.join.entry.node if holder.join is not None else ""
        if not await self._backend.adopt(holder.address, holder.epoch, node):
            self._lose(holder.address, holder.epoch, "died while the coordinator was away")

    async def _find_guest(self, guest: Join) -> None:
        address, epoch = guest.entry.address, guest.entry.epoch
        try:
            await self._fabric.ask(node_address(address, epoch), Ping(), ADOPT_S)
        except WorkflowError:
            self._membership.leave(address, epoch)
            self._do(())

    async def _adopted(self, expected: int) -> None:
        """Say how it went, and finish a reconfiguration that was under way."""
        supervisor = self._supervisor
        await self._until(lambda: not supervisor.adopting)
        facts = {"expected": expected, "alive": sum(child.state == "ready" for child in supervisor.children.values())}
        self._chronicle.record("system.adopted", duration_ms=self._chronicle.age_s * 1000, data=facts)
        if len(self._configs.json) > 1 and not supervisor.stopping:
            before = next(number for number in self._configs.json if number != self._configs.target)
            self._roll(before, self._configs.target)
        else:
            self._scale_on()

    # --- watching ---

    async def _listen(self) -> None:
        """Heartbeats: death is seen by others, but a process that hangs only shows by its silence."""
        while True:
            before = self._clock.now()
            for address, child in self._supervisor.children.items():
                if child.state in ("ready", "adopting"):
                    self._task(self._ping(address, child.epoch))
            await asyncio.sleep(HEARTBEAT_S)
            now = self._clock.now()
            if now - before > HANG_S / 2:
                self._supervisor.excuse(now)
            for address, epoch, why in self._supervisor.overdue(now):
                self._lose(address, epoch, why)
            self._tick()

    async def _ping(self, address: str, epoch: int) -> None:
        with suppress(WorkflowError):
            await self._fabric.ask(node_address(address, epoch), Ping(), HEARTBEAT_S)
            adopting = self._supervisor.adopting
            instructions = self._supervisor.heard(address, epoch, self._clock.now())
            if adopting:
                self._do(instructions)

    def peer_lost(self, endpoint: str) -> None:
        """The fabric lost a connection: whoever listened there is dead or cut off."""
        for join in self._membership.at(endpoint):
            if join.role in ROLES:
                self._lose(join.entry.address, join.entry.epoch, "connection lost")
            else:
                self._membership.leave(join.entry.address, join.entry.epoch)
                self._do(())

    def _leave(self, message: Leave) -> None:
        for guest in self._membership.guests:
            if guest.entry.address == message.address:
                self._membership.leave(message.address, guest.entry.epoch)
                self._do(())

    def _on_exit(self, address: str, epoch: int, detail: str) -> None:
        now, reason = self._clock.now(), _reason(detail)
        self._ended(
            address, epoch, detail, lambda: self._supervisor.exited(address, epoch, reason, detail, now, self._rng)
        )

    def _lose(self, address: str, epoch: int, why: str) -> None:
        now = self._clock.now()
        self._ended(address, epoch, why, lambda: self._supervisor.lost(address, epoch, why, now, self._rng))

    def _ended(self, address: str, epoch: int, detail: str, event: Callable[[], list[Instruction]]) -> None:
        incarnation = self._supervisor.incarnation(address, epoch)
        if incarnation is None:
            return
        child, asked = self._supervisor.children[address], incarnation.state == "stopping"
        instructions = event()
        self._membership.leave(address, epoch)
        if asked:
            self._chronicle.record("actor.stopped", address, epoch=epoch)
        elif child.state == "parked":
            log.error("%s died too often and stays down for a while: %s", address, detail)
            facts = {"restarts": child.restarts}
            self._chronicle.record("actor.parked", address, epoch=epoch, error_message=detail, data=facts)
        else:
            log.warning("%s was lost: %s", address, detail)
            self._chronicle.record("actor.lost", address, epoch=epoch, error_message=detail)
        self._do(instructions)

    # --- stopping ---

    async def _shutdown(self, request: Shutdown) -> Drained:
        self._chronicle.record("system.stopping", data={"reason": request.reason})
        self._chronicle.flush()
        self._do(self._supervisor.shutdown(request.budget_s, self._clock.now()))
        await self._until(lambda: self._supervisor.all_stopped)
        return Drained(self._hands.left)

    # --- reconfiguring ---

    async def _reconfigure(self, request: Reconfigure) -> Reconfigured:
        """It goes on when whoever asked for it leaves."""
        if not self._configs.target or self._supervisor.stopping or self._supervisor.adopting:
            raise Unavailable("the workflow is not running: it cannot be reconfigured now", retry_after_s=1)
        if self._rolling is not None:
            raise Conflict("another reconfiguration is under way: wait for its end")
        number = self._configs.add(request.config)
        try:
            check(self._configs.current, self._configs.parsed[number])
            self._scaling.check(self._configs.parsed[number])
        except ConfigurationError:
            self._configs.drop(number)
            raise
        return await asyncio.shield(self._roll(self._configs.target, number))

    def _roll(self, before: int, target: int) -> asyncio.Task[Reconfigured]:
        rolling = Rolling(
            self._supervisor,
            self._fleet,
            self._configs,
            self._membership,
            self._fabric,
            self._chronicle,
            self._clock,
            self._do,
            self._until,
        )
        self._rolling = self._task(rolling.over(before, target))
        self._rolling.add_done_callback(self._rolled)
        return self._rolling

    def _rolled(self, done: asyncio.Task[Reconfigured]) -> None:
        self._rolling = None
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("the reconfiguration failed: %s", error)
        self._scale_on()

    # --- scaling ---

    def _scale_on(self) -> None:
        """By the present configuration, and what was decided before."""
        if self._supervisor.stopping:
            return
        try:
            self._scaling.configure(self._configs.current)
        except ConfigurationError as error:
            log.error("pools are scaled as before: %s", error.message)
        self._scaling.run()
        self._do(())

    def _scale(self, request: ScaleCapacity) -> Scaled:
        if not self._configs.target or self._supervisor.stopping:
            raise Unavailable("the workflow is not running: it cannot be scaled now", retry_after_s=1)
        agents = [agent.name for agent in self._configs.current.agents]
        if request.agent and request.agent not in agents:
            raise NotFound(f"there is no agent {request.agent!r}", kind="agent", id=request.agent)
        chosen = [request.agent] if request.agent else agents
        for agent in chosen:
            by_factor = ceil(self._fleet.target(agent) * request.factor)
            self._scaling.by_hand(agent, by_factor if request.replicas is None else request.replicas)
        return Scaled({agent: self._fleet.target(agent) for agent in chosen})

    def _keep_feeders(self, request: KeepFeeders) -> None:
        if not self._configs.target or self._supervisor.stopping:
            raise Unavailable("the workflow is not running: it has no feeders now", retry_after_s=1)
        self._feeders.wish(request.job_id, request.number, self._clock.now())
        self._do(())

    def _size(self, agent: str) -> Size | None:
        known = any(each.name == agent for each in self._configs.current.agents)
        return self._fleet.size(agent, self._supervisor) if known else None

    def _decided(self, agent: str, target: Target, strategy: str) -> None:
        before = self._fleet.target(agent)
        after = self._fleet.scale(agent, target.replicas)
        if after != before:
            facts = {"from": before, "to": after, "reason": target.reason}
            log.info("%s is scaled from %d to %d: %s", agent, before, after, target.reason)
            self._chronicle.record("pool.scaled", agent=agent, strategy=strategy, data=facts)
            self._do(())

    # --- carrying out ---

    def _do(self, instructions: Iterable[Instruction]) -> None:
        """After every event: first it is known and on record, then it is done."""
        if self._closed:
            return
        steady = self._rolling is None and not self._supervisor.adopting
        instructions = [*instructions, *self._settle(steady)]
        self._membership.show(self._fleet.serving(self._supervisor))
        try:
            self._ledger.write(self._knowledge())
        except StorageError as error:
            # Healing goes on: the next coordinator only knows less.
            log.error("%s", error.message)
        for instruction in instructions:
            if isinstance(instruction, Spawn) and instruction.attempt:
                facts = {"attempt": instruction.attempt, "delay_s": round(instruction.delay_s, 3)}
                self._chronicle.record("actor.restarted", instruction.spec.address, epoch=instruction.epoch, data=facts)
            self._task(self._hands.carry_out(instruction))
        self._set_timer()
        self._news.set()
        self._news = asyncio.Event()

    def _settle(self, steady: bool) -> Iterator[Instruction]:
        """What is missing between the children there are and those there should be."""
        now = self._clock.now()
        yield from self._fleet.settle(self._supervisor, now, steady=steady)
        if self._configs.target:
            config, generation = self._configs.current, self._configs.target
            yield from self._feeders.settle(self._supervisor, config, generation, now, steady=steady)

    def _tick(self) -> None:
        self._do(self._supervisor.tick(self._clock.now()))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._supervisor.due()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock.now()), self._tick)

    # --- knowing ---

    def _knowledge(self) -> Knowledge:
        return Knowledge(
            target=self._configs.target,
            configs=self._configs.json,
            stopping=self._supervisor.stopping,
            epochs=self._supervisor.epochs,
            holders=holders(self._supervisor, self._membership.find),
            guests=self._membership.guests,
            retired=list(self._membership.retired),
            version=self._membership.directory.version,
            sizes=self._fleet.targets,
            spares=self._fleet.spares(self._supervisor),
        )

    def _status(self, _: GetStatus) -> Status:
        config = self._configs.current if self._configs.target else None
        return status(
            config.name if config is not None else "",
            self._supervisor,
            self._membership,
            self._chronicle,
            self._fleet,
            self._scaling.strategies(),
            self._clock.now(),
            rolling=self._rolling is not None,
        )

    def _parked(self) -> list[str]:
        return [f"{a}: {c.detail}" for a, c in self._supervisor.children.items() if c.state == "parked"]

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._news.wait()

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _reason(detail: str) -> ExitReason:
    return "normal" if detail == ENDED else "abnormal"
