"""What a fault works with while it is injected, and what it writes down for the report."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from faults.load import Load
from faults.system import System
from faults.watch import Actor


@dataclass(slots=True)
class Injection:
    """One fault. Monotonic seconds; `until_s`: when it was taken away, where it lasts. `heal_s` is None where it did
    not heal."""

    victim: str
    at_s: float
    until_s: float
    heal_s: float | None = None
    heals: bool = True


@dataclass(slots=True)
class Scene:
    """`times`: how often to inject. `problems`: broken promises that only the fault itself can see."""

    system: System
    load: Load
    rng: random.Random
    times: int
    say: Callable[[str], None]
    injections: list[Injection] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)

    def injected(self, victim: str, *, heals: bool = True) -> Injection:
        now = time.monotonic()
        injection = Injection(victim, now, now, heals=heals)
        self.injections.append(injection)
        return injection

    async def pause(self, least_s: float = 0.5, most_s: float = 2.0) -> None:
        """A random while of undisturbed load."""
        await asyncio.sleep(self.rng.uniform(least_s, most_s))

    async def healed(self, injection: Injection, victim: Actor) -> None:
        """Wait until everything is ready and the victim has a new process."""
        healed = await self.system.replaced(victim)
        injection.heal_s = time.monotonic() - injection.at_s if healed else None
        shown = "did not heal" if injection.heal_s is None else f"healed in {injection.heal_s:.2f} s"
        self.say(f"{len(self.injections)}/{self.times} {victim.address} (pid {victim.pid}): {shown}")
