"""What a trial is: clients that do what they should not all do at once, and a look at what they left behind.

A fault is injected into a load that is always the same. A trial makes a load of its own, and knows itself what was
promised to it.
"""

from __future__ import annotations

import os
import random
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from faults.pacing import Pacer
from faults.system import System
from faults.watch import Actor
from faults.wire import Answer, Connection


@dataclass(slots=True)
class Ground:
    """What a trial works with, and what it writes down. `times`: how large it is to be, in its own measure."""

    system: System
    rng: random.Random
    times: int
    say: Callable[[str], None]
    requests: int = 0
    acknowledged: int = 0
    problems: list[str] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.system.served.url.rsplit(":", 1)[1])

    async def doors(self) -> list[int]:
        """The ingress processes, by process id."""
        return [actor.pid for actor in (await self.system.watch.look()).of("ingress") if actor.state == "ready"]

    async def kill(self, role: str, pacer: Pacer) -> None:
        """One of that role, as soon as one may be hurt; then wait until it is replaced."""
        victim = await self.system.victim(role, pacer)
        os.kill(victim.pid, signal.SIGKILL)
        await self.expect_replaced(victim)

    async def expect_replaced(self, victim: Actor) -> None:
        self.expect(await self.system.replaced(victim), f"{victim.address} was not replaced")

    def expect(self, kept: bool, broken: str) -> None:
        if not kept:
            self.problems.append(broken)

    async def history(self, session: str) -> list[Told]:
        """All turns of a session; none where it does not exist."""
        connection, turns, after = await Connection.open(self.port), list[Told](), 0
        try:
            while True:
                answer: Answer = await connection.ask("GET", f"/sessions/{session}/history?after={after}&limit=1000")
                if answer.status == 404:
                    return []
                assert answer.status == 200, answer
                page = answer.json
                turns += [
                    Told(t["role"], t["content"] or "", t["status"] == "partial", t["run_id"], t.get("usage"))
                    for t in page["turns"]
                ]
                if page["next_after"] is None:
                    return turns
                after = page["next_after"]
        finally:
            connection.hang_up()


@dataclass(frozen=True, slots=True)
class Told:
    """One turn, as the history tells it."""

    role: str
    text: str
    partial: bool
    run_id: str
    usage: dict[str, object] | None


class Trial(ABC):
    """`promise` in a line. `times`: how large it is unless asked otherwise, in units of `measure`."""

    name: str
    promise: str
    measure: str
    times: int
    shards: int = 1
    store: str = "sqlite"
    through_proxy: bool = False

    @abstractmethod
    async def run(self, ground: Ground) -> None: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons`: why it failed; empty where it passed."""

    fault: str
    promise: str
    trials: int
    requests: int
    acknowledged: int
    notes: dict[str, object]
    reasons: list[str]

    @property
    def passed(self) -> bool:
        return not self.reasons

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "passed": self.passed}


EXAMPLES = 8


async def run_trial(trial: Trial, system: System, *, times: int, seed: int, say: Callable[[str], None]) -> Verdict:
    ground = Ground(system, random.Random(f"{seed} {trial.name}"), times, say)
    await trial.run(ground)
    found = ground.problems
    reasons = found[:EXAMPLES] + ([f"and {len(found) - EXAMPLES} more"] if len(found) > EXAMPLES else [])
    return Verdict(trial.name, trial.promise, times, ground.requests, ground.acknowledged, ground.notes, reasons)
