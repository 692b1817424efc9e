"""A pool under random load in virtual time: replicas take 2 s to start, calls wait in line, a scaler decides."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rayflow.config.schema import Replicas, ScalingConfig
from rayflow.policies.scaling import Load, Scaler, Target


@dataclass
class Run:
    """`changes`: when, from how many, and to what."""

    changes: list[tuple[float, int, Target]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


def steady(strategy: str, *, calls: float, places: int, seed: int, seconds: float) -> Run:
    """`calls`: under way on average; each takes a second on average."""
    return _run(strategy, lambda _: calls, places, seed, seconds)


def stepping(strategy: str, *, calls: float, factor: float, at_s: float, seed: int) -> Run:
    return _run(strategy, lambda now: calls * (factor if now >= at_s else 1.0), 4, seed, at_s + 10.0)


def _run(strategy: str, rate: Callable[[float], float], places: int, seed: int, seconds: float) -> Run:
    run, rng = Run(), random.Random(seed)
    config = ScalingConfig(strategy=strategy)
    scaler = Scaler(Replicas(min=1, max=256, max_in_flight=places), config)
    now = tick = 0.0
    arrival = rng.expovariate(rate(0.0))
    ready, arrived, finished, response_s = 1, 0, 0, 0.0
    starting: deque[float] = deque()
    line: deque[float] = deque()
    busy: list[tuple[float, float]] = []
    while now < seconds:
        now = min(arrival, tick, starting[0] if starting else seconds, busy[0][0] if busy else seconds)
        if starting and now == starting[0]:
            starting.popleft()
            ready += 1
        elif busy and now == busy[0][0]:
            _, since = heapq.heappop(busy)
            finished += 1
            response_s += now - since
        elif now == arrival:
            line.append(now)
            arrived += 1
            arrival = now + rng.expovariate(rate(now))
        else:
            tick += config.interval_s
            before = ready + len(starting)
            oldest_s = now - line[0] if line else 0.0
            load = Load(ready, len(starting), len(busy), len(line), oldest_s, arrived, finished, response_s)
            target = scaler.decide(load, now, now)
            if target.replicas != before:
                run.changes.append((now, before, target))
            starting.extend(now + 2.0 for _ in range(target.replicas - before))
            ready -= max(0, before - target.replicas)
        while line and len(busy) < ready * places:
            since = line.popleft()
            run.waits.append(now - since)
            heapq.heappush(busy, (now + rng.expovariate(1.0), since))
    return run
