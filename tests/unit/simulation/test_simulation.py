"""A whole run: what goes in decides what comes out, and every request ends exactly once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rayflow.simulation.arrivals import Arrival
from rayflow.simulation.comparison import differences, flat, plain, table
from rayflow.simulation.measures import Result
from rayflow.simulation.plan import plan
from rayflow.simulation.reading import from_dict
from rayflow.simulation.simulation import Simulation, simulate

BUSY: dict[str, Any] = {
    "name": "busy",
    "duration_s": 60,
    "routers": 2,
    "arrivals": {"process": "square", "rate_per_s": 5, "to_per_s": 60, "period_s": 30},
    "replicas": {"min": 2, "max": 8, "max_in_flight": 4, "spares": 1},
    "service": {
        "first_token_s": {"kind": "lognormal", "mean": 0.3},
        "per_output_token_s": 0.01,
        "start_up_s": {"kind": "exponential", "mean": 2.0},
    },
    "traffic": [
        {"share": 3, "tenant": "a", "sessions": 20, "output_tokens": {"kind": "gamma", "mean": 50}, "deadline_s": 8},
        {"tenant": "b", "service_class": "batch", "output_tokens": 100, "deadline_s": 20},
    ],
    "tenants": [{"name": "a", "weight": 3.0}, {"name": "b"}],
    "faults": [{"replicas": [0], "from_s": 10, "to_s": 40, "slow": 5, "fail": 0.3}],
    "balancing": {"strategy": "fastest_response"},
    "admission": {"adaptive": True, "max_wait_s": 6.0},
    "max_queue": 60,
}


def run(seed: int = 1, recorded: list[Arrival] | None = None, **changes: Any) -> Result:
    return simulate(plan(from_dict({**BUSY, **changes}), recorded or []), seed, recorded or [])


def test_the_same_seed_gives_the_same_result_byte_for_byte() -> None:
    assert json.dumps(plain(run(7))) == json.dumps(plain(run(7)))


def test_another_seed_gives_another_result() -> None:
    assert run(7).figures != run(8).figures


@pytest.mark.parametrize("model", ["io", "slots", "shared"])
@pytest.mark.parametrize("strategy", ["least_busy", "prequal", "session_affinity"])
def test_every_request_ends_once_and_gives_back_what_it_held(model: str, strategy: str) -> None:
    service = {**BUSY["service"], "model": model}
    simulation = Simulation(plan(from_dict({**BUSY, "service": service, "balancing": {"strategy": strategy}})), 3)
    figures = simulation.run().figures
    ends = [figures[end] or 0 for end in ("answered", "failed", "refused", "late")]
    assert sum(ends) == figures["requests"]
    assert all(ends), "the scenario is meant to have all kinds of ends"
    for router in simulation._routers:
        router.pool.validate()
        assert (router.pool.in_flight, router.pool.waiting) == (0, 0)
    assert all(server.in_flight == 0 for server in simulation._fleet.all)


def test_two_policies_get_the_very_same_requests() -> None:
    one, other = (run(balancing={"strategy": strategy}) for strategy in ("random", "least_busy"))
    assert [sample.arrived for sample in one.samples] == [sample.arrived for sample in other.samples]
    assert one.figures["requests"] == other.figures["requests"]
    assert one.figures["mean_s"] != other.figures["mean_s"]


def test_a_request_ends_at_its_deadline_wherever_it_is() -> None:
    alone = {"min": 1, "max": 1, "max_in_flight": 1}
    calls = [Arrival(0.0, 0, 0), Arrival(0.5, 0, 0), Arrival(1.0, 0, 0)]
    result = run(
        recorded=calls,
        arrivals={"process": "trace", "file": "t"},
        duration_s=10,
        replicas=alone,
        service={"first_token_s": 30.0},
        traffic=[{"deadline_s": 8}],
        tenants=[],
        faults=[],
        routers=1,
        admission={},
    )
    assert (result.figures["late"], result.figures["requests"]) == (3, 3)
    assert (result.figures["p50_s"], result.figures["p99_s"]) == (8.0, 8.0)


def test_who_has_waited_for_too_long_is_turned_away() -> None:
    result = run(
        arrivals={"process": "regular", "rate_per_s": 1},
        duration_s=3,
        replicas={"min": 1, "max": 1, "max_in_flight": 1},
        service={"first_token_s": 60.0},
        traffic=[{"deadline_s": 50}],
        tenants=[],
        faults=[],
        routers=1,
        admission={"strategy": "bounded", "max_wait_s": 5.0},
    )
    assert result.figures["waited_p99_s"] == 5.0
    assert sorted(sample.waiting for sample in result.samples)[-1] == 2


def test_a_model_that_is_down_is_not_called_while_its_breaker_is_open() -> None:
    def failed(**breaker: Any) -> int:
        down = [{"from_s": 20, "to_s": 40, "fail": 1.0}]
        changes = {"routers": 1, "faults": down, "breaker": breaker, "scaling": {"strategy": "manual"}}
        simulation = Simulation(plan(from_dict({**BUSY, **changes})), 1)
        calls = 0
        begin = simulation._send

        def counted(grant: Any) -> None:
            nonlocal calls
            calls += 20 <= simulation._engine.now < 40
            begin(grant)

        simulation._send = counted  # type: ignore[method-assign]
        simulation.run()
        return calls

    assert failed(enabled=True) < 80 < 400 < failed(enabled=False)


def test_the_first_order_and_the_time_to_capacity_count_from_the_step() -> None:
    result = run(
        arrivals={"process": "step", "rate_per_s": 2, "to_per_s": 40, "at_s": 20},
        service={"first_token_s": 0.5, "start_up_s": 3.0},
        traffic=[{}],
        tenants=[],
        faults=[],
        routers=1,
        admission={},
        replicas={"min": 1, "max": 20, "max_in_flight": 4},
        scaling={"strategy": "queue_depth", "interval_s": 0.5},
    )
    first, capacity = result.figures["first_order_s"], result.figures["capacity_s"]
    assert first == next(order.at_s - 20 for order in result.orders if order.at_s >= 20)
    needed = next(sample.at_s - 20 for sample in result.samples if sample.replicas >= 40 * 0.5 / 4)
    assert capacity is not None
    assert 3.0 <= capacity <= needed <= capacity + 60 / 240


def test_tenants_under_contention_get_their_shares() -> None:
    result = run(
        arrivals={"rate_per_s": 60},
        routers=1,
        replicas={"min": 2, "max": 2, "max_in_flight": 4},
        traffic=[{"tenant": "a", "output_tokens": 50}, {"tenant": "b", "output_tokens": 50}],
        faults=[],
        admission={"max_wait_s": 30.0},
        max_queue=200,
    )
    assert result.tenants["a"] == pytest.approx(0.75, abs=0.05)
    assert result.figures["fairness"] == pytest.approx(1.0, abs=0.02)


def test_differences_are_counted_seed_by_seed() -> None:
    one = [run(seed, balancing={"strategy": "random"}) for seed in (1, 2, 3)]
    other = [run(seed, balancing={"strategy": "least_busy"}) for seed in (1, 2, 3)]
    rows = {row[0]: row for row in differences(one, other)}
    better = sum(b.figures["missed"] < a.figures["missed"] for a, b in zip(one, other, strict=True))
    assert rows["missed"][4] == f"{better} of 3"
    assert rows["requests"][3:] == ["+0.0 %", ""]
    assert "a.share" in flat(one[0])
    assert table([one, other]).splitlines()[0].split() == ["figure", "busy", "busy", "difference", "better", "in"]
