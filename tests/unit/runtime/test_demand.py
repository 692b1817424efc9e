"""What several routers say of a pool, as one load."""

from __future__ import annotations

from rayflow.messages import PoolDemand
from rayflow.policies.scaling import Load
from rayflow.runtime.demand import STALE_S, Demands


def test_what_is_there_is_added_and_the_longest_wait_is_the_longest_of_any() -> None:
    demands = Demands()
    demands.take("router/0", [PoolDemand("a", 3, 2, 1.5, 9, 4, 8.0), PoolDemand("b", 1)], 0.0)
    demands.take("router/1", [PoolDemand("a", 1, 0, 0.0, 2, 1, 0.5)], 0.0)
    assert demands.load("a", 2, 1, 0.0) == Load(2, 1, 4, 2, 1.5, 11, 5, 8.5)
    assert demands.load("b", 1, 0, 0.0) == Load(1, 0, in_flight=1)


def test_a_router_that_restarts_counts_from_nothing_and_nothing_is_counted_twice() -> None:
    demands = Demands()
    for arrived, finished in ((10, 8), (12, 12), (3, 1), (5, 5)):
        demands.take("router/0", [PoolDemand("a", arrived=arrived, finished=finished, response_s=finished * 2.0)], 0.0)
    load = demands.load("a", 1, 0, 0.0)
    assert load is not None
    assert (load.arrived, load.finished, load.response_s) == (17, 17, 34.0)


def test_a_silent_router_is_believed_for_a_while_and_one_that_is_gone_not_at_all() -> None:
    demands = Demands()
    demands.take("router/0", [PoolDemand("a", in_flight=3)], 0.0)
    demands.take("router/1", [PoolDemand("a", in_flight=4)], 3.0)
    assert [load.in_flight for at in (3.0, STALE_S + 1) if (load := demands.load("a", 1, 0, at))] == [7, 4]
    demands.keep(["router/0"])
    load = demands.load("a", 1, 0, 3.0)
    assert load is not None
    assert load.in_flight == 3


def test_while_nobody_says_anything_there_is_no_load() -> None:
    demands = Demands()
    assert demands.load("a", 1, 0, 0.0) is None
    demands.take("router/0", [PoolDemand("b")], 0.0)
    assert demands.load("a", 1, 0, 0.0) is None
    assert demands.load("b", 1, 0, STALE_S + 0.1) is None
