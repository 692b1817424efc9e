"""Which replica of a pool takes a call.

The load of a replica is the number of calls it works on for this router: a call counts from the moment it is reserved
until its reply, its error or its cancellation. Choice and reservation are one step (`runtime.pool`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping


def least_busy(loads: Mapping[str, int], limit: int, rng: random.Random) -> str | None:
    """The replica with the fewest calls, a random one of several; None when all have reached `limit`."""
    if not loads:
        return None
    lowest = min(loads.values())
    if lowest >= limit:
        return None
    ties = [replica for replica, load in loads.items() if load == lowest]
    return ties[0] if len(ties) == 1 else rng.choice(ties)
