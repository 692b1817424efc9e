"""What the policies are worth, on modelled replicas: the tables of docs/policies.md.

    python benchmarks/simulations.py --write docs/policies.md
    python benchmarks/simulations.py --seeds 3 --only balancing,healing --json

Every figure is the median of `--seeds` runs; all policies of a column get the very same requests. Nothing depends on
the machine but the time that it takes: with 10 seeds, some minutes on one core. The Azure trace is one of the public
ones that lie beside the repository (`--trace` for another place); without it its table is left out.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rayflow.analytics.traces import read_trace
from rayflow.simulation.arrivals import Arrival
from rayflow.simulation.measures import Result
from rayflow.simulation.plan import plan
from rayflow.simulation.reading import from_dict
from rayflow.simulation.simulation import simulate

HERE = Path(__file__).resolve().parent
TRACE = HERE.parent.parent / "shared/data/traces/azure_llm_2023_code_full.parquet"
MARKS = "<!-- simulated: made by `python benchmarks/simulations.py --write docs/policies.md` -->", "<!-- /simulated -->"

BALANCERS = (
    "least_busy", "power_of_two", "fastest_response", "prequal",
    "round_robin", "random", "weighted", "session_affinity",
)  # fmt: skip
MODEL = {"first_token_s": {"kind": "lognormal", "mean": 0.3, "cv": 0.5}, "per_output_token_s": 0.02}
ANSWERS = [{"output_tokens": {"kind": "gamma", "mean": 100, "cv": 0.5}}]
"""An answer takes 2.3 s in the mean, 5.4 s at the 99th percentile."""
START_UP = {"kind": "lognormal", "mean": 3.0, "cv": 0.3}


class Table:
    """A table of the document. `claims`: what it is there to show, and whether it does."""

    def __init__(self, title: str, text: str, head: Sequence[str]) -> None:
        self.title, self.text, self.head = title, text, list(head)
        self.rows: list[list[str]] = []
        self.claims: list[tuple[bool, str]] = []

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", self.text, "", f"| {' | '.join(self.head)} |"]
        lines.append("| --- |" + " ---: |" * (len(self.head) - 1))
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        lines += ["", *(f"- {'Met' if met else '**Not met**'}: {claim}" for met, claim in self.claims)]
        return "\n".join(lines) + "\n"


class Bench:
    """Runs scenarios. `seeds`: how many runs a figure is the median of."""

    def __init__(self, seeds: int, trace: Path) -> None:
        self.seeds = range(1, seeds + 1)
        self.trace = [Arrival(*row) for row in read_trace(trace)] if trace.is_file() else []
        self.requests = 0.0

    def run(self, scenario: Mapping[str, Any], recorded: Sequence[Arrival] = ()) -> list[Result]:
        planned = plan(from_dict({"name": "benchmark", **scenario}), recorded)
        results = [simulate(planned, seed, recorded) for seed in self.seeds]
        self.requests += sum(result.figures["requests"] or 0 for result in results)
        return results


def middle(results: Sequence[Result], figure: str) -> float:
    return statistics.median(result.figures[figure] or 0.0 for result in results)


def pool(rate: float, replicas: int = 16, requests: int = 6000, **more: Any) -> dict[str, Any]:
    """A pool of a fixed size under steady load."""
    return {
        "duration_s": requests / rate + 30,
        "warm_up_s": 30,
        "arrivals": {"rate_per_s": rate},
        "replicas": {"min": replicas, "max": replicas},
        "service": MODEL,
        "traffic": ANSWERS,
        **more,
    }


def balancing(bench: Bench) -> list[Table]:
    slow = [{"replicas": [0, 1], "slow": 16}]
    half = [{"replicas": list(range(8)), "slow": 4}]
    cpu = {**MODEL, "model": "shared", "cores": 2}
    columns: dict[str, dict[str, Any]] = {
        "16 equal": pool(30),
        "2 of 16 are 16x slower, 1 call a replica": pool(6, faults=slow),
        "the same, 4 calls": pool(30, faults=slow),
        "the same, 9 calls": pool(60, faults=slow),
        "8 of 16 are 4x slower": pool(30, faults=half),
        "4 with 2 cores each, 58 % busy": pool(2, 4, service=cpu),
        "the same, 78 % busy": pool(2.7, 4, service=cpu),
        "the same, 4 routers": pool(2.7, 4, service=cpu, routers=4),
        "2 of 16 with 2 cores 16x slower, 58 % busy": pool(8, service=cpu, faults=slow),
    }

    def p99_of(name: str, scenario: Mapping[str, Any]) -> float:
        return middle(bench.run({**scenario, "balancing": {"strategy": name}}), "p99_s")

    p99 = {name: [p99_of(name, scenario) for scenario in columns.values()] for name in BALANCERS}
    table = Table(
        "Balancing: 99th percentile of the response time, s",
        "Replicas that wait for a model (the first five columns) do not feel load; those with cores share them among"
        " their calls. Requests that reach their deadline count with its 120 s.",
        ["strategy", *columns],
    )
    table.rows = [[f"`{name}`", *(f"{value:.2f}" for value in values)] for name, values in p99.items()]
    best = min(values[0] for values in p99.values())
    worst = max(values[0] for values in p99.values()) / best - 1
    table.claims.append(
        (worst <= 0.05, f"replicas all equal: every strategy within 5 % of the best (most: {worst:.1%})")
    )
    for number, column in list(enumerate(columns))[1:4]:
        ratios = {name: p99[name][number] / p99["power_of_two"][number] for name in ("fastest_response", "prequal")}
        text = ", ".join(f"`{name}` {ratio:.2f}" for name, ratio in ratios.items())
        table.claims.append((min(ratios.values()) <= 1 / 3, f"{column}: at most 1/3 of `power_of_two` ({text})"))
    return [table]


def healing(bench: Bench) -> list[Table]:
    table = Table(
        "A replica that is 16x slower for a minute",
        "One of 16, at 100 requests a second, 14 calls a replica. Diverted: it gets at most half of an even share;"
        " returned: at least half again.",
        ["strategy", "diverted after, s", "share of the calls meanwhile", "returned after, s", "p99, s"],
    )
    for name in BALANCERS:
        fault = {"replicas": [3], "slow": 16, "from_s": 30, "to_s": 90}
        scenario = pool(100, requests=15_000, warm_up_s=0, faults=[fault], balancing={"strategy": name})
        results = bench.run(scenario)
        seen = [result.diversions[0] for result in results]
        divert, back = ([d.divert_s for d in seen], [d.return_s for d in seen])
        share = statistics.median(d.share for d in seen)
        table.rows.append(
            [f"`{name}`", moments(divert), f"{share:.1%}", moments(back), f"{middle(results, 'p99_s'):.2f}"]
        )
    return [table]


def moments(values: Sequence[float | None]) -> str:
    """The median; never, if that is so in half of the runs."""
    found = statistics.median(float("inf") if value is None else value for value in values)
    return "never" if found == float("inf") else f"{found:.1f}"


def failing(bench: Bench) -> list[Table]:
    table = Table(
        "A replica that fails at once",
        "One of 16 fails every call after 20 ms, for 200 s at 30 requests a second. Idle as it looks, it draws calls;"
        " ejection takes it out, before the model's breaker opens for all. Without retries.",
        ["strategy", "failures without ejection and breaker", "with both", "avoided"],
    )
    worst = 1.0
    for name in BALANCERS:
        fault = [{"replicas": [3], "fail": 1.0}]
        scenario = pool(30, faults=fault, warm_up_s=0)
        off = {"strategy": name, "ejection": {"enabled": False}}
        without = middle(bench.run({**scenario, "balancing": off, "breaker": {"enabled": False}}), "failed")
        failed = middle(bench.run({**scenario, "balancing": {"strategy": name}}), "failed")
        worst = min(worst, 1 - failed / without)
        table.rows.append([f"`{name}`", f"{without:.0f}", f"{failed:.0f}", f"{1 - failed / without:.1%}"])
    table.claims.append((worst >= 0.9, f"at least 90 % of the would-be failures are avoided (least: {worst:.1%})"))
    return [table]


SCALERS: dict[str, dict[str, Any]] = {
    "`queue_depth`": {"strategy": "queue_depth"},
    "`target_concurrency`": {"strategy": "target_concurrency"},
    "`predictive`": {"strategy": "predictive", "start_up_s": 3.0},
    "`queue_depth`, 4 a replica, down after 18 s": {
        "strategy": "queue_depth", "queue_per_replica": 4, "down_delay_s": 18.0,
    },
    "`queue_depth`, 2 a replica, down after 8 s": {
        "strategy": "queue_depth", "queue_per_replica": 2, "down_delay_s": 8.0,
    },
    "`predictive`, over 10 s, target 0.85, down at once": {
        "strategy": "predictive", "start_up_s": 3.0, "stable_window_s": 10.0, "panic_window_s": 2.0, "target": 0.85,
        "down_delay_s": 0.0,
    },
}  # fmt: skip
CALM = list(SCALERS)[:4]
"""Those that are meant to stand still under steady load; the others follow bursts."""
PLAIN = {
    "strategy": "target_concurrency", "panic_window_s": 60.0, "panic_threshold": 100.0, "queue_age_s": 600.0,
    "down_delay_s": 0.0, "interval_s": 2.0,
}  # fmt: skip
"""One window of 60 s and nothing else."""


def elastic(arrivals: Mapping[str, Any], scaling: Mapping[str, Any], spares: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "arrivals": arrivals,
        "replicas": {"min": 1, "max": 40, "spares": spares, "max_in_flight": 8},
        "service": {**MODEL, "start_up_s": START_UP},
        "traffic": ANSWERS,
        "scaling": scaling,
        "objective": {"first_token_s": 2.0},
        **more,
    }


def step(bench: Bench) -> list[Table]:
    table = Table(
        "A step from 2 to 40 requests a second",
        "8 calls a replica, 3 s to start one. Capacity: enough replicas in rotation for the new rate. Missed:"
        " refused, or first token later than 2 s, within two minutes from the step.",
        ["scaling", "first order after, s", "capacity after, s", "missed", "replica-seconds", "most replicas"],
    )
    slowest = 0.0
    variants = [(name, scaling, 0) for name, scaling in {**SCALERS, "plain: one window of 60 s": PLAIN}.items()]
    variants.insert(1, ("`queue_depth` with 2 warm spares", SCALERS["`queue_depth`"], 2))
    arrivals = {"process": "step", "rate_per_s": 2, "to_per_s": 40, "at_s": 60}
    for name, scaling, spares in variants:
        results = bench.run(elastic(arrivals, scaling, spares, duration_s=180))
        first = max(result.figures["first_order_s"] or 0.0 for result in results)
        if scaling is not PLAIN:
            slowest = max(slowest, first)
        capacity = moments([result.figures["capacity_s"] for result in results])
        table.rows.append([name, f"{middle(results, 'first_order_s'):.1f}", capacity, *whole(results)])
    table.claims.append(
        (slowest <= 2.0, f"the first new replica is ordered within 2 s (latest of all runs: {slowest:.1f} s)")
    )
    return [table]


def whole(results: Sequence[Result]) -> list[str]:
    return [f"{middle(results, figure):.0f}" for figure in ("missed", "replica_seconds", "peak_replicas")]


def trace(bench: Bench) -> list[Table]:
    if not bench.trace:
        print("note: no trace, no table of it", file=sys.stderr)
        return []
    table = Table(
        "The Azure code trace",
        "8,819 requests in 57 minutes, in bursts of up to 67 within one second (Azure LLM inference trace 2023, code)."
        " 4 calls a replica, 1 to 40 replicas, 3 s to start one; 0.2 s, 0.25 ms for a prompt's token, 30 ms for an"
        " answer's. Missed: refused, or first token later than 2 s.",
        ["scaling", "missed", "replica-seconds", "most replicas", "refused", "first token p99, s"],
    )
    found = {}
    for name, scaling in {"plain: one window of 60 s": PLAIN, **SCALERS}.items():
        scenario = {
            "arrivals": {"process": "trace", "file": "trace", "spread_s": 0.2},
            "replicas": {"min": 1, "max": 40, "max_in_flight": 4},
            "service": {
                "first_token_s": 0.2, "per_input_token_s": 0.00025, "per_output_token_s": 0.03, "start_up_s": START_UP,
            },
            "objective": {"first_token_s": 2.0},
            "scaling": scaling,
        }  # fmt: skip
        results = found[name] = bench.run(scenario, bench.trace)
        rest = [f"{middle(results, 'refused'):.0f}", f"{middle(results, 'first_token_p99_s'):.2f}"]
        table.rows.append([name, *whole(results), *rest])
    plain = found.pop("plain: one window of 60 s")
    better = [
        name
        for name, results in found.items()
        if middle(results, "missed") < middle(plain, "missed")
        and middle(results, "replica_seconds") <= middle(plain, "replica_seconds")
    ]
    table.claims.append((bool(better), f"fewer missed at no more replica-seconds than plain: {'; '.join(better)}"))
    return [table]


def steady(bench: Bench) -> list[Table]:
    table = Table(
        "An hour of steady load",
        "10 requests a second at random, after five minutes of warming up. Turns: how often a pool that had grown"
        " shrank, or the other way round.",
        ["scaling", "orders", "turns", "mean replicas", "missed", "replica-seconds", "most replicas"],
    )
    turned: dict[str, float] = {}
    for name, scaling in SCALERS.items():
        arrivals = {"rate_per_s": 10}
        results = bench.run(elastic(arrivals, scaling, duration_s=3900, warm_up_s=300))
        turned[name] = max(result.figures["reversals"] or 0 for result in results)
        shown = [f"{middle(results, 'orders'):.0f}", f"{middle(results, 'reversals'):.0f}"]
        table.rows.append([name, *shown, f"{middle(results, 'mean_replicas'):.2f}", *whole(results)])
    calm = max(turned[name] for name in CALM) <= 2
    table.claims.append((calm, f"no flapping (at most 2 turns in any run): {'; '.join(CALM)}"))
    quick = [name for name in turned if name not in CALM]
    met = max(turned[name] for name in quick) <= 2
    table.claims.append((met, f"the same of settings that follow bursts: {'; '.join(quick)}"))
    return [table]


EXPERIMENTS: dict[str, Callable[[Bench], list[Table]]] = {
    "balancing": balancing, "healing": healing, "failing": failing, "step": step, "trace": trace, "steady": steady,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", help="experiments, with commas between: " + ", ".join(EXPERIMENTS))
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this document")
    given = parser.parse_args()
    bench, begun = Bench(given.seeds, given.trace), time.perf_counter()
    tables: list[Table] = []
    for name in given.only.split(",") if given.only else EXPERIMENTS:
        tables += EXPERIMENTS[name](bench)
        print(f"note: {name} done after {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    text = f"Medians of {given.seeds} seeds.\n\n" + "\n".join(table.markdown() for table in tables)
    if given.write:
        document = given.write.read_text("utf-8")
        between = f"{MARKS[0]}\n\n{text}\n{MARKS[1]}"
        pattern = re.compile(f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}", re.DOTALL)
        given.write.write_text(pattern.sub(lambda _: between, document), "utf-8")
    print(json.dumps([vars(table) for table in tables], indent=1) if given.json else text)
    rate = bench.requests / (time.perf_counter() - begun)
    print(f"note: {bench.requests:.0f} requests, {rate:.0f} a second", file=sys.stderr)


if __name__ == "__main__":
    main()
