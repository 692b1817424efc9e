"""What a modelled replica does with calls, and whether queues of them behave as theory says."""

from __future__ import annotations

import random
from math import factorial, inf
from typing import Any

import pytest

from rayflow.simulation.engine import Engine
from rayflow.simulation.faults import HEALTHY, Condition
from rayflow.simulation.plan import plan
from rayflow.simulation.reading import from_dict
from rayflow.simulation.request import Request
from rayflow.simulation.scenario import Service
from rayflow.simulation.servers import Server, server
from rayflow.simulation.simulation import simulate


class Bench:
    """One replica, and when its calls ended."""

    def __init__(self, changing: bool = False, **service: Any) -> None:
        self.engine = Engine()
        self.ended: dict[str, tuple[float, bool]] = {}
        self.server: Server = server(
            Service(**service), 0, self.engine, random.Random(1), self._ended, changing=changing
        )
        self.calls: dict[str, Request] = {}

    def _ended(self, call: Request, ok: bool) -> None:
        call.over = True
        self.ended[call.ticket] = (round(self.engine.now, 9), ok)

    def call(self, name: str, at: float, work_s: float, first_s: float = 0.0) -> None:
        call = self.calls[name] = Request(name, at, inf, 0, 2.0, "", name, 1, first_s or work_s, work_s, 0)
        self.engine.at(at, self.server.begin, call)

    def give_up(self, name: str, at: float) -> None:
        def stop() -> None:
            self.calls[name].over = True
            self.server.stop(self.calls[name])

        self.engine.at(at, stop)

    def run(self) -> dict[str, float]:
        self.engine.run()
        assert self.server.in_flight == 0
        return {name: at for name, (at, ok) in self.ended.items() if ok}


def test_calls_that_wait_for_a_model_do_not_feel_each_other() -> None:
    bench = Bench(model="io")
    bench.call("a", 0.0, 2.0, first_s=0.5)
    bench.call("b", 1.0, 2.0)
    assert bench.run() == {"a": 2.0, "b": 3.0}
    assert bench.calls["a"].first_at == 0.5


def test_slots_work_in_order_of_arrival() -> None:
    bench = Bench(model="slots", slots=1)
    bench.call("a", 0.0, 2.0)
    bench.call("b", 0.5, 1.0, first_s=0.25)
    bench.call("c", 0.6, 1.0)
    assert bench.run() == {"a": 2.0, "b": 3.0, "c": 4.0}
    assert bench.calls["b"].first_at == 2.25


def test_a_call_that_was_given_up_frees_its_slot_and_one_that_waited_is_passed_over() -> None:
    bench = Bench(model="slots", slots=1)
    bench.call("a", 0.0, 10.0)
    bench.call("b", 0.1, 1.0)
    bench.call("c", 0.2, 1.0)
    bench.give_up("b", 0.5)
    bench.give_up("a", 2.0)
    assert bench.run() == {"c": 3.0}


def test_a_shared_processor_serves_all_calls_alike() -> None:
    bench = Bench(model="shared", cores=1)
    bench.call("a", 0.0, 2.0, first_s=1.0)
    bench.call("b", 1.0, 0.5)
    assert bench.run() == {"b": 2.0, "a": 2.5}
    assert bench.calls["a"].first_at == 1.0


def test_no_call_runs_on_two_cores() -> None:
    bench = Bench(model="shared", cores=2)
    for name in "abc":
        bench.call(name, 0.0, 2.0)
    bench.call("later", 10.0, 2.0)
    assert bench.run() == {"a": 3.0, "b": 3.0, "c": 3.0, "later": 12.0}


def test_the_others_run_faster_once_a_call_is_given_up() -> None:
    bench = Bench(model="shared", cores=1)
    bench.call("a", 0.0, 2.0)
    bench.call("b", 0.0, 8.0)
    bench.give_up("b", 2.0)
    assert bench.run() == {"a": 3.0}


