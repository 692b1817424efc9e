"""What is remembered of a turn."""

from __future__ import annotations

from rayflow.chat import FunctionCall, Message, ToolCall
from rayflow.policies.memory import Told, memories, tools_of

ALL = ("short_term", "long_term", "episodic", "procedural", "semantic")


def call(*names: str) -> Message:
    return Message("assistant", None, tool_calls=[ToolCall(name, FunctionCall(name, "{}")) for name in names])


def result(name: str, text: str = "{}") -> Message:
    return Message("tool", text, tool_call_id=name)


def test_a_turn_is_an_episode_and_the_statements_of_the_person() -> None:
    found = memories(Told("I am allergic to nuts. What can I eat?", run_id="run_1", at_us=7), ALL, 0.3)

    assert [(memory.kind, memory.text) for memory in found] == [
        ("short_term", "I am allergic to nuts."),
        ("episodic", "I am allergic to nuts. What can I eat?"),
    ]
    assert {memory.created_us for memory in found} == {7}


def test_the_ids_follow_from_the_run() -> None:
    told = Told("I live in Graz.", run_id="run_1")

    assert memories(told, ALL, 0.3) == memories(told, ALL, 0.3)
    assert {m.id for m in memories(told, ALL, 0.3)}.isdisjoint(
        m.id for m in memories(told._replace(run_id="run_2"), ALL, 0.3)
    )


def test_kinds_that_are_not_wanted_and_what_is_unimportant_are_left_out() -> None:
    assert [memory.kind for memory in memories(Told("I live in Graz."), ("episodic",), 0.3)] == ["episodic"]
    assert [memory.kind for memory in memories(Told("Curtains hang in windows."), ("short_term",), 0.3)] == []


def test_without_short_term_the_important_is_long_term_at_once() -> None:
    found = memories(Told("I live in Graz. I saw a bird."), ("long_term",), 0.3)

    assert [(memory.kind, memory.text) for memory in found] == [("long_term", "I live in Graz.")]


def test_tools_are_those_called_since_the_person_spoke() -> None:
    said = [
        Message("user", "earlier"), call("old"), result("old"),
        Message("user", "Refund order 5"), call("find"), result("find"), call("refund"), result("refund"),
        Message("assistant", "Done."),
    ]  # fmt: skip

    assert tools_of(said) == ("Refund order 5", ("find", "refund"))


def test_a_call_that_failed_or_has_no_result_makes_no_skill() -> None:
    asked = Message("user", "Refund order 5")

    assert tools_of([asked, call("find"), result("find", '{"error": "no such order"}')])[1] == ()
    assert tools_of([asked, call("find"), result("find", "Error: timeout")])[1] == ()
    assert tools_of([asked, call("find", "refund"), result("find")])[1] == ()
