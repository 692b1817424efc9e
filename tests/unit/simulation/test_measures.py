from __future__ import annotations

import pytest

from rayflow.simulation.measures import Measures, Order, Shares, jain, quantile, reversals
from rayflow.simulation.request import Request
from rayflow.simulation.scenario import Objective, Scenario, Traffic


def request(arrived: float, first_at: float = 0.0, kind: int = 0, tenant: str = "", tokens: int = 1) -> Request:
    made = Request("t", arrived, arrived + 60, kind, 2.0, tenant, "t", tokens, 0.0, 0.0, 0)
    made.started, made.first_at = arrived, first_at or arrived
    return made


def test_quantiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [quantile(values, q) for q in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert quantile([], 0.5) is None


def test_fairness_is_one_for_equal_shares_and_one_over_n_where_one_has_all() -> None:
    assert jain([2.0, 2.0, 2.0]) == pytest.approx(1.0)
    assert jain([6.0, 0.0, 0.0]) == pytest.approx(1 / 3)
    assert jain([0.0, 0.0]) is None


def test_whoever_is_late_refused_or_failed_or_too_slow_has_missed_the_objective() -> None:
    measures = Measures(Scenario(name="s", objective=Objective(response_s=2.0, first_token_s=1.0)))
    measures.ended(request(0.0), "answered", 1.5, in_time=True)
    measures.ended(request(0.0), "answered", 2.5, in_time=True)
    measures.ended(request(0.0, first_at=1.2), "answered", 1.5, in_time=True)
    for end in ("failed", "refused", "late"):
        measures.ended(request(0.0), end, 9.0, in_time=True)
    figures = measures.figures()
    assert (figures["requests"], figures["answered"], figures["missed"]) == (6, 3, 5)
    assert figures["p99_s"] == 9.0, "a late request counts for as long as it was waited for"
    assert figures["p50_s"] == 1.5


def test_the_warm_up_does_not_count() -> None:
    measures = Measures(Scenario(name="s", warm_up_s=10.0))
    measures.ended(request(9.0), "answered", 12.0, in_time=True)
    measures.ended(request(10.0), "answered", 12.0, in_time=True)
    assert measures.figures()["requests"] == 1


def test_tenants_are_compared_by_tokens_for_their_weight() -> None:
    measures = Measures(Scenario(name="s"))
    measures.ended(request(0.0, tenant="a", tokens=300), "answered", 1.0, in_time=True)
    measures.ended(request(0.0, tenant="b", tokens=100), "answered", 1.0, in_time=True)
    measures.ended(request(0.0, tenant="b", tokens=500), "answered", 1.0, in_time=False)
    assert measures.tenants() == {"a": 0.75, "b": 0.25}
    assert measures.fairness({"a": 3.0, "b": 1.0}) == pytest.approx(1.0)
    assert measures.fairness({}) == pytest.approx(0.8)


def test_classes_are_measured_apart() -> None:
    scenario = Scenario(name="s", traffic=[Traffic(), Traffic(service_class="batch")])
    measures = Measures(scenario)
    measures.ended(request(0.0), "answered", 1.0, in_time=True)
    measures.ended(request(0.0, kind=1), "answered", 5.0, in_time=True)
    measures.ended(request(0.0, kind=1), "refused", 0.0, in_time=True)
    assert measures.classes() == {
        "batch": {"requests": 2, "answered_share": 0.5, "p99_s": 5.0},
        "interactive": {"requests": 1, "answered_share": 1.0, "p99_s": 1.0},
    }


def test_a_reversal_is_a_change_of_direction() -> None:
    sizes = [(1, 3), (3, 5), (5, 2), (2, 1), (1, 4)]
    assert reversals(Order(float(n), before, after, "") for n, (before, after) in enumerate(sizes)) == 2


def test_a_fault_is_diverted_when_its_replica_gets_less_than_half_of_its_share() -> None:
    shares = Shares(frozenset({0}))
    for n in range(4000):  # 40 a second to four replicas; from 30 s on replica 0 is spared, from 70 s on not any more
        now = n / 40
        spared = 30.0 <= now < 70.0
        shares.sent(1 + n % 3 if spared else n % 4, now)
    found = shares.diversion(20.0, 60.0, 4, 100.0)
    assert found.divert_s == pytest.approx(10.0 - 0.5, abs=0.2), "half of the window of 1 s is enough"
    assert found.return_s == pytest.approx(10.0 - 0.5, abs=0.2)
    assert found.share == pytest.approx(0.25 * 10 / 40, rel=0.05)


def test_a_fault_that_nobody_heeds_is_never_diverted() -> None:
    shares = Shares(frozenset({0}))
    for n in range(4000):
        shares.sent(n % 4, n / 40)
    assert shares.diversion(20.0, None, 4, 100.0).divert_s is None
