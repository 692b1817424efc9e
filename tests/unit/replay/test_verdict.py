"""What fails a build."""

from __future__ import annotations

import msgspec
import pytest

from rayflow.errors import ValidationError
from rayflow.replay.report import Figures
from rayflow.replay.verdict import broken, conditions

NOTHING: dict[str, int | None] = {
    name: None if "before" in name or "after" in name else 0 for name in Figures.__struct_fields__
}


def figures(**told: float) -> Figures:
    return msgspec.convert({**NOTHING, "replayed": 10, **told}, Figures)


def test_nothing_changed_breaks_nothing() -> None:
    asked = conditions("answers, routing, errors, unrecorded, latency>1.2x, tokens>1x, cost>1.1x")
    assert len(asked) == 7 and broken(figures(), asked) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("answers", {"answers": 1}),
        ("routing", {"routing": 3}),
        ("errors", {"new_errors": 1}),
        ("unrecorded", {"unrecorded": 1}),
        ("latency>1.2x", {"latency_before_ms": 100.0, "latency_after_ms": 121.0}),
        ("tokens > 2x", {"tokens_before": 100, "tokens_after": 201}),
        ("cost>1.1x", {"cost_before_usd": 1.0, "cost_after_usd": 1.11}),
    ],
)
def test_each_condition_is_broken_by_its_own_figure(text: str, told: dict[str, float]) -> None:
    (said,) = broken(figures(**told), conditions(text))
    assert said.startswith(text.partition(">")[0].strip())
    assert broken(figures(**told), conditions("")) == []


def test_a_ratio_at_its_limit_or_of_nothing_is_no_failure() -> None:
    asked = conditions("cost>1.5x")
    assert broken(figures(cost_before_usd=1.0, cost_after_usd=1.5), asked) == []
    assert broken(figures(cost_before_usd=0.0, cost_after_usd=1.0), asked) == []


@pytest.mark.parametrize("text", ["answer", "latency", "latency>2", "cost<1x", "answers;routing", "errors>1x"])
def test_what_is_no_condition_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(ValidationError, match=r"answers, routing, errors.*latency>1\.2x"):
        conditions(text)
