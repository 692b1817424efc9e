"""What docs/policies.md claims of the policies, at a size that takes seconds. With fixed seeds, each has one answer."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from support.data import shared

from rayflow.analytics.traces import read_trace
from rayflow.simulation.arrivals import Arrival
from rayflow.simulation.measures import Result
from rayflow.simulation.plan import plan
from rayflow.simulation.reading import from_dict
from rayflow.simulation.simulation import simulate

SEEDS = (1, 2)
ALL = (
    "least_busy", "power_of_two", "fastest_response", "prequal",
    "round_robin", "random", "weighted", "session_affinity",
)  # fmt: skip
MODEL = {"first_token_s": {"kind": "lognormal", "mean": 0.3, "cv": 0.5}, "per_output_token_s": 0.02}
POOL: dict[str, Any] = {
    "name": "claim",
    "duration_s": 120,
    "warm_up_s": 20,
    "arrivals": {"rate_per_s": 30},
    "replicas": {"min": 16, "max": 16},
    "service": MODEL,
    "traffic": [{"output_tokens": {"kind": "gamma", "mean": 100, "cv": 0.5}}],
}
ELASTIC: dict[str, Any] = {
    **POOL,
    "warm_up_s": 0,
    "replicas": {"min": 1, "max": 40, "max_in_flight": 8},
    "service": {**MODEL, "start_up_s": {"kind": "lognormal", "mean": 3.0, "cv": 0.3}},
    "objective": {"first_token_s": 2.0},
}
SCALERS = ("queue_depth", "target_concurrency", "predictive")
QUICK = {"strategy": "queue_depth", "queue_per_replica": 4, "down_delay_s": 18.0}
PLAIN = {
    "strategy": "target_concurrency", "panic_window_s": 60.0, "panic_threshold": 100.0, "queue_age_s": 600.0,
    "down_delay_s": 0.0, "interval_s": 2.0,
}  # fmt: skip


def runs(scenario: dict[str, Any], recorded: list[Arrival] | None = None, **changes: Any) -> list[Result]:
    planned = plan(from_dict({**scenario, **changes}), recorded or [])
    return [simulate(planned, seed, recorded or []) for seed in SEEDS]


def middle(results: list[Result], figure: str) -> float:
    return statistics.median(result.figures[figure] or 0.0 for result in results)


def p99_s(strategy: str, **changes: Any) -> float:
    return middle(runs(POOL, balancing={"strategy": strategy}, **changes), "p99_s")


def test_on_equal_replicas_every_strategy_is_within_five_percent_of_the_best() -> None:
    found = {strategy: p99_s(strategy) for strategy in ALL}
    assert max(found.values()) <= 1.05 * min(found.values()), found


@pytest.mark.parametrize("rate", [6, 30])
def test_with_two_slow_replicas_of_sixteen_latency_beats_queue_length_three_times(rate: int) -> None:
    slow = {"faults": [{"replicas": [0, 1], "slow": 16}], "arrivals": {"rate_per_s": rate}}
    by_length = p99_s("power_of_two", **slow)
    for strategy in ("fastest_response", "prequal"):
        assert p99_s(strategy, **slow) <= by_length / 3, strategy


@pytest.mark.parametrize("strategy", ["fastest_response", "prequal"])
def test_a_replica_that_slows_is_spared_within_seconds_and_used_again_after_it_healed(strategy: str) -> None:
    fault = {"replicas": [3], "slow": 16, "from_s": 30, "to_s": 60}
    results = runs(POOL, arrivals={"rate_per_s": 100}, faults=[fault], balancing={"strategy": strategy})
    for [diversion] in (result.diversions for result in results):
        assert diversion.divert_s is not None
        assert diversion.divert_s <= 5
        assert diversion.share <= 0.01
        assert diversion.return_s is not None


@pytest.mark.parametrize("strategy", ALL)
def test_nine_of_ten_calls_that_a_failing_replica_would_draw_are_spared(strategy: str) -> None:
    fault = [{"replicas": [3], "fail": 1.0}]
    off = {"strategy": strategy, "ejection": {"enabled": False}}
    without = middle(runs(POOL, faults=fault, balancing=off, breaker={"enabled": False}), "failed")
    assert middle(runs(POOL, faults=fault, balancing={"strategy": strategy}), "failed") <= 0.1 * without


def test_calls_that_compute_suffer_most_from_chance() -> None:
    busy = {
        "arrivals": {"rate_per_s": 2.7},
        "duration_s": 600,
        "replicas": {"min": 4, "max": 4},
        "service": {**MODEL, "model": "shared", "cores": 2},
    }
    found = {strategy: p99_s(strategy, **busy) for strategy in ("least_busy", "fastest_response", "prequal", "random")}
    assert found["random"] > 2 * found["least_busy"]
    assert max(found["fastest_response"], found["prequal"]) < 1.25 * found["least_busy"]


@pytest.mark.parametrize("strategy", SCALERS)
def test_the_first_replica_is_ordered_within_two_seconds_of_a_step(strategy: str) -> None:
    step = {"process": "step", "rate_per_s": 2, "to_per_s": 40, "at_s": 60}
    for result in runs(ELASTIC, arrivals=step, scaling={"strategy": strategy}):
        first, capacity = result.figures["first_order_s"], result.figures["capacity_s"]
        assert first is not None
        assert first <= 2.0
        assert capacity is not None
        assert capacity <= 12.0


@pytest.mark.parametrize("scaling", [*({"strategy": name} for name in SCALERS), QUICK])
def test_nothing_flaps_in_an_hour_of_steady_load(scaling: dict[str, Any]) -> None:
    steady = {"arrivals": {"rate_per_s": 10}, "duration_s": 3900, "warm_up_s": 300}
    for result in runs(ELASTIC, scaling=scaling, **steady):
        assert result.figures["reversals"] == 0
        assert (result.figures["orders"] or 0) <= 3


def test_on_the_azure_trace_a_quick_queue_misses_less_at_no_higher_cost_than_a_window_of_a_minute() -> None:
    path: Path = shared("data", "traces", "azure_llm_2023_code_full.parquet")
    recorded = [Arrival(*row) for row in read_trace(path)]
    scenario = {
        "name": "azure",
        "arrivals": {"process": "trace", "file": "trace", "spread_s": 0.2},
        "replicas": {"min": 1, "max": 40, "max_in_flight": 4},
        "service": {
            "first_token_s": 0.2, "per_input_token_s": 0.00025, "per_output_token_s": 0.03,
            "start_up_s": {"kind": "lognormal", "mean": 3.0, "cv": 0.3},
        },
        "objective": {"first_token_s": 2.0},
    }  # fmt: skip
    ours, plain = (runs(scenario, recorded, scaling=scaling) for scaling in (QUICK, PLAIN))
    assert middle(ours, "missed") < 0.75 * middle(plain, "missed")
    assert middle(ours, "replica_seconds") <= middle(plain, "replica_seconds")
