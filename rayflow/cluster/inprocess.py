"""The in-process backend: every actor is an object on one event loop. For tests, quick tries and the simulator.

A "process" here is a task. Killing it drops its actor without draining, as death would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.cluster.member import Builder, Member


class InProcessBackend:
    def __init__(self, fabric: InProcessFabric, build: Builder) -> None:
        self._fabric = fabric
        self._build = build
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._callback: Callable[[str, int, str], None] | None = None

    def on_exit(self, callback: Callable[[str, int, str], None]) -> None:
        self._callback = callback

    async def spawn(self, address: str, role: str, epoch: int) -> None:
        task = asyncio.create_task(self._live(Member(self._fabric, address, role, epoch)))
        self._tasks[address] = task
        task.add_done_callback(lambda done: self._exited(address, epoch, done))

    async def kill(self, address: str) -> None:
        if task := self._tasks.get(address):
            task.cancel()
            self._fabric.unbind(address)
            await asyncio.wait({task})

    async def _live(self, member: Member) -> None:
        await member.become(self._build)
        await member.ended.wait()

    def _exited(self, address: str, epoch: int, task: asyncio.Task[None]) -> None:
        if self._tasks.get(address) is task:
            del self._tasks[address]
        reason = "killed" if task.cancelled() else str(task.exception() or "ended")
        if self._callback is not None:
            self._callback(address, epoch, reason)
