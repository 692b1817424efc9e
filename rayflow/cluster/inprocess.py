"""The in-process backend: every actor is an object on one event loop. For tests, quick tries and the simulator.

A "process" here is a task. Killing it drops its actor without draining, as death would. Two incarnations of an address
may live at once while one hands over to the other: each sees the fabric through a `Port` of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.cluster.member import Builder, Member
from rayflow.runtime.ports import ENDED, Fabric


class Machine:
    """What is left when a coordinator dies: the processes, and who has which address."""

    def __init__(self) -> None:
        self.tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.owners: dict[str, Port] = {}


class Port:
    """The fabric as one process sees it: an address is taken over by whoever binds it last, and only that one gives it
    up again."""

    def __init__(self, fabric: InProcessFabric, machine: Machine) -> None:
        self._fabric = fabric
        self._owners = machine.owners

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fabric, name)

    def bind(self, address: str, *handlers: Any, **options: Any) -> None:
        self._owners[address] = self
        self._fabric.bind(address, *handlers, **options)

    def unbind(self, address: str) -> None:
        if self._owners.get(address) is self:
            del self._owners[address]
            self._fabric.unbind(address)

    def close(self) -> None:
        for address in [address for address, owner in self._owners.items() if owner is self]:
            self.unbind(address)


class InProcessBackend:
    """`machine`: of an earlier backend, whose processes can then be adopted."""

    def __init__(self, fabric: InProcessFabric, build: Builder, machine: Machine | None = None) -> None:
        self._fabric = fabric
        self._build = build
        self.machine = machine or Machine()
        self._callback: Callable[[str, int, str], None] | None = None

    def on_exit(self, callback: Callable[[str, int, str], None]) -> None:
        self._callback = callback

    async def spawn(self, address: str, role: str, epoch: int) -> None:
        port = Port(self._fabric, self.machine)
        task = asyncio.create_task(self._live(port, Member(cast(Fabric, port), address, role, epoch)))
        self.machine.tasks[address, epoch] = task
        self._watch(address, epoch, task)

    async def adopt(self, address: str, epoch: int, node: str) -> bool:
        task = self.machine.tasks.get((address, epoch))
        if task is not None:
            self._watch(address, epoch, task)
        return task is not None

    async def kill(self, address: str, epoch: int) -> None:
        if task := self.machine.tasks.get((address, epoch)):
            task.cancel()
            await asyncio.wait({task})

    async def _live(self, port: Port, member: Member) -> None:
        try:
            await member.become(self._build)
            await member.ended.wait()
        finally:
            port.close()

    def _watch(self, address: str, epoch: int, task: asyncio.Task[None]) -> None:
        task.add_done_callback(lambda done: self._exited(address, epoch, done))

    def _exited(self, address: str, epoch: int, task: asyncio.Task[None]) -> None:
        self.machine.tasks.pop((address, epoch), None)
        reason = "killed" if task.cancelled() else str(task.exception() or ENDED)
        if self._callback is not None:
            self._callback(address, epoch, reason)
