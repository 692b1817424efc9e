"""An open loop of requests over sessions that live on: it does not slow down when the system does.

A session has one client, which asks turn after turn; where all are busy a new one begins, so a stall shows as more
sessions, not as fewer requests.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from faults.client import Client
from faults.operations import Operation

FANOUT_EVERY = 6
PATIENCE_S = 90.0


@dataclass(slots=True)
class Session:
    name: str
    turns: int = 0


class Load:
    """`rate` requests per second in sessions named after `name`, half of them streams, one in six for two agents.

    `operations` is the log, in the order in which they were sent.
    """

    def __init__(self, client: Client, name: str, rate: float, rng: random.Random) -> None:
        self.operations: list[Operation] = []
        self.on_end: Callable[[Operation], None] | None = None
        self._client = client
        self._name = name
        self._rate = rate
        self._rng = rng
        self._sessions = 0
        self._free: list[Session] = [self._new_session() for _ in range(int(rate))]
        self._under_way: set[asyncio.Task[None]] = set()
        self._driver: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._driver = asyncio.create_task(self._drive())

    async def stop(self) -> None:
        """No new requests; returns when the last one was answered."""
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)
            self._driver = None
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=PATIENCE_S)

    @property
    def in_flight(self) -> int:
        return len(self._under_way)

    def outcomes(self) -> Counter[str]:
        return Counter(str(operation.outcome) for operation in self.operations)

    async def _drive(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            task = asyncio.create_task(self._turn(self._take()))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            due += 1 / self._rate
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _take(self) -> Session:
        if not self._free:
            return self._new_session()
        return self._free.pop(self._rng.randrange(len(self._free)))

    def _new_session(self) -> Session:
        self._sessions += 1
        return Session(f"{self._name}-s-{self._sessions}")

    async def _turn(self, session: Session) -> None:
        session.turns += 1
        operation = self._operation(session)
        self.operations.append(operation)
        await self._client.ask(operation)
        if self.on_end is not None:
            self.on_end(operation)
        self._free.append(session)

    def _operation(self, session: Session) -> Operation:
        number = len(self.operations)
        target = "both" if number % FANOUT_EVERY == 0 else ("alpha", "beta")[self._rng.randrange(2)]
        return Operation(
            session=session.name,
            n=session.turns,
            question=f"turn {session.turns} of {session.name} for {target}",
            agents=("alpha", "beta") if target == "both" else (target,),
            streamed=self._rng.random() < 0.5,
            key=f"{session.name}.{session.turns}.{self._rng.getrandbits(64):016x}",
        )
