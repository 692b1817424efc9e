"""What a router knows of one model, in virtual time."""

from __future__ import annotations

import random
from typing import Any

import pytest
from actor_doubles import config

from rayflow.actors.gates import Gate
from rayflow.clock import ManualClock
from rayflow.errors import CircuitOpen, ModelError, ModelRateLimited, ModelTimeout, WorkflowError


class Endpoint:
    """A gate, and what comes to the endpoint behind it."""

    def __init__(self, model: dict[str, Any] | None = None, **sections: Any) -> None:
        workflow = config(
            {"name": "a", "model": "m", **sections.pop("agent", {})},
            models=[{"name": "m", **(model or {})}],
            **sections,
        )
        self.clock = ManualClock(1000.0)
        self.gate = Gate(workflow.model("m"), workflow, self.clock, random.Random(1))
        self.calls = 0
        self.kinds: list[str] = []

    def call(self, error: WorkflowError | None = None, *, took_s: float = 0.0, again: bool = False) -> None:
        """One call that ends so. Raises what the gate refuses it with."""
        permit = self.gate.enter(again=again)
        self.gate.begin(permit, 0.0)
        self.calls += 1
        self.clock.advance(took_s)
        if change := self.gate.leave(permit, error):
            self.kinds.append(change.kind)

    def run(self, error: ModelError) -> None:
        """A run whose calls all end with this error, with its retries."""
        for attempt in range(1, 100):
            try:
                self.call(error, again=attempt > 1)
            except CircuitOpen:
                return
            wait_s = self.gate.wait_s(error, attempt, 60.0, last=True)
            if wait_s is None:
                return
            self.clock.advance(wait_s)


@pytest.mark.parametrize("per_s", [1, 10, 100])
def test_an_endpoint_that_is_down_for_a_minute_sees_less_than_what_is_offered(per_s: int) -> None:
    endpoint = Endpoint()
    begun, offered = endpoint.clock.now(), 0
    while (now := begun + offered / per_s) < begun + 60:
        endpoint.clock.advance(max(0.0, now - endpoint.clock.now()))
        endpoint.run(ModelError("down"))
        offered += 1
    assert endpoint.calls <= 1.2 * offered
    assert endpoint.calls <= 10
    endpoint.clock.advance(300.0)
    endpoint.call()
    assert endpoint.kinds == [*["breaker.opened"] * (len(endpoint.kinds) - 1), "breaker.closed"]


@pytest.mark.parametrize("per_s", [5, 50, 500])
def test_an_endpoint_that_refuses_for_a_minute_sees_a_fifth_more_than_what_is_offered(per_s: int) -> None:
    endpoint = Endpoint({"retries": {"strategy": "simple", "max_attempts": 5}}, resilience={"retry_floor_per_s": 1.0})
    for second in range(60):
        for _ in range(per_s):
            endpoint.run(ModelRateLimited("slow down"))
        endpoint.clock.advance(1.0)
        offered = (second + 1) * per_s
        assert endpoint.calls <= 1.2 * offered + 1.0 * (second + 10)
    assert endpoint.calls > offered
    endpoint.call()
    assert not endpoint.kinds, "it answers: it is well"


def test_routers_share_what_a_quiet_service_may_repeat() -> None:
    alone, one_of_four = Endpoint(resilience=OFF), Endpoint(resilience=OFF, processing={"routers": 4})
    counts = [
        sum(endpoint.gate.wait_s(ModelError("x"), 1, 60.0, last=True) is not None for _ in range(1000))
        for endpoint in (alone, one_of_four)
    ]
    assert counts == [100, 25]


OFF = {"breaker": {"enabled": False}}


def test_one_of_several_endpoints_that_is_down_does_not_close_the_model() -> None:
    urls = [f"http://127.0.0.1:{port}/v1" for port in (1, 2, 3, 4)]
    endpoint = Endpoint({"base_url": urls})
    for _ in range(19):
        endpoint.call(ModelError("down"))
    assert not endpoint.kinds
    endpoint.call(ModelError("down"))
    assert endpoint.kinds == ["breaker.opened"]


@pytest.mark.parametrize(("took_s", "opens"), [(0.5, False), (59.0, False), (60.0, True)])
def test_deadlines_of_clients_say_nothing_of_the_endpoint_until_they_are_long(took_s: float, opens: bool) -> None:
    endpoint = Endpoint()
    for _ in range(5):
        endpoint.call(ModelTimeout("late", phase="total"), took_s=took_s)
    assert bool(endpoint.kinds) is opens


def test_a_limit_of_the_workflows_own_speaks_of_the_endpoint() -> None:
    endpoint = Endpoint(agent={"timeout_s": 5.0})
    for _ in range(5):
        endpoint.call(ModelTimeout("late", phase="total"), took_s=4.9)
    assert endpoint.kinds == ["breaker.opened"]


def test_who_has_waited_in_line_asks_again() -> None:
    endpoint = Endpoint()
    waiting = endpoint.gate.enter()
    for _ in range(5):
        endpoint.call(ModelError("down"))
    with pytest.raises(CircuitOpen) as caught:
        endpoint.gate.begin(waiting, 3.0)
    assert caught.value.retry_after_s == pytest.approx(10.5, abs=0.6)
    endpoint.gate.leave(waiting, caught.value)
    endpoint.clock.advance(11.0)
    late = endpoint.gate.enter()
    assert late.probe


def test_a_model_that_names_a_wait_is_repeated_after_it_where_there_is_no_other() -> None:
    endpoint = Endpoint()
    error = ModelRateLimited("slow down", retry_after_s=2.0)
    endpoint.call(error)
    assert endpoint.gate.wait_s(error, 1, 60.0, last=False) is None
    wait_s = endpoint.gate.wait_s(error, 1, 60.0, last=True)
    assert wait_s is not None
    assert wait_s >= 2.0
    with pytest.raises(ModelRateLimited):
        endpoint.call()
    endpoint.clock.advance(wait_s)
    endpoint.call()
    assert endpoint.kinds == ["breaker.cooling"]
