"""SIGKILL: a process is gone in the middle of whatever it did."""

from __future__ import annotations

import os
import signal

from faults.fault import Fault
from faults.pacing import Pacer
from faults.recorded import problems_of_log
from faults.scene import Scene
from faults.watch import Snapshot


class Kill(Fault):
    """One process of a role, again and again, each time after the last one healed."""

    def __init__(
        self, name: str, role: str, *, times: int = 30, shards: int = 1, gap_s: float = 2.0, store: str = "sqlite"
    ) -> None:
        self.name = name
        self.promise = f"kill -9 of {role}: nothing acknowledged is lost, no error where a retry is safe, back in 5 s"
        self.times = times
        self.shards = shards
        self.store = store
        self._role = role
        self._gap_s = gap_s

    async def inject(self, scene: Scene) -> None:
        pacer = Pacer(scene.rng)
        for _ in range(scene.times):
            await scene.pause(0.1, self._gap_s)
            victim = await scene.system.victim(self._role, pacer)
            before = await scene.system.watch.look()
            injection = scene.injected(victim.address)
            os.kill(victim.pid, signal.SIGKILL)
            await scene.healed(injection, victim)
            if injection.heal_s is None:
                return
            if others := _replaced(before, await scene.system.watch.look(), victim.address):
                scene.problems.append(f"the death of {victim.address} also replaced {', '.join(others)}")


class KillEventLog(Kill):
    """In whose files every acknowledged run must be, once."""

    def __init__(self) -> None:
        super().__init__("eventlog", "eventlog", times=50)
        self.promise = "kill -9 of eventlog: no event is lost, none is there twice, and no run hears of it"

    async def examine(self, scene: Scene) -> list[str]:
        return await problems_of_log(scene.system.state / "events", scene.load.operations)


def _replaced(before: Snapshot, after: Snapshot, victim: str) -> list[str]:
    """Who else has another process than before."""
    return [
        address
        for address, actor in before.actors.items()
        if address != victim and address in after.actors and after.actors[address].pid != actor.pid
    ]


KILLS: tuple[Fault, ...] = (
    Kill("agent", "agent"),
    Kill("router", "router"),
    Kill("aggregator", "aggregator"),
    Kill("store", "session"),
    Kill("coordinator", "coordinator"),
    Kill("ingress", "ingress"),
    KillEventLog(),
    Kill("store-200", "session", times=200, shards=4, gap_s=1.0),
    Kill("store-postgres", "session", times=200, shards=4, gap_s=1.0, store="postgres"),
    Kill("store-redis", "session", times=200, shards=4, gap_s=1.0, store="redis"),
)