def test_a_processor_that_becomes_slow_slows_what_is_running() -> None:
    bench = Bench(model="shared", cores=1)
    bench.call("a", 0.0, 4.0)
    bench.engine.at(1.0, bench.server.change, Condition(slow=4.0))
    bench.engine.at(9.0, bench.server.change, HEALTHY)
    assert bench.run() == {"a": 10.0}


def test_a_slow_replica_takes_so_many_times_longer() -> None:
    bench = Bench(model="io")
    bench.server.change(Condition(slow=16.0))
    bench.call("a", 0.0, 1.0, first_s=0.25)
    assert bench.run() == {"a": 16.0}
    assert bench.calls["a"].first_at == 4.0


def test_calls_under_way_feel_it_when_their_replica_becomes_slow_or_heals() -> None:
    bench = Bench(model="io", changing=True)
    bench.call("a", 0.0, 4.0)
    bench.call("b", 1.0, 4.0)
    bench.engine.at(2.0, bench.server.change, Condition(slow=10.0))
    bench.engine.at(12.0, bench.server.change, HEALTHY)
    assert bench.run() == {"a": 13.0, "b": 14.0}


def test_a_failing_replica_fails_its_share_of_the_calls_soon() -> None:
    bench = Bench(model="slots", slots=1)
    bench.server.change(Condition(fail=0.25, fail_after_s=0.02))
    for n in range(2000):
        bench.call(str(n), float(n), 0.5)
    answered = bench.run()
    failed = [at for at, ok in bench.ended.values() if not ok]
    assert len(failed) == pytest.approx(500, rel=0.15)
    assert len(answered) + len(failed) == 2000
    assert all(at % 1.0 == pytest.approx(0.02) for at in failed)


# --- against theory ---

PATIENT = {"strategy": "bounded", "max_wait_s": 3600.0}


def mean_s(figure: str, rate: float, replicas: int, service: dict[str, Any], in_flight: int, seeds: int = 3) -> float:
    scenario = from_dict(
        {
            "name": "theory",
            "duration_s": 25_000 / rate,
            "arrivals": {"rate_per_s": rate},
            "replicas": {"min": replicas, "max": replicas, "max_in_flight": in_flight},
            "service": {"first_token_s": {"kind": "exponential", "mean": 1.0}, **service},
            "traffic": [{"deadline_s": 86_400}],
            "admission": PATIENT,
            "max_queue": 1_000_000,
        }
    )
    found = [simulate(plan(scenario), seed).figures[figure] or 0.0 for seed in range(seeds)]
    return sum(found) / seeds


def erlang_c(servers: int, offered: float) -> float:
    """The probability of having to wait in M/M/c."""
    top = offered**servers / factorial(servers) * servers / (servers - offered)
    return top / (sum(offered**k / factorial(k) for k in range(servers)) + top)


@pytest.mark.parametrize(("servers", "rate"), [(1, 0.7), (4, 3.0), (10, 7.5)])
def test_who_waits_in_line_for_one_of_c_replicas_waits_as_in_erlangs_formula(servers: int, rate: float) -> None:
    expected = erlang_c(servers, rate) / (servers - rate)
    assert mean_s("waited_mean_s", rate, servers, {"model": "io"}, 1) == pytest.approx(expected, rel=0.12)


def test_slots_of_one_replica_are_a_queue_of_the_same_kind() -> None:
    expected = 1.0 + erlang_c(4, 3.0) / (4 - 3.0)
    found = mean_s("mean_s", 3.0, 1, {"model": "slots", "slots": 4}, 10_000)
    assert found == pytest.approx(expected, rel=0.05)


def test_a_shared_processor_keeps_calls_as_long_as_a_queue_in_the_mean() -> None:
    assert mean_s("mean_s", 0.7, 1, {"model": "shared"}, 10_000) == pytest.approx(1 / (1 - 0.7), rel=0.1)
