"""SIGSTOP and crash loops: processes that are there and do no good."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from functools import partial

import psutil

from faults.fault import Fault, during
from faults.operations import Operation, Outcome
from faults.pacing import Pacer
from faults.scene import Scene
from faults.watch import Actor, Snapshot

OUT_OF_ROTATION_S = 5.0
NOTICED_S = 20.0
"""After so long nobody will notice any more."""
AWAKE_S = 1.0
PARK_S = 60.0


class Freeze(Fault):
    """SIGSTOP of one process until it is replaced; then SIGCONT, if it is still alive: it must not come back."""

    stream_error_s = OUT_OF_ROTATION_S + 1.0
    heal_s = 10.0

    def __init__(self, name: str, role: str, times: int, tolerated: frozenset[int] = frozenset()) -> None:
        self.name = name
        self.promise = f"a frozen {role} is out of rotation within 5 s, and does not come back beside its successor"
        self.times = times
        self._role = role
        self._tolerated = tolerated

    async def inject(self, scene: Scene) -> None:
        pacer = Pacer(scene.rng)
        outs: list[float] = []
        for _ in range(scene.times):
            await scene.pause()
            victim = await scene.system.victim(self._role, pacer)
            injection = scene.injected(victim.address)
            os.kill(victim.pid, signal.SIGSTOP)
            try:
                _, out_s = await scene.system.watch.until(partial(_out_of_rotation, victim=victim), NOTICED_S)
                if out_s is None or out_s > OUT_OF_ROTATION_S:
                    scene.problems.append(
                        f"{victim.address} was still in rotation {out_s or NOTICED_S:.1f} s after it froze"
                    )
                outs.append(round(out_s or NOTICED_S, 2))
                await scene.healed(injection, victim)
            finally:
                injection.until_s = time.monotonic()
                with suppress(ProcessLookupError):
                    os.kill(victim.pid, signal.SIGCONT)
            await asyncio.sleep(AWAKE_S)
            if _serves(await scene.system.watch.look(), victim):
                scene.problems.append(f"{victim.address} serves again in the process that was frozen")
            elif _alive(victim.pid):
                scene.problems.append(f"the frozen process of {victim.address} (pid {victim.pid}) still lives")
        scene.notes["out_of_rotation_s"] = outs

    def excuses(self, operation: Operation, scene: Scene) -> bool:
        return operation.status in self._tolerated and during(operation, scene.injections)


def _serves(found: Snapshot, victim: Actor) -> bool:
    now = found.actors.get(victim.address)
    return now is not None and now.pid == victim.pid and now.state == "ready"


def _out_of_rotation(found: Snapshot, victim: Actor) -> bool:
    """Whether the coordinator, which has to be asked, has given it up."""
    return bool(found.actors) and not _serves(found, victim)


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class CrashLoop(Fault):
    """Every replica of one agent is killed as soon as it is back, until the pool is parked."""

    name = "crash-loop"
    promise = "a crash loop parks its own pool; the other pool answers all along"
    times = 1
    allows_partial = True

    async def inject(self, scene: Scene) -> None:
        await scene.pause()
        loop = scene.injected("agent/alpha", heals=False)
        until = time.monotonic() + PARK_S
        kills = 0
        while time.monotonic() < until:
            found = await scene.system.watch.look()
            pool = _pool(found)
            if pool and all(actor.state == "parked" for actor in pool):
                break
            for actor in pool:
                if actor.pid and actor.state != "parked":
                    with suppress(ProcessLookupError):
                        os.kill(actor.pid, signal.SIGKILL)
                        kills += 1
            await asyncio.sleep(0.1)
        scene.notes["kills"] = kills
        await scene.pause(3.0, 3.0)
        loop.until_s = time.monotonic()

    def excuses(self, operation: Operation, scene: Scene) -> bool:
        """Who asks the broken agent hears that it is down."""
        told = operation.outcome in (Outcome.FAIL, Outcome.STREAM_ERROR) and operation.status in (200, 503)
        return "alpha" in operation.agents and told and during(operation, scene.injections, 1.0)

    def recovered(self, found: Snapshot, scene: Scene) -> bool:
        pool = _pool(found)
        others = [actor for actor in found.actors.values() if actor not in pool]
        parked = bool(pool) and all(actor.state == "parked" for actor in pool)
        return parked and all(actor.state == "ready" for actor in others)


def _pool(found: Snapshot) -> list[Actor]:
    return [actor for actor in found.of("agent") if actor.address.startswith("agent/alpha/")]


HANGS: tuple[Fault, ...] = (
    Freeze("freeze-agent", "agent", 5),
    # Writes to its sessions stall; "then succeed or 503" is the promise.
    Freeze("freeze-store", "session", 5, frozenset({503, 504})),
    CrashLoop(),
)
