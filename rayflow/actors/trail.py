"""The trail of a run: every event goes to the log and is counted, and what its readers see of it goes to them, too."""

from __future__ import annotations

from rayflow.actors.figures import Figures
from rayflow.actors.following import Following
from rayflow.actors.outbox import Outbox
from rayflow.actors.work import Work
from rayflow.events import Event
from rayflow.messages import Progress
from rayflow.runtime.ports import Fabric

SHOWN = frozenset(
    {"run.routed", "agent.started", "agent.retried", "agent.fallback", "agent.finished", "aggregate.finished"}
)
"""Coarse events that clients see when they ask for progress."""


class Trail:
    """Of the runs of one router."""

    def __init__(self, fabric: Fabric, outbox: Outbox, following: Following, figures: Figures) -> None:
        self._fabric = fabric
        self._outbox = outbox
        self._following = following
        self._figures = figures

    def record(self, work: Work, event: Event) -> None:
        self._outbox.emit(event)
        self._figures.saw(event)
        if work.request.stream and event.kind in SHOWN:
            work.shown.append(event)
            if work.request.progress:
                self._fabric.tell(work.request.client, Progress(event))
            if work.followers:
                self._following.happened(work, event)
