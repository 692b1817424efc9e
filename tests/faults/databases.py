"""The database server that keeps the sessions is gone for a moment, under load."""

from __future__ import annotations

import asyncio
import time

from faults.fault import Fault, during
from faults.operations import Operation
from faults.scene import Scene
from faults.system import HEAL_S

RECENT = 500
"""Operations among which those that were just answered are looked for."""


class Restart(Fault):
    """It crashes and is started again a moment later."""

    times = 20
    shards = 4
    stream_error_s = 10.0
    heal_s = 10.0

    def __init__(self, store: str) -> None:
        self.name = f"restart-{store}"
        self.store = store
        self.promise = f"{store} crashes and comes back: requests wait or get 503, nothing acknowledged is lost"

    async def inject(self, scene: Scene) -> None:
        server = scene.system.database
        assert server is not None, "the system was started with this fault's store"
        for number in range(scene.times):
            await scene.pause(0.5, 2.0)
            injection = scene.injected(self.store)
            server.crash()
            await scene.pause(0.1, 1.0)
            await asyncio.to_thread(server.start)
            injection.until_s = time.monotonic()
            while not _answers(scene, injection.until_s) and time.monotonic() < injection.at_s + HEAL_S:
                await asyncio.sleep(0.02)
            if _answers(scene, injection.until_s):
                injection.heal_s = time.monotonic() - injection.at_s
            scene.say(f"{number + 1}/{scene.times} {self.store}: answers again after {injection.heal_s} s")

    def excuses(self, operation: Operation, scene: Scene) -> bool:
        return operation.status == 503 and during(operation, scene.injections, 1.0)


def _answers(scene: Scene, since_s: float) -> bool:
    """Whether a request was acknowledged since then."""
    return any(operation.acknowledged and operation.ended_s > since_s for operation in scene.load.operations[-RECENT:])


DATABASES: tuple[Fault, ...] = (Restart("postgres"), Restart("redis"))
