"""An alert is raised once, for a reason that enough runs give, and is over when a measure says so."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.sections.alerts import AlertRule
from rayflow.policies.alerting import SLOT_S, Alerting, title


def rule(metric: str = "error_rate", threshold: float = 0.05, **keys: Any) -> AlertRule:
    return AlertRule(**{"metric": metric, "threshold": threshold, "window_s": 60.0, "min_count": 10, **keys})


def told(alerting: Alerting, now: float) -> list[tuple[str, bool]]:
    return [(change.rule.metric, change.raised) for change in alerting.judge(now)]


def test_a_rule_is_raised_once_and_cleared_once() -> None:
    judge = Alerting([rule()])
    judge.ended(0, runs=20, errors=2, took_ms=0)
    assert told(judge, 1) == [("error_rate", True)]
    assert told(judge, 6) == []
    judge.ended(30, runs=80, errors=0, took_ms=0)
    assert told(judge, 31) == [("error_rate", False)]
    assert told(judge, 36) == []


def test_the_value_is_told_and_the_threshold_itself_is_within_the_limit() -> None:
    judge = Alerting([rule(threshold=0.1)])
    judge.ended(0, runs=20, errors=2, took_ms=0)
    assert judge.judge(1) == []
    judge.ended(1, runs=20, errors=4, took_ms=0)
    (change,) = judge.judge(2)
    assert change.value == 6 / 40


def test_too_few_runs_raise_nothing() -> None:
    judge = Alerting([rule(), rule("response_time", 5000)])
    judge.ended(0, runs=9, errors=5, took_ms=4 * 60_000)
    assert told(judge, 1) == []


def test_response_time_is_the_mean_of_runs_without_errors() -> None:
    judge = Alerting([rule("response_time", 5000)])
    judge.ended(0, runs=20, errors=10, took_ms=49_999)
    assert told(judge, 1) == []
    judge.ended(1, runs=10, errors=0, took_ms=60_000)
    (change,) = judge.judge(2)
    assert change.value == (49_999 + 60_000) / 20


def test_what_is_older_than_the_window_does_not_count() -> None:
    judge = Alerting([rule(window_s=60.0)])
    judge.ended(0, runs=20, errors=20, took_ms=0)
    judge.judge(0)
    judge.ended(70, runs=20, errors=0, took_ms=0)
    assert told(judge, 70) == [("error_rate", False)]


def test_an_alert_stays_while_nothing_is_measured() -> None:
    judge = Alerting([rule()])
    judge.ended(0, runs=20, errors=20, took_ms=0)
    judge.judge(0)
    assert told(judge, 500) == [] and judge.standings[0].firing and judge.standings[0].value is None
    judge.ended(501, runs=1, errors=0, took_ms=10)
    assert told(judge, 501) == [("error_rate", False)]


def test_a_measure_that_swings_is_told_once_in_its_cooldown() -> None:
    judge = Alerting([rule("memory_usage", 0.8, window_s=5.0, cooldown_s=300.0)])
    raised = []
    for n in range(100):
        now = n * 10.0
        judge.sampled(now, "memory_usage", 0.9 if n % 2 else 0.5)
        raised += [now for change in judge.judge(now) if change.raised]
    assert raised == [10.0, 310.0, 610.0, 910.0]


def test_throughput_below_is_judged_after_a_whole_window() -> None:
    judge = Alerting([rule("throughput", 1.0, direction="below", window_s=60.0)])
    judge.judge(0)
    assert told(judge, 59) == []
    assert told(judge, 60) == [("throughput", True)]  # silence is what this rule is about
    judge.ended(61, runs=100, errors=0, took_ms=0)
    assert told(judge, 62) == [("throughput", False)]


def test_rules_of_the_same_metric_stand_alone() -> None:
    judge = Alerting([rule(threshold=0.05), rule(threshold=0.5)])
    judge.ended(0, runs=20, errors=2, took_ms=0)
    assert [change.rule.threshold for change in judge.judge(1)] == [0.05]


def test_what_was_raised_before_is_gone_on_with() -> None:
    judge = Alerting([rule()])
    judge.resume(0, [title(rule())])
    judge.ended(1, runs=20, errors=20, took_ms=0)
    assert told(judge, 1) == []
    judge.ended(70, runs=20, errors=0, took_ms=0)
    assert told(judge, 70) == [("error_rate", False)]


def test_a_long_window_holds_few_entries() -> None:
    judge = Alerting([rule(window_s=3600.0)])
    for second in range(20_000):
        judge.ended(float(second), runs=3, errors=0, took_ms=1)
        judge.judge(float(second))
    assert len(judge._slots) <= 3600 / SLOT_S + 2


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 50), st.integers(0, 50)), max_size=60))
def test_raised_and_cleared_take_turns(steps: list[tuple[float, int, int]]) -> None:
    judge, now, changes = Alerting([rule(cooldown_s=0.0)]), 0.0, []
    for wait, ok, errors in steps:
        now += wait
        judge.ended(now, ok + errors, errors, 0.0)
        changes += [change.raised for change in judge.judge(now)]
    assert changes == [n % 2 == 0 for n in range(len(changes))]
