"""The figures of an evaluation, on cases small enough to be counted by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.policies.routing import Decision
from rayflow.policies.routing.evaluation import Outcome, calibration_error, report


def outcome(right: str, surest: str, confidence: float, *taken: str) -> Outcome:
    return Outcome(frozenset(right.split()), surest, confidence, taken)


def test_a_declined_message_counts_as_wrong_and_beside_it_as_if_it_had_not_been_declined() -> None:
    made = report([outcome("a", "a", 0.9, "a"), outcome("a", "a", 0.3), outcome("b", "a", 0.8, "a")])
    assert made.accuracy_in_scope == pytest.approx(1 / 3)
    assert made.accuracy_without_threshold == pytest.approx(2 / 3)
    assert made.out_of_scope_recall is None


def test_out_of_scope_messages_do_not_count_for_accuracy_but_for_recall() -> None:
    made = report([outcome("a", "a", 0.9, "a"), outcome("", "a", 0.3), outcome("", "a", 0.8, "a")])
    assert made.accuracy_in_scope == 1.0
    assert made.out_of_scope_recall == 0.5
    assert (made.in_scope, made.out_of_scope) == (1, 2)


def test_precision_and_recall_are_counted_over_all_agents_asked_and_wanted() -> None:
    made = report([outcome("a b", "a", 0.9, "a", "c"), outcome("c", "c", 0.9, "c"), outcome("", "a", 0.1)])
    assert made.precision == pytest.approx(2 / 3)
    assert made.recall == pytest.approx(2 / 3)
    assert made.exact == pytest.approx(2 / 3)


def test_the_confusion_table_shows_who_was_asked_instead() -> None:
    made = report(
        [outcome("a", "a", 0.9, "a"), outcome("a", "b", 0.9, "b"), outcome("", "a", 0.9, "a"), outcome("b", "a", 0.1)]
    )
    assert made.confusion == {"(nobody)": {"a": 1}, "a": {"a": 1, "b": 1}, "b": {"(nobody)": 1}}


def test_a_decision_for_the_default_agent_was_taken_for_nobodys() -> None:
    decided = Decision(("a",), 0.3, "default", "")
    assert Outcome.of(["a"], decided, Decision(("a",), 0.3, "intelligent", "")).taken == ()
    assert Outcome.of([], Decision((), 0.3, "declined", ""), decided).surest == "a"


def test_confidence_that_is_right_as_often_as_it_says_has_no_error() -> None:
    assert calibration_error([(0.8, True)] * 8 + [(0.8, False)] * 2) == pytest.approx(0.0)
    assert calibration_error([(0.9, True)] * 5 + [(0.9, False)] * 5) == pytest.approx(0.4)
    assert calibration_error([(1.0, False), (0.0, True)]) == pytest.approx(1.0)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))
def test_the_calibration_error_lies_between_nothing_and_one(judged: list[tuple[float, bool]]) -> None:
    assert 0 <= calibration_error(judged) <= 1 + 1e-9


def test_nothing_to_report_on_is_an_error() -> None:
    with pytest.raises(ValueError, match="no labelled messages"):
        report([])
