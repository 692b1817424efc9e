"""What a choice costs: one call reserved and released, by strategy and size of the pool.

    python benchmarks/balancing.py --json
    python benchmarks/balancing.py --sizes 4,1000 --only least_busy,prequal

Each figure is the best of `--reps` runs of `--calls` calls, in microseconds for acquire and release together; about
half of the places are taken meanwhile. `full`: all places are taken, and each release serves one who waits.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import deque

from rayflow.config.schema import AdmissionConfig, BalancingConfig, EjectionConfig, PriorityConfig
from rayflow.policies.balancing import Outcome, balancer
from rayflow.policies.balancing.factory import STRATEGIES
from rayflow.policies.ejection import Ejector
from rayflow.runtime.line import Line, Waiter
from rayflow.runtime.pool import Grant, Pool

MAX_IN_FLIGHT = 8
CALL_S = 0.001
"""Virtual time between two calls."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="2,4,16,100,1000", help="comma list of pool sizes")
    parser.add_argument("--only", default=",".join(STRATEGIES), help="comma list of strategies")
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args()
    sizes = [int(size) for size in args.sizes.split(",")]
    found = {
        strategy: {
            f"{size}{' full' if full else ''}": min(cost_us(strategy, size, full, args.calls) for _ in range(args.reps))
            for size in sizes
            for full in (False, True)
        }
        for strategy in args.only.split(",")
    }
    print(json.dumps(found) if args.json else table(found))


def cost_us(strategy: str, size: int, full: bool, calls: int) -> float:
    rng = random.Random(1)
    config = BalancingConfig(strategy=strategy)
    line = Line(AdmissionConfig(strategy="bounded", max_wait_s=3600.0), PriorityConfig(), 100_000, {})
    pool = Pool(MAX_IN_FLIGHT, balancer(config), line, Ejector(EjectionConfig()))
    pool.members([f"agent/a/{i}" for i in range(size)], 0.0, rng)
    places = size * MAX_IN_FLIGHT
    waiters = [Waiter(str(i), 0.0, 1e9, 2.0, "", 1, f"session {i % 1000}") for i in range(calls + places + 10)]
    coming = iter(waiters)
    at_work: deque[Grant] = deque()
    for _ in range(places if full else places // 2):
        granted = pool.acquire(next(coming), 0.0, rng)
        assert isinstance(granted, Grant)
        at_work.append(granted)
    now, outcome = 0.0, Outcome(True, 0.2, 0.05, 4)
    began = time.perf_counter()
    for _ in range(calls):
        now += CALL_S
        granted = pool.acquire(next(coming), now, rng)
        if isinstance(granted, Grant):
            at_work.append(granted)
        at_work.extend(pool.release(at_work.popleft(), now, rng, outcome))
    return (time.perf_counter() - began) / calls * 1e6


def table(found: dict[str, dict[str, float]]) -> str:
    """Markdown."""
    sizes = list(next(iter(found.values())))
    rows = [["replicas", *sizes], ["---"] * (len(sizes) + 1)]
    rows += [[strategy, *(f"{cost:.1f}" for cost in costs.values())] for strategy, costs in found.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
