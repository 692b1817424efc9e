"""What the coordinator tells the event log, and the timeline of its own start."""

from __future__ import annotations

from typing import Any

from rayflow.actors.outbox import Outbox
from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.events import Event
from rayflow.policies.redaction import redactor
from rayflow.runtime.ports import Fabric
from rayflow.runtime.roster import COORDINATOR


class Chronicle:
    """`timeline`: seconds from the birth of the coordinator to each step."""

    def __init__(self, fabric: Fabric, clock: Clock) -> None:
        self._clock = clock
        self._outbox = Outbox(fabric)
        self._workflow = ""
        self._born = clock.now()
        self.timeline: dict[str, float] = {}
        self.flush = self._outbox.flush
        self.close = self._outbox.close

    @property
    def age_s(self) -> float:
        return self._clock.now() - self._born

    def about(self, config: WorkflowConfig) -> None:
        """From now on it is about this workflow."""
        self._workflow = config.name
        self._outbox.enabled = config.monitoring.event_log
        self._outbox.redactor = redactor(config.monitoring)

    def mark(self, step: str) -> None:
        self.timeline[step] = round(self.age_s, 3)

    def record(self, kind: str, source: str = COORDINATOR, **fields: Any) -> None:
        self._outbox.emit(Event(kind, self._clock.wall_us(), source, workflow=self._workflow, **fields))
