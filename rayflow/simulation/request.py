"""One simulated request, from its arrival to its end."""

from __future__ import annotations

from math import inf

from rayflow.runtime.pool import Grant
from rayflow.simulation.servers import Server


class Request:
    """`kind`: number of its traffic entry. `first_s`, `work_s`: time to the first token and to the last one on a
    healthy replica that has nothing else to do. `working`: a replica works on it. `over`: it has its answer, or nobody
    waits for one any more."""

    __slots__ = (
        "arrived", "deadline", "first_at", "first_s", "grant", "key", "kind", "level", "over", "probe", "router",
        "server", "started", "tenant", "ticket", "tokens", "work_s", "working",
    )  # fmt: skip

    def __init__(
        self,
        ticket: str,
        arrived: float,
        deadline: float,
        kind: int,
        level: float,
        tenant: str,
        key: str,
        tokens: int,
        first_s: float,
        work_s: float,
        router: int,
    ) -> None:
        self.ticket = ticket
        self.arrived = arrived
        self.deadline = deadline
        self.kind = kind
        self.level = level
        self.tenant = tenant
        self.key = key
        self.tokens = tokens
        self.first_s = first_s
        self.work_s = work_s
        self.router = router
        self.started = inf
        self.first_at = inf
        self.over = False
        self.probe = False
        self.working = False
        self.grant: Grant | None = None
        self.server: Server | None = None
