"""What a fault is: how it is injected, and what of its effects was never promised away."""

from __future__ import annotations

from abc import ABC, abstractmethod

from faults.operations import Operation
from faults.scene import Injection, Scene
from faults.watch import Snapshot


class Fault(ABC):
    """`promise` in a line. `times`: how often it is injected unless asked otherwise. `store`: what keeps the sessions.

    `stream_error_s`: a started stream may end in an error event within so long of the injection (0: not at all).
    `heal_s`: everything is back within so long. `allows_partial`: an answer may lack one of its agents.
    """

    name: str
    promise: str
    times: int = 30
    shards: int = 1
    store: str = "sqlite"
    through_proxy: bool = False
    stream_error_s: float = 1.0
    heal_s: float = 5.0
    allows_partial: bool = False

    @abstractmethod
    async def inject(self, scene: Scene) -> None:
        """Do it `scene.times` times, and note each in `scene.injections`."""

    async def examine(self, scene: Scene) -> list[str]:
        """Called when the load has ended: broken promises that only this fault looks for."""
        return []

    def excuses(self, operation: Operation, scene: Scene) -> bool:
        """Whether this failed operation is no broken promise."""
        return False

    def recovered(self, found: Snapshot, scene: Scene) -> bool:
        """Whether the system is, at the end, as it should be."""
        return found.whole(scene.system.expected)


def during(operation: Operation, injections: list[Injection], after_s: float = 0.0) -> bool:
    """Whether the operation was under way while one of the faults lasted, or up to `after_s` later."""
    return any(operation.sent_s < i.until_s + after_s and operation.ended_s >= i.at_s for i in injections)
