"""Modelled replicas: what happens to a call between the moment a router sends it and its end.

Three kinds, for the three ways in which load makes a replica slower: not at all (`Independent`: it waits for a far-away
model), evenly (`Shared`: all calls share its processor), or by making calls wait (`Slotted`).
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from rayflow.simulation.engine import Engine
from rayflow.simulation.faults import HEALTHY, Condition
from rayflow.simulation.scenario import Service

if TYPE_CHECKING:
    from rayflow.simulation.request import Request


Ended = Callable[["Request", bool], None]
"""Called when a call is over, with whether it succeeded."""


class Server:
    """One replica. `in_flight`: calls it has from all routers."""

    def __init__(self, index: int, engine: Engine, rng: random.Random, ended: Ended) -> None:
        self.index = index
        self.in_flight = 0
        self.condition = HEALTHY
        self._engine = engine
        self._rng = rng
        self._ended = ended

    def begin(self, call: Request) -> None:
        """A router sends a call; `ended` follows, or the router calls `stop`."""
        self.in_flight += 1
        now = self._engine.now
        condition = self.condition
        if condition.fail and self._rng.random() < condition.fail:
            self._engine.at(now + condition.fail_after_s, self._failed, call)
        else:
            self._work(call, now)

    def stop(self, call: Request) -> None:
        """Its router gave the call up."""
        self.in_flight -= 1
        if call.working:
            self._give_up()

    def change(self, condition: Condition) -> None:
        """It becomes slow or failing, or heals."""
        self.condition = condition

    def _work(self, call: Request, now: float) -> None:
        raise NotImplementedError

    def _give_up(self) -> None:
        """Free what a call occupied that was being worked on; it is marked as over already."""

    def _succeeded(self, call: Request) -> None:
        self.in_flight -= 1
        self._ended(call, True)

    def _failed(self, call: Request) -> None:
        if not call.over:
            self.in_flight -= 1
            self._ended(call, False)


class Independent(Server):
    """Calls that do not feel each other, and go on at the speed at which they began."""

    def _work(self, call: Request, now: float) -> None:
        slow = self.condition.slow
        call.first_at = now + call.first_s * slow
        self._engine.at(now + call.work_s * slow, self._done, call)

    def _done(self, call: Request) -> None:
        if not call.over:
            self._succeeded(call)


class Slotted(Server):
    """So many calls at once, which go on at the speed at which they began; the others wait in order of arrival."""

    def __init__(self, index: int, engine: Engine, rng: random.Random, ended: Ended, slots: int) -> None:
        super().__init__(index, engine, rng, ended)
        self._free = slots
        self._waiting: deque[Request] = deque()

    def _work(self, call: Request, now: float) -> None:
        if not self._free:
            self._waiting.append(call)
            return
        self._free -= 1
        call.working = True
        slow = self.condition.slow
        call.first_at = now + call.first_s * slow
        self._engine.at(now + call.work_s * slow, self._done, call)

    def _done(self, call: Request) -> None:
        if not call.over:
            self._next()
            self._succeeded(call)

    def _give_up(self) -> None:
        self._next()

    def _next(self) -> None:
        self._free += 1
        while self._waiting:
            call = self._waiting.popleft()
            if not call.over:
                self._work(call, self._engine.now)
                return


class Shared(Server):
    """Calls that share a processor equally, each with no more than one core. With endless cores they do not feel each
    other, but all feel how the replica is.

    Egalitarian processor sharing: all calls under way progress alike, so one clock (`_progress`, in seconds of work
    done for each of them) serves all, and a call is over when the clock has gone on by its work.
    """

    def __init__(self, index: int, engine: Engine, rng: random.Random, ended: Ended, cores: float) -> None:
        super().__init__(index, engine, rng, ended)
        self._cores = cores
        self._progress = 0.0
        self._since = 0.0
        self._working = 0
        self._serial = 0
        self._plan = 0
        self._marks: list[tuple[float, int, Request, bool]] = []
        """When first and last tokens are out, in terms of `_progress`."""

    def change(self, condition: Condition) -> None:
        self._advance()
        self.condition = condition
        self._replan()

    def _work(self, call: Request, now: float) -> None:
        self._advance()
        call.working = True
        self._working += 1
        self._serial += 1
        if call.first_s < call.work_s:
            heapq.heappush(self._marks, (self._progress + call.first_s, self._serial, call, False))
        heapq.heappush(self._marks, (self._progress + call.work_s, self._serial, call, True))
        self._replan()

    def _give_up(self) -> None:
        self._advance()
        self._working -= 1
        self._replan()

    @property
    def _rate(self) -> float:
        share = self._cores / self._working if self._working > self._cores else 1.0
        return share / self.condition.slow

    def _advance(self) -> None:
        now = self._engine.now
        if self._working:
            self._progress += (now - self._since) * self._rate
        self._since = now

    def _replan(self) -> None:
        while self._marks and self._marks[0][2].over:
            heapq.heappop(self._marks)
        self._plan += 1
        if self._marks:
            wait_s = max(0.0, self._marks[0][0] - self._progress) / self._rate
            self._engine.at(self._engine.now + wait_s, self._tick, self._plan)

    def _tick(self, plan: int) -> None:
        if plan != self._plan:
            return
        self._advance()
        reached, _, call, last = heapq.heappop(self._marks)
        self._progress = max(self._progress, reached)
        if last:
            self._working -= 1
        self._replan()
        if last:
            call.first_at = min(call.first_at, self._engine.now)
            self._succeeded(call)
        else:
            call.first_at = self._engine.now


def server(
    service: Service, index: int, engine: Engine, rng: random.Random, ended: Ended, *, changing: bool = False
) -> Server:
    """A replica as the scenario models it. `changing`: it becomes slow, or heals, while it has calls."""
    match service.model:
        case "io" if changing:
            return Shared(index, engine, rng, ended, inf)
        case "io":
            return Independent(index, engine, rng, ended)
        case "slots":
            return Slotted(index, engine, rng, ended, service.slots)
        case "shared":
            return Shared(index, engine, rng, ended, service.cores)
