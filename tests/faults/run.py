"""One fault from its load to its report."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from faults.checker import Turn, check
from faults.fault import Fault
from faults.load import Load
from faults.operations import write_log
from faults.report import Aftermath, Report, report
from faults.scene import Scene
from faults.system import System

SETTLE_S = 0.5
QUIET_S = 3.0
READERS = 16


async def run_fault(
    fault: Fault,
    system: System,
    *,
    times: int,
    rate: float,
    seed: int,
    warm_up_s: float,
    say: Callable[[str], None],
) -> Report:
    """Inject `fault` into `system` under load, and judge. The operation log stays in the system's folder."""
    rng = random.Random(f"{seed} {fault.name}")
    system.upstream.calls.clear()
    retried = system.client.retried
    load = Load(system.client, fault.name, rate, rng)
    scene = Scene(system, load, rng, times, say)
    load.start()
    await asyncio.sleep(warm_up_s)
    before = system.footprint()
    try:
        await fault.inject(scene)
        await asyncio.sleep(SETTLE_S)
    finally:
        await load.stop()
        write_log(load.operations, system.folder / f"{fault.name}.jsonl")
    scene.problems += await fault.examine(scene)
    found, _ = await system.watch.until(lambda now: fault.recovered(now, scene), 2.0)
    aftermath = Aftermath(
        findings=check(load.operations, await _histories(system, load)),
        strays=await system.strays(),
        open_calls=await system.upstream.idle(QUIET_S),
        damaged_shards=await asyncio.to_thread(system.damaged_shards),
        recovered=fault.recovered(found, scene),
        before=before,
        after=system.footprint(),
    )
    return report(fault, scene, aftermath, system.client.retried - retried)


async def _histories(system: System, load: Load) -> dict[str, list[Turn]]:
    """Of every session of the load."""
    turnstile = asyncio.Semaphore(READERS)

    async def read(session: str) -> list[Turn]:
        async with turnstile:
            return await system.client.history(session)

    sessions = sorted({operation.session for operation in load.operations})
    return dict(zip(sessions, await asyncio.gather(*map(read, sessions)), strict=True))
