"""Who is hurt next, and when: chosen by the seeded generator, no more often than the system promises to bear.

A pool that dies too often within a window is parked by design (docs/operations.md, "When something dies"), so a fault
that is to heal leaves each pool that many deaths.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

DEATHS = 5
"""A pool of one may die so often within the window; each further member adds one."""
WINDOW_S = 31.0


class Pacer:
    """Victims are addresses; those that differ only in the last part belong to one pool."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._deaths: dict[str, list[float]] = defaultdict(list)

    def wait_s(self, victims: Sequence[str], now: float) -> float:
        """Seconds until one of them may be hurt; 0 for at once."""
        return min(self._spared_s(victims, now).values())

    def choose(self, victims: Sequence[str], now: float) -> str:
        """One of those that may be hurt now; its death is counted. Raises ValueError where none may."""
        spared = self._spared_s(victims, now)
        free = [victim for victim in victims if spared[pool_of(victim)] <= 0]
        if not free:
            raise ValueError("nobody may be hurt yet: wait as long as wait_s says")
        victim = self._rng.choice(free)
        self._deaths[pool_of(victim)].append(now)
        return victim

    def _spared_s(self, victims: Sequence[str], now: float) -> dict[str, float]:
        """By pool: seconds until one more of it may die."""
        sizes = Counter(pool_of(victim) for victim in victims)
        return {pool: self._full_s(self._deaths[pool], DEATHS - 1 + size, now) for pool, size in sizes.items()}

    def _full_s(self, deaths: Sequence[float], most: int, now: float) -> float:
        return max(0.0, deaths[-most] + WINDOW_S - now) if len(deaths) >= most else 0.0


def pool_of(address: str) -> str:
    """`agent/alpha` of `agent/alpha/1`."""
    return address.rpartition("/")[0] or address
