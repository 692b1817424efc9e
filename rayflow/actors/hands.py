"""The coordinator's hands: they carry out one instruction of the supervisor.

What is done to one address is done in order: whoever comes after an incarnation that is to be killed is spawned when
that one is dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable

from rayflow.errors import WorkflowError
from rayflow.messages import Drain, Drained
from rayflow.runtime.ports import Backend, Fabric
from rayflow.runtime.roster import node_address
from rayflow.runtime.supervision.instructions import Instruction, Kill, Spawn, Stop
from rayflow.runtime.supervision.supervisor import KILL_GRACE_S

log = logging.getLogger(__name__)


class Hands:
    """`wanted` says whether an incarnation still has a place; `ended` takes (address, epoch, why) of one that is no
    more.

    `left`: ids of the work that drains had to leave unfinished.
    """

    def __init__(
        self,
        fabric: Fabric,
        backend: Backend,
        wanted: Callable[[str, int], bool],
        ended: Callable[[str, int, str], None],
    ) -> None:
        self._fabric = fabric
        self._backend = backend
        self._wanted = wanted
        self._ended = ended
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.left: list[str] = []

    async def carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case Spawn(spec, epoch):
                await self._spawn(spec.address, spec.role, epoch)
            case Stop(address, epoch, budget_s):
                await self._stop(address, epoch, budget_s)
            case Kill(address, epoch):
                await self.kill(address, epoch)

    async def kill(self, address: str, epoch: int) -> None:
        async with self._turns[address]:
            await self._backend.kill(address, epoch)
        self._ended(address, epoch, "killed")

    async def _spawn(self, address: str, role: str, epoch: int) -> None:
        async with self._turns[address]:
            if not self._wanted(address, epoch):
                return
            try:
                await self._backend.spawn(address, role, epoch)
            except WorkflowError as error:
                self._ended(address, epoch, error.message)

    async def _stop(self, address: str, epoch: int, budget_s: float) -> None:
        """Its end is learnt as any other; only one that does not take the message is killed at once."""
        to = node_address(address, epoch)
        try:
            drained: Drained = await self._fabric.ask(to, Drain(budget_s), budget_s + KILL_GRACE_S)
            self.left += drained.left
        except WorkflowError as error:
            log.warning("%s did not stop by itself: %s", address, error.message)
            await self.kill(address, epoch)
