from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faults.checker import Findings
from faults.fault import Fault
from faults.operations import Operation, Outcome
from faults.report import Aftermath, Report, quantile, report
from faults.scene import Injection, Scene
from faults.system import System
from faults.upstream import Upstream
from faults.watch import Actor, Footprint, Snapshot

HEALED = Injection("router/0", at_s=10.0, until_s=10.0, heal_s=1.5)
QUIET = Aftermath(Findings(), [], 0, [], True, Footprint(100.0, 10), Footprint(105.0, 10))


class Plain(Fault):
    name, promise, times = "plain", "nothing is lost", 1

    async def inject(self, scene: Scene) -> None:
        raise NotImplementedError


class Forgiving(Plain):
    allows_partial = True

    def excuses(self, operation: Operation, scene: Scene) -> bool:
        return operation.code == "model-failed"


def operation(outcome: Outcome = Outcome.OK, *, sent_s: float = 9.9, ended_s: float = 10.2, **more: Any) -> Operation:
    return Operation("s-1", 1, "q", ("alpha",), True, sent_s=sent_s, ended_s=ended_s, outcome=outcome, **more)


def judged(
    *operations: Operation, fault: Fault | None = None, injection: Injection = HEALED, aftermath: Aftermath = QUIET
) -> Report:
    system = cast(System, SimpleNamespace(upstream=Upstream(1)))
    load = cast(Any, SimpleNamespace(operations=list(operations)))
    scene = Scene(system, load, random.Random(1), 1, print, [injection])
    return report(fault or Plain(), scene, aftermath, retried=0)


def test_a_run_without_a_broken_promise_passes() -> None:
    made = judged(operation(), operation(Outcome.STREAM_ERROR, ended_s=10.4, status=200, code="peer-lost"))
    assert made.passed
    assert (made.requests, made.acknowledged, made.stream_errors, made.stream_error_max_s) == (2, 1, 1, 0.4)
    assert made.healing_s["max"] == 1.5
    assert made.rss_growth == 0.05


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNKNOWN, Outcome.REFUSED])
def test_an_error_before_the_first_byte_is_a_reason_and_shows_its_code(outcome: Outcome) -> None:
    made = judged(operation(outcome, status=503, code="peer-lost"))
    assert made.safe_errors == {"503 peer-lost": 1}
    assert not made.passed


def test_a_stream_that_ended_late_is_a_reason() -> None:
    assert not judged(operation(Outcome.STREAM_ERROR, ended_s=11.2)).passed


def test_a_failure_that_the_fault_explains_is_counted_apart() -> None:
    made = judged(operation(Outcome.FAIL, status=502, code="model-failed"), fault=Forgiving())
    assert made.passed
    assert (made.safe_errors, made.excused) == ({}, {"502 model-failed": 1})


def test_slow_and_missing_healing_are_reasons() -> None:
    assert not judged(injection=replace(HEALED, heal_s=5.1)).passed
    assert not judged(injection=replace(HEALED, heal_s=None)).passed
    assert judged(injection=replace(HEALED, heal_s=None, heals=False)).passed


@pytest.mark.parametrize(
    "kind", ["lost", "duplicated", "reordered", "interleaved", "wrong", "revived", "foreign", "partial"]
)
def test_every_violation_of_a_history_is_a_reason(kind: str) -> None:
    findings = Findings(**{kind: ["turn 1"]})
    assert not judged(aftermath=replace(QUIET, findings=findings)).passed


def test_partial_answers_pass_only_where_they_are_allowed() -> None:
    aftermath = replace(QUIET, findings=Findings(partial=["turn 1"]))
    assert judged(fault=Forgiving(), aftermath=aftermath).passed


@pytest.mark.parametrize(
    "left", [{"strays": ["ray::Agent"]}, {"open_calls": 1}, {"damaged_shards": ["row 3"]}, {"recovered": False}]
)
def test_whatever_is_left_behind_is_a_reason(left: dict[str, Any]) -> None:
    assert not judged(aftermath=replace(QUIET, **left)).passed


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile([1.0, 2.0], 1.0) == 2.0


def test_a_system_is_whole_when_every_expected_actor_is_ready_in_a_process() -> None:
    ready = Actor("router/0", "router", "ready", 7)
    assert Snapshot("ready", {"router/0": ready}).whole({"router/0"})
    assert not Snapshot("ready", {"router/0": ready}).whole({"router/0", "router/1"})
    assert not Snapshot("degraded", {"router/0": ready}).whole({"router/0"})
    assert not Snapshot("ready", {"router/0": replace(ready, state="starting")}).whole({"router/0"})
