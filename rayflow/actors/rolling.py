"""A rolling reconfiguration: one child at a time, none out of service before its successor serves.

Agents that are new come before the routers that send to them, and agents that go leave after the last router that sends
to them: so phases are gone through upwards for what is added and replaced, and downwards for what is removed. It is all
or nothing: where a child does not come up with the new configuration, those that did go back, by the same way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

from msgspec import structs

from rayflow.actors.chronicle import Chronicle
from rayflow.actors.membership import Membership
from rayflow.clock import Clock
from rayflow.errors import Unavailable, WorkflowError
from rayflow.messages import Configure, Join, Reconfigured
from rayflow.runtime.configurations import Configurations
from rayflow.runtime.ports import Fabric
from rayflow.runtime.rollout import Plan, plan
from rayflow.runtime.roster import node_address
from rayflow.runtime.supervision.fleet import Fleet
from rayflow.runtime.supervision.instructions import Instruction
from rayflow.runtime.supervision.specs import ChildSpec
from rayflow.runtime.supervision.supervisor import Supervisor

log = logging.getLogger(__name__)

CONFIGURE_S = 5.0

Do = Callable[[Iterable[Instruction]], None]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Rolling:
    """`do` puts on record what is so and carries out instructions, `until` waits until something is true."""

    def __init__(
        self,
        supervisor: Supervisor,
        fleet: Fleet,
        configs: Configurations,
        membership: Membership,
        fabric: Fabric,
        chronicle: Chronicle,
        clock: Clock,
        do: Do,
        until: Until,
    ) -> None:
        self._supervisor = supervisor
        self._fleet = fleet
        self._configs = configs
        self._membership = membership
        self._fabric = fabric
        self._chronicle = chronicle
        self._clock = clock
        self._do = do
        self._until = until

    async def over(self, before: int, target: int) -> Reconfigured:
        """Go over to the configuration `target`, or back to `before`. Raises `Unavailable` when it had to go back."""
        began = self._clock.now()
        try:
            done = await self._to(target)
        except Unavailable as failure:
            facts = {"error": failure.slug, "error_message": failure.message}
            self._say("error", began, **facts)
            raise await self._back(before, failure) from failure
        self._say("ok", began, data=structs.asdict(done))
        return done

    async def _back(self, before: int, failure: Unavailable) -> Unavailable:
        """What to say of this failure, when things are again as they were."""
        if self._supervisor.stopping:
            return failure
        try:
            await self._to(before)
        except Unavailable as error:
            message = f"{failure.message}; and going back failed too: {error.message}: reconfigure again"
            return Unavailable(message, **error.details)
        return Unavailable(f"{failure.message}; the workflow goes on as it was", **failure.details)

    async def _to(self, target: int) -> Reconfigured:
        """From whatever the children are to this configuration; then everybody else is told."""
        self._configs.target = target
        self._do(())
        children = self._supervisor.children
        running = [child.spec for child in children.values() if not child.removed]
        pools = self._fleet.pools([spec.address for spec in running], children)
        todo = plan(running, self._configs.parsed, target, pools)
        await self._carry_out(todo)
        self._configs.settle({i.spec.generation for c in self._supervisor.children.values() for i in c.incarnations()})
        self._chronicle.about(self._configs.current)
        self._do(())
        await asyncio.gather(*(self._tell(guest) for guest in self._membership.guests))
        return Reconfigured(*([spec.address for spec in specs] for specs in (todo.replaced, todo.added, todo.removed)))

    async def _carry_out(self, todo: Plan) -> None:
        supervisor, now = self._supervisor, self._clock.now
        for added, replaced in _upwards(todo):
            for spec in added:
                self._do(supervisor.add(spec, now()))
            for spec in added:
                await self._up(spec)
            for spec in replaced:
                self._do(supervisor.replace(spec, now()))
                await self._up(spec)
        for spec in todo.kept:
            supervisor.relabel(spec)
        for _, removed in groupby(todo.removed, lambda spec: spec.group.phase):
            await self._remove([spec.address for spec in removed])

    async def _up(self, spec: ChildSpec) -> None:
        """Wait until the child is what its spec says, and nobody before it has work in flight. Raises `Unavailable` at
        its first death."""
        await self._until(lambda: self._serves(spec) or bool(self._fault(spec)))
        if fault := self._fault(spec):
            raise Unavailable(f"{spec.address} did not come up: {fault}", address=spec.address)

    async def _remove(self, addresses: list[str]) -> None:
        for address in addresses:
            self._do(self._supervisor.remove(address, self._clock.now()))
        await self._until(lambda: not self._supervisor.children.keys() & addresses or self._supervisor.stopping)

    def _serves(self, spec: ChildSpec) -> bool:
        child = self._supervisor.children[spec.address]
        return child.state == "ready" and child.spec == spec and not child.leaving

    def _fault(self, spec: ChildSpec) -> str:
        stopping = "the workflow is being stopped" if self._supervisor.stopping else ""
        return stopping or self._supervisor.children[spec.address].detail

    async def _tell(self, guest: Join) -> None:
        to = node_address(guest.entry.address, guest.entry.epoch)
        try:
            await self._fabric.ask(to, Configure(self._configs.current_json), CONFIGURE_S)
        except WorkflowError as error:
            log.warning("%s was not told the new configuration: %s", guest.entry.address, error.message)

    def _say(self, status: str, began: float, **facts: Any) -> None:
        took_ms = (self._clock.now() - began) * 1000
        self._chronicle.record("system.reconfigured", status=status, duration_ms=took_ms, **facts)


def _upwards(todo: Plan) -> Iterator[tuple[list[ChildSpec], list[ChildSpec]]]:
    """What is added and what is replaced, phase by phase."""
    for phase in sorted({spec.group.phase for spec in (*todo.added, *todo.replaced)}):
        yield (
            [spec for spec in todo.added if spec.group.phase == phase],
            [spec for spec in todo.replaced if spec.group.phase == phase],
        )
