"""The replicas of a simulated pool: ordered, starting, in rotation, draining, gone.

The rules are those of the supervisor's fleet (`runtime.supervision.fleet`): whoever is ready comes into the rotation
until that is as large as wanted, and what is ready beside it is a warm spare. A pool that shrinks dismisses first who
is starting, then spares, then the highest number; who is dismissed leaves the rotation at once and ends with its last
call.
"""

from __future__ import annotations

from collections.abc import Callable

from rayflow.simulation.engine import Engine
from rayflow.simulation.servers import Server


class Fleet:
    """`build`: makes a replica with a number. `changed`: called when the rotation has changed. `start_up_s`: draws how
    long a replica takes to start."""

    def __init__(
        self,
        engine: Engine,
        build: Callable[[int], Server],
        changed: Callable[[], None],
        start_up_s: Callable[[], float],
        spares: int,
    ) -> None:
        self._engine = engine
        self._build = build
        self._changed = changed
        self._start_up_s = start_up_s
        self._spares = spares
        self._starting: dict[int, int] = {}
        self._orders = 0
        self._ready: dict[int, Server] = {}
        self._draining: dict[int, Server] = {}
        self._used_s = 0.0
        self._since = 0.0
        self.wanted = 0
        self.peak = 0
        self.rotation: dict[int, Server] = {}
        """By number, in order."""

    def open(self, replicas: int) -> None:
        """The run begins with so many, ready."""
        self.wanted = replicas
        for index in range(replicas + self._spares):
            self._ready[index] = self._build(index)
        self._rotate()

    def order(self, replicas: int) -> None:
        """From now on there should be so many in rotation."""
        self._count()
        self.wanted = replicas
        total = replicas + self._spares
        while len(self._starting) + len(self._ready) < total:
            self._start()
        while len(self._starting) + len(self._ready) > total:
            self._dismiss()
        self._rotate()

    @property
    def processes(self) -> int:
        return len(self._starting) + len(self._ready) + len(self._draining)

    @property
    def all(self) -> list[Server]:
        """Every replica that may have calls."""
        return [*self._ready.values(), *self._draining.values()]

    def replica_seconds(self) -> float:
        """Seconds of life of all replicas until now, from order to end."""
        self._count()
        return self._used_s

    def idle(self, server: Server) -> None:
        """A replica has no calls any more."""
        if self._draining.get(server.index) is server:
            self._count()
            del self._draining[server.index]

    def _start(self) -> None:
        index = 0
        while index in self._ready or index in self._starting or index in self._draining:
            index += 1
        self._orders += 1
        self._starting[index] = self._orders
        self.peak = max(self.peak, self.processes)
        self._engine.at(self._engine.now + self._start_up_s(), self._started, index, self._orders)

    def _started(self, index: int, order: int) -> None:
        if self._starting.get(index) == order:
            del self._starting[index]
            self._ready[index] = self._build(index)
            self._rotate()

    def _dismiss(self) -> None:
        if self._starting:
            del self._starting[max(self._starting)]
            return
        server = self._ready.pop(max(self._ready, key=self._last_to_go))
        if server.in_flight:
            self._draining[server.index] = server

    def _rotate(self) -> None:
        staying = sorted(self._ready, key=self._last_to_go)[: self.wanted]
        rotation = {index: self._ready[index] for index in sorted(staying)}
        self.peak = max(self.peak, self.processes)
        if rotation != self.rotation:
            self.rotation = rotation
            self._changed()

    def _last_to_go(self, index: int) -> tuple[bool, int]:
        return index not in self.rotation, index

    def _count(self) -> None:
        now = self._engine.now
        self._used_s += (now - self._since) * self.processes
        self._since = now
