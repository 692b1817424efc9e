"""A virtual clock: what is to happen lies in a heap, and time jumps from one event to the next.

Events of the same moment happen in the order in which they were planned, so a run depends on its seed alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import inf
from typing import Any


class Engine:
    """`now` is in seconds from the start of the run."""

    __slots__ = ("_heap", "_planned", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    def at(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        """Plan `action` for a moment; one that has passed means now. What was planned cannot be taken back: an action
        that may have become pointless looks for itself."""
        self._planned += 1
        heapq.heappush(self._heap, (when, self._planned, action, arguments))

    def run(self, until: float = inf) -> None:
        """Let time pass until nothing is planned any more, or until the moment given."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until:
            when, _, action, arguments = pop(heap)
            if when > self.now:
                self.now = when
            action(*arguments)
        if until < inf:
            self.now = max(self.now, until)
