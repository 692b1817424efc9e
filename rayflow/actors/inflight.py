"""What an actor is working on, so that it can be counted, refused while draining, and waited for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rayflow.errors import Unavailable


class InFlight:
    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._ids: Counter[str] = Counter()
        self._count = 0
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def working(self, number: str) -> Iterator[None]:
        """Count a piece of work. Raises `Unavailable` while draining."""
        if self._draining:
            raise Unavailable(f"{self._owner} is draining: try again", draining=self._owner, retry_after_s=1)
        self._ids[number] += 1
        self._count += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._ids[number] -= 1
            self._count -= 1
            if not self._ids[number]:
                del self._ids[number]
            if not self._ids:
                self._empty.set()

    async def drain(self, budget_s: float) -> list[str]:
        """Refuse new work and wait for the rest; ids of what is left after `budget_s`."""
        self._draining = True
        try:
            await asyncio.wait_for(self._empty.wait(), budget_s)
        except TimeoutError:
            return sorted(self._ids.elements())
        return []
