"""The budget of a call is spent in a stated order, and each piece says why it is there."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from long_conversation import learnt, turns

from rayflow.chat import FunctionCall, Message, ToolCall
from rayflow.config.load import from_dict
from rayflow.config.schema import ContextConfig
from rayflow.errors import ConfigurationError
from rayflow.messages import Turn
from rayflow.policies.context import Context, Facts, Past, WrittenSummary, assemble, plain, state_line
from rayflow.policies.context.known import Known
from rayflow.policies.context.tokens import message_tokens

DAY_US = 86_400_000_000


def past(*messages: Message, created_us: int = 0) -> Past:
    return learnt([Turn(n, message, created_us=created_us) for n, message in enumerate(messages, 1)])


def user(text: str) -> Message:
    return Message("user", text)


def said(text: str) -> Message:
    return Message("assistant", text)


def call(name: str) -> Message:
    return Message("assistant", None, tool_calls=[ToolCall(name, FunctionCall("look_up", '{"q": "x"}'))])


def result(name: str, text: str = "found") -> Message:
    return Message("tool", text, tool_call_id=name)


def built(known: Past, *new: Message, facts: Facts | None = None, now_us: int = 1, **config: Any) -> Context:
    context = assemble(
        known,
        new or (user("And now?"),),
        ContextConfig.model_validate({"retrieval": 5} | config),
        now_us,
        facts or Facts(),
    )
    context.validate()
    return context


def reasons(context: Context) -> list[str]:
    return [piece.inclusion.reason for piece in context.pieces]


def test_a_short_past_is_there_whole_and_alone() -> None:
    context = built(past(user("one"), said("two")), user("three"))
    assert context.messages == [user("one"), said("two"), user("three")]
    assert reasons(context) == ["window", "window", "new"]
    assert [piece.inclusion.turn for piece in context.pieces] == [1, 2, 0]
    assert context.left_out == {}


def test_the_window_holds_so_many_messages_and_says_what_it_leaves_out() -> None:
    context = built(learnt(turns(30)), window=4, retrieval=0, compression=False)
    assert [piece.inclusion.turn for piece in context.pieces] == [27, 28, 29, 30, 0]
    assert context.left_out == {"outside the window": 26}


def test_new_messages_are_whole_even_beyond_the_budget() -> None:
    long = user("word " * 500)
    context = built(past(user("one"), said("two")), long, max_context_tokens=100)
    assert context.messages == [long]
    assert context.tokens > context.budget


def test_a_result_never_comes_without_its_call_nor_a_call_without_its_result() -> None:
    known = past(user("find x"), call("c1"), result("c1"), said("x is found"), user("thanks"), said("welcome"))
    for window in range(7):
        shown = built(known, window=window).messages[:-1]
        assert all(message.role != "tool" for message in shown[:1])
        assert sum(message.role == "tool" for message in shown) == sum(bool(m.tool_calls) for m in shown)


def test_a_new_result_brings_its_call_whatever_the_window() -> None:
    known = past(user("find x and y"), call("c1"))
    context = built(known, result("c1"), window=0, max_context_tokens=20)
    assert context.messages == [call("c1"), result("c1")]
    assert reasons(context) == ["call", "new"]


def test_long_results_are_cut_before_anything_is_left_out() -> None:
    known = past(user("find x"), call("c1"), result("c1", "row of data\n" * 400), said("here it is"))
    context = built(known, max_context_tokens=300, tool_result_tokens=50, compression=False)
    assert reasons(context) == ["window", "window", "window", "window", "new"]
    assert "characters left out" in context.messages[2].text
    assert "cut to" in context.pieces[2].inclusion.why


def test_a_result_is_not_cut_where_it_fits() -> None:
    known = past(user("find x"), call("c1"), result("c1", "row of data\n" * 100), said("here it is"))
    assert built(known, tool_result_tokens=50).messages[2].text == "row of data\n" * 100


def test_what_is_too_old_is_left_out_unless_it_is_pinned() -> None:
    old = [Turn(n, user(f"old {n}"), created_us=1000) for n in range(1, 4)]
    new = [Turn(n, user(f"new {n}"), created_us=2 * DAY_US) for n in range(4, 6)]
    context = built(learnt([*old, *new]), facts=Facts(pinned_turns=frozenset({2})), now_us=2 * DAY_US + 1)
    assert [message.text for message in context.messages] == ["old 2", "new 4", "new 5", "And now?"]
    assert context.left_out == {"too old, or beyond context.search_turns": 2}


def test_turns_whose_age_is_not_known_are_young() -> None:
    assert len(built(past(user("one")), now_us=10 * DAY_US).messages) == 2


def test_instructions_within_a_session_are_pinned() -> None:
    known = past(Message("system", "Speak like a pirate."), *(user(f"message {n}") for n in range(40)))
    context = built(known, window=2, retrieval=0)
    assert context.messages[0] == Message("system", "Speak like a pirate.")
    assert context.pieces[0].inclusion.reason == "pinned"
    assert context.left_out == {"outside the window": 38}


def test_sources_become_one_system_message_and_can_be_turned_off() -> None:
    facts = Facts.of(
        {
            "pinned": ["Contract 77."],
            "preferences": {"language": "German", "expertise_level": "expert", "empty": None},
            "session_data": {"current_topic": "refunds", "user_goals": ["a refund", "an apology"]},
        }
    )
    context = assemble(past(), [user("hi")], ContextConfig(), 1, facts, external=[("profile", "A gardener.")])
    assert reasons(context) == ["pinned", "preferences", "session_data", "external", "new"]
    assert context.messages[0].text == (
        "Keep in mind: Contract 77.\n\n"
        "The user's preferences:\n- language: German\n- expertise level: expert\n\n"
        "About this session:\n- current topic: refunds\n- user goals: a refund, an apology\n\n"
        "A gardener."
    )
    only = built(past(), user("hi"), facts=facts, sources=["user_preferences", "system_state"])
    assert reasons(only) == ["pinned", "preferences", "new"]


def test_the_state_of_the_system_is_told_where_it_is_wanted() -> None:
    state = state_line("support", 4, 1_700_000_000_000_000)
    assert state == "It is Tuesday, 2023-11-14 22:13 UTC. Workflow: support. Turns in this conversation so far: 4."
    config = ContextConfig(sources=["conversation_history", "system_state"])
    assert assemble(past(), [user("hi")], config, 1, state=state).messages[0].text == state


def test_metadata_of_another_form_are_not_used() -> None:
    facts = Facts.of({"pinned": 7.5, "preferences": "German", "session_data": [1], "context_summary": {"text": 3}})
    assert facts == Facts()
    assert Facts.of({"pinned": "Contract 77."}).pinned == ("Contract 77.",)
    assert Facts.of({"pinned": [3, True, " "]}).pinned_turns == {3}


def test_a_summary_of_a_model_is_used_and_what_came_later_is_added() -> None:
    known = learnt(turns(100))
    facts = Facts(summary=WrittenSummary("They talk of curtains.", 40, 4, "writer"))
    context = built(known, facts=facts, compression_threshold=100, window=10, retrieval=0)
    written, extracted = context.pieces[:2]
    assert written.inclusion.why == "version 4 by writer, stands for the turns up to 40"
    assert written.message.text.endswith("(version 4):\nThey talk of curtains.")
    assert extracted.message.text.startswith("Summary of turns 41 to 90")
    assert context.summarised == 90


def test_below_the_threshold_nothing_is_summarised() -> None:
    assert "summary" not in reasons(built(learnt(turns(60)), compression_threshold=100_000))
    assert "summary" not in reasons(built(learnt(turns(60)), compression=False, compression_threshold=0))


def test_a_summary_keeps_to_its_ratio() -> None:
    known = learnt(turns(60))
    stood_for = known.tokens_until(41)
    context = built(known, compression_threshold=100, compression_ratio=0.1, retrieval=0)
    assert 0 < context.pieces[0].inclusion.tokens <= stood_for * 0.1


def test_chatter_brings_nothing_back() -> None:
    context = built(learnt(turns(200)), user("Thanks, that sounds good to me!"), compression=False)
    assert set(reasons(context)) == {"window", "new"}


_messages = st.lists(
    st.one_of(
        st.text(max_size=400).map(user),
        st.text(max_size=400).map(said),
        st.text(max_size=200).map(lambda text: Message("system", text)),
        st.sampled_from([call("c1"), call("c2")]),
        st.tuples(st.sampled_from(["c1", "c2"]), st.text(max_size=900)).map(lambda made: result(*made)),
    ),
    max_size=45,
)


@given(
    _messages, st.integers(1, 600), st.integers(0, 30), st.sets(st.integers(1, 45), max_size=3), st.text(max_size=90)
)
def test_any_conversation_keeps_the_budget_and_the_order(
    messages: list[Message], budget: int, window: int, pins: set[int], text: str
) -> None:
    facts = Facts(pinned_turns=frozenset(pins), preferences=("language: German",))
    context = built(
        past(*messages), user(text), facts=facts, max_context_tokens=budget, window=window, compression_threshold=10
    )
    assert context.messages[-1] == user(text)
    assert sum(context.left_out.values()) + len(
        {piece.inclusion.turn for piece in context.pieces if piece.inclusion.turn}
    ) == len(messages)


def test_the_short_way_gives_the_same_as_the_long_one() -> None:
    config = ContextConfig()
    messages = [user("one"), call("c1"), result("c1"), said("two")]
    short = plain(Known(0, 1, 1), deque(messages, maxlen=20), 4, [user("three")], config, 1)
    assert short == assemble(past(*messages), [user("three")], config, 1).messages
    tokens = sum(map(message_tokens, [*messages, user("three")]))
    small = ContextConfig(max_context_tokens=tokens - 1)
    assert plain(Known(0, 1, 1), deque(messages), 4, [user("three")], small, 1) is None
    assert plain(Known(0, 1, 1), deque(messages), 5, [user("three")], config, 1) is None
    assert plain(Known(0, 1, 1), deque(messages), 4, [user("three")], config, 2 * DAY_US) is None
    assert plain(Known(0, 1, 1, Facts(pinned=("x",))), deque(messages), 4, [user("three")], config, 1) is None


@pytest.mark.parametrize(
    ("settings", "turns"),
    [({"compression": False}, 30), ({}, 11), ({"retrieval": 3}, 3), ({"max_context_tokens": 30}, 2)],
    ids=["the window is all", "short enough to need no summary", "searched beyond the window", "no room"],
)
def test_the_short_way_serves_so_many_turns_of_thirty(settings: dict[str, Any], turns: int) -> None:
    config = ContextConfig.model_validate({"window": 4, "compression_threshold": 150} | settings)
    known, window, messages = Known(0, 1, 1), deque[Message](maxlen=4), list[Message]()
    served = 0
    for number in range(30):
        new = [user(f"message number {number}")]
        short = plain(known, window, len(messages), new, config, 1)
        if short is None:
            known.count(past(*messages))
        else:
            served += 1
            assert short == assemble(past(*messages), new, config, 1).messages
        turn = [*new, said(f"answer number {number}")]
        messages += turn
        window += turn
    assert served == turns


def test_the_short_way_leaves_out_no_instruction_of_the_session() -> None:
    known, window = Known(0, 1, 1), deque[Message](maxlen=2)
    config = ContextConfig(window=2)
    window.append(Message("system", "Be brief."))
    assert plain(known, window, 1, [user("one")], config, 1) is not None
    window += [user("one"), said("two")]
    assert plain(known, window, 3, [user("three")], config, 1) is None


def test_a_search_that_reaches_less_far_than_the_window_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="search_turns"):
        from_dict({"name": "t", "agents": [{"name": "a"}], "context": {"search_turns": 5, "window": 20}})


def test_an_unknown_summary_model_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="summary_model"):
        from_dict({"name": "t", "agents": [{"name": "a"}], "context": {"summary_model": "nobody"}})
