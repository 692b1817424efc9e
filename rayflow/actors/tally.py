"""What a router tells of the runs that have ended: sums, every few seconds, while there are any.

Nothing is told for a single run; counting one costs a few additions.
"""

from __future__ import annotations

import asyncio

from rayflow.actors.outbox import EVENT_LOG
from rayflow.errors import Cancelled
from rayflow.messages import Outcomes, RunResult
from rayflow.runtime.ports import Fabric

TELL_S = 5.0


class Tally:
    """Of one router."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._runs = self._errors = 0
        self._took_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ended(self, outcome: RunResult | BaseException, took_s: float) -> None:
        """A run has ended. One that was cancelled says nothing of the system."""
        if isinstance(outcome, RunResult):
            self._took_s += took_s
        elif isinstance(outcome, (asyncio.CancelledError, Cancelled)):
            return
        else:
            self._errors += 1
        self._runs += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_S, self.tell)

    def tell(self) -> None:
        """What has come together, to whoever judges."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self._fabric.tell(EVENT_LOG, Outcomes(self._runs, self._errors, self._took_s * 1000))
        self._runs = self._errors = 0
        self._took_s = 0.0
