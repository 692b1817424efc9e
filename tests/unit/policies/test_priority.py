"""Classes come first; what is known of the user decides within them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import PriorityConfig
from rayflow.errors import ValidationError
from rayflow.policies.priority import CLASSES, class_of, level

CONFIG = PriorityConfig()


def test_interactive_is_above_tool_is_above_batch() -> None:
    levels = [level(name, "", "", False, CONFIG) for name in CLASSES]
    assert levels == sorted(levels)
    assert [class_of(each) for each in levels] == [0, 1, 2]


def test_each_factor_raises_or_lowers_a_call_within_its_class() -> None:
    plain = level("tool", "", "", False, CONFIG)
    assert level("tool", "premium", "", False, CONFIG) > level("tool", "standard", "", False, CONFIG) > plain
    assert level("tool", "", "high", False, CONFIG) > plain > level("tool", "", "low", False, CONFIG)
    assert level("tool", "", "", True, CONFIG) > plain
    assert level("tool", "nobody knows", "this", False, CONFIG) == plain


def test_a_class_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="service_class: 'urgent' is none of batch, tool, interactive"):
        level("urgent", "", "", False, CONFIG)


@given(st.sampled_from(CLASSES), st.floats(-100, 100), st.floats(-100, 100), st.booleans())
def test_no_factor_lifts_a_call_out_of_its_class(name: str, tier: float, urgency: float, active: bool) -> None:
    config = PriorityConfig(user_tiers={"t": tier}, urgency={"u": urgency}, active_session=urgency)
    assert class_of(level(name, "t", "u", active, config)) == CLASSES.index(name)
