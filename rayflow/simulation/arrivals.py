"""When requests come: as a random process, or as recorded.

Where the rate changes over time, arrivals are drawn at the highest rate and thinned out (Lewis and Shedler, "Simulation
of nonhomogeneous Poisson processes by thinning", 1979).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from rayflow.simulation.scenario import Arrivals


class Arrival(NamedTuple):
    """One recorded request, `at_s` seconds after the first one."""

    at_s: float
    input_tokens: int
    output_tokens: int
    tenant: str = ""
    session: str = ""


def times(arrivals: Arrivals, duration_s: float, rng: random.Random) -> Iterator[float]:
    """The moments of a synthetic process, in order."""
    if arrivals.process == "regular":
        count = math.ceil(duration_s * arrivals.rate_per_s)
        yield from (n / arrivals.rate_per_s for n in range(count))
        return
    rate = rate_at(arrivals)
    steady = arrivals.process == "poisson"
    peak = arrivals.rate_per_s if steady else max(arrivals.rate_per_s, arrivals.to_per_s)
    draw, now = rng.expovariate, 0.0
    while (now := now + draw(peak)) < duration_s:
        if steady or rng.random() * peak < rate(now):
            yield now


def rate_at(arrivals: Arrivals) -> Callable[[float], float]:
    """Requests per second that are expected at a moment; the lower rate where nothing is known."""
    low, high, period_s = arrivals.rate_per_s, arrivals.to_per_s, arrivals.period_s
    match arrivals.process:
        case "step":
            return lambda now: high if now >= arrivals.at_s else low
        case "square":
            return lambda now: high if now % period_s >= period_s / 2 else low
        case "diurnal":
            return lambda now: low + (high - low) * (1 - math.cos(2 * math.pi * now / period_s)) / 2
        case _:
            return lambda now: low


def replayed(
    arrivals: Arrivals, recorded: Iterable[Arrival], duration_s: float, rng: random.Random
) -> Iterator[Arrival]:
    """Recorded requests, faster or spread as configured, in order."""
    moved = [
        arrival._replace(at_s=arrival.at_s / arrivals.speed + rng.random() * arrivals.spread_s)
        if arrivals.spread_s
        else arrival._replace(at_s=arrival.at_s / arrivals.speed)
        for arrival in recorded
    ]
    moved.sort(key=lambda arrival: arrival.at_s)
    return (arrival for arrival in moved if arrival.at_s < duration_s)
