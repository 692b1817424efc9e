"""What an operator does on purpose, under load: stopping, and a new configuration."""

from __future__ import annotations

import asyncio
import signal
import time

import aiohttp

from faults.answers import parts
from faults.fault import Fault
from faults.operations import Operation, Outcome
from faults.scene import Injection, Scene

READY_POLL_S = 0.02


class Sigterm(Fault):
    """SIGTERM to `serve` under load, then a new start on the same state folder."""

    name = "sigterm"
    promise = "SIGTERM: readiness turns 503 first, every request that was accepted gets its answer, exit code 0"
    times = 3
    stream_error_s = 0.0

    async def inject(self, scene: Scene) -> None:
        exits: list[int | None] = []
        for number in range(scene.times):
            await scene.pause(1.5, 2.5)
            system = scene.system
            round_ = scene.injected("serve", heals=False)
            family = system.served.family()
            system.served.process.send_signal(signal.SIGTERM)
            readiness = asyncio.create_task(_readiness(scene))
            code = await system.ended()
            round_.until_s = time.monotonic()
            exits.append(code)
            scene.say(f"{number + 1}/{scene.times} serve ended with {code} after {round_.until_s - round_.at_s:.1f} s")
            if code != 0:
                scene.problems.append(f"serve ended with {code}, not 0")
            if not await readiness:
                scene.problems.append("connections were refused before /readyz had said 503")
            await scene.load.stop()
            if left := [process for process in family if process.is_running()]:
                scene.problems.append(f"left behind: {left}")
            await system.watch.close()
            await asyncio.to_thread(system.served.kill)
            await system.start()
            round_.until_s = time.monotonic()
            scene.load.start()
        scene.notes["exit_codes"] = exits

    def excuses(self, operation: Operation, scene: Scene) -> bool:
        """Whoever comes after the signal may be turned away, but not left without an answer that had begun."""
        late = any(i.at_s <= operation.sent_s <= i.until_s for i in scene.injections)
        turned_away = operation.status == 503 and operation.outcome is Outcome.FAIL
        nobody = operation.outcome is Outcome.REFUSED and operation.first_byte_s is None
        return late and (turned_away or nobody)


async def _readiness(scene: Scene) -> bool:
    """Whether /readyz says 503 before nobody listens any more."""
    while True:
        try:
            if await scene.system.client.ready() == 503:
                return True
        except aiohttp.ClientConnectorError:
            return False
        except (aiohttp.ClientError, ConnectionError):
            pass  # this listener closed while we asked; the next one may still be there
        await asyncio.sleep(READY_POLL_S)


class Reconfigure(Fault):
    """The prompts change in the workflow file, and `rayflow reload` rolls the change out."""

    name = "reconfigure"
    promise = "rolling reconfigure: no failed request, and the new configuration holds once the command returns"
    times = 5
    stream_error_s = 0.0

    async def inject(self, scene: Scene) -> None:
        system = scene.system
        took: list[float] = []
        changed: list[tuple[float, int]] = []
        for number in range(scene.times):
            await scene.pause(1.0, 2.0)
            injection = scene.injected(f"edition {system.edition + 1}")
            system.edition += 1
            system.write()
            code, said = await system.reload()
            injection.until_s = time.monotonic()
            took.append(round(injection.until_s - injection.at_s, 2))
            scene.say(f"{number + 1}/{scene.times} reload ended with {code} after {took[-1]:.1f} s")
            if code != 0:
                scene.problems.append(f"rayflow reload ended with {code}: {said[-200:]}")
                injection.heals = False
                break
            changed.append((injection.until_s, system.edition))
            _, healed_s = await system.whole(self.heal_s)
            injection.heal_s = None if healed_s is None else time.monotonic() - injection.until_s
        await scene.pause(1.0, 1.0)
        scene.notes["reload_s"] = took
        scene.problems += _outdated(scene.load.operations, changed, scene.injections)


def _outdated(operations: list[Operation], changed: list[tuple[float, int]], injections: list[Injection]) -> list[str]:
    """Answers of an old edition to questions that were asked when the change was complete."""
    found = 0
    for at_s, edition in changed:
        next_s = min((i.at_s for i in injections if i.at_s > at_s), default=float("inf"))
        asked = [o for o in operations if o.acknowledged and at_s <= o.sent_s and o.ended_s < next_s]
        found += sum(1 for o in asked if any(part.edition != edition for part in parts(o.answer)))
    return [f"{found} answers of an old edition after the reload was complete"] if found else []


CHANGES: tuple[Fault, ...] = (Sigterm(), Reconfigure())
