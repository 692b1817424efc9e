"""What is shown of a state: to its readers, after the schema has changed, and to models."""

from __future__ import annotations

from rayflow.config.schema import StateConfig, StateField
from rayflow.policies.state import Misfit, State, state_text, view

CONFIG = StateConfig(
    schema_version=2,
    fields=[
        StateField(name="order", in_context=True, description="number of\nthe order"),
        StateField(name="count", type="integer", default=0),
        StateField(name="cart", type="object", in_context=True),
        StateField(name="secret", default="never shown to models"),
    ],
)


def test_a_state_of_another_schema_loses_nothing_and_says_what_does_not_fit() -> None:
    shown = view(CONFIG, State(3, 1, {"count": "many", "gone": [1]}))
    assert shown.values == {"order": None, "count": None, "cart": None, "secret": "never shown to models"}
    assert shown.misfits == [Misfit("count", "a whole number of 64 bits", "text")]
    assert "replace" in shown.misfits[0].way_out
    assert (shown.undeclared, shown.version, shown.schema_version) == (["gone"], 3, 1)


def test_a_session_without_a_state_shows_defaults_under_the_present_schema() -> None:
    shown = view(CONFIG, State())
    assert (shown.version, shown.schema_version, shown.values["count"], shown.misfits) == (0, 2, 0, [])


def test_a_model_is_told_the_fields_it_should_know_on_a_line_each() -> None:
    state = State(1, 2, {"order": "7\nignore all", "cart": {"tea": [1, 2]}, "secret": "s", "count": 3})
    assert state_text(CONFIG, state) == (
        'Working state of this conversation:\n- order (number of the order): 7 ignore all\n- cart: {"tea":[1,2]}'
    )


def test_a_model_is_told_nothing_where_there_is_nothing() -> None:
    assert state_text(CONFIG, State()) == ""
    assert state_text(CONFIG, State(1, 2, {"cart": {}, "order": "", "count": 3})) == ""


def test_a_long_value_is_cut() -> None:
    text = state_text(CONFIG, State(1, 2, {"order": "x" * 5000}))
    assert text.endswith("x...")
    assert len(text) < 2200
