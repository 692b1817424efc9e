from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from rayflow.chat import FunctionCall as Function
from rayflow.chat import Message, ModelParams, ToolCall, Usage
from rayflow.config.schema import WorkflowConfig
from rayflow.messages import PartSummary, RunRequest, RunResult
from rayflow.policies.caching import Keys, Question, keeps, repeats

REQUEST = RunRequest("r1", "s1", [Message("user", "hello")], tenant="t", user_id="u", params=ModelParams(temperature=0))
AGENTS = [{"name": "a", "model": "m"}, {"name": "b", "model": "m"}]
MODELS = [{"name": "m", "provider": "openai", "base_url": "http://127.0.0.1:1/v1"}]


def workflow(**sections: Any) -> WorkflowConfig:
    return WorkflowConfig.model_validate({"name": "w", "agents": AGENTS, "models": MODELS, **sections})


def question(agents: tuple[str, ...] = ("a",), told: str = "hello", **fields: Any) -> Question:
    return Question(replace(REQUEST, **fields), agents, [[Message("user", told)]] * len(agents))


def key(asked: Question, everywhere: int = 0, forgotten: dict[str, int] | None = None, **sections: Any) -> str:
    return Keys(workflow(**sections)).key(asked, everywhere, forgotten or {})


def test_the_same_question_has_the_same_key_whoever_makes_it() -> None:
    other = question(run_id="r2", session_id="s2", user_id="v", stream=True, channel="chat")
    assert key(question()) == key(other)


@pytest.mark.parametrize(
    "other",
    [
        question(tenant="t2"),
        question(("b",)),
        question(("a", "b")),
        question(told="hello "),
        question(params=ModelParams(temperature=0, max_tokens=5)),
        question(instructions="Be brief."),
        question(system_prompt="Be brief."),
    ],
)
def test_whatever_decides_about_an_answer_is_in_its_key(other: Question) -> None:
    assert key(question()) != key(other)


@pytest.mark.parametrize(
    "sections",
    [
        {"agents": [{"name": "a", "model": "m", "system_prompt": "x"}]},
        {"agents": [{"name": "a", "model": "m", "seed": 1}]},
        {"models": [{**MODELS[0], "model": "other"}]},
        {"models": [{**MODELS[0], "base_url": "http://127.0.0.1:2/v1"}]},
        {"name": "w2"},
    ],
)
def test_another_configuration_gives_another_answer(sections: dict[str, Any]) -> None:
    assert key(question()) != key(question(), **sections)


def test_how_many_replicas_there_are_makes_no_difference() -> None:
    assert key(question()) == key(question(), agents=[{**AGENTS[0], "replicas": {"min": 2}}, AGENTS[1]])


def test_what_was_forgotten_has_other_keys() -> None:
    asked = question()
    assert key(asked) == key(asked, forgotten={"b": 3})
    assert len({key(asked), key(asked, 1), key(asked, forgotten={"": 1}), key(asked, forgotten={"a": 1})}) == 4


def test_the_scope_is_in_the_key() -> None:
    users = {"caches": {"results": {"scope": "user"}}}
    assert key(question(), **users) == key(question(session_id="s2"), **users)
    assert key(question(), **users) != key(question(user_id="v"), **users)
    sessions = {"caches": {"results": {"scope": "session"}}}
    assert key(question(), **sessions) != key(question(session_id="s2"), **sessions)


def test_only_what_a_model_would_say_again_is_kept() -> None:
    plain = ModelParams()
    assert repeats(question(), workflow())
    assert repeats(question(params=ModelParams(seed=3)), workflow())
    assert not repeats(question(params=plain), workflow())
    assert repeats(question(params=plain), workflow(caches={"results": {"only_deterministic": False}}))
    assert repeats(question(params=plain), workflow(agents=[{"name": "a"}]))
    assert not repeats(question(("a", "b"), params=plain), workflow(agents=[{"name": "a"}, AGENTS[1]]))
    assert not repeats(
        question(params=ModelParams(temperature=0.5)), workflow(agents=[{**AGENTS[0], "temperature": 0}])
    )


def test_nothing_with_tools_is_kept_nor_what_nobody_answers() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert not repeats(question(params=ModelParams(temperature=0, tools=[tool])), workflow())
    called = Message("assistant", None, tool_calls=[ToolCall("1", Function("f", "{}"))])
    for message in (called, Message("tool", "1", tool_call_id="1")):
        assert not repeats(Question(REQUEST, ("a",), [[message]]), workflow())
    assert not repeats(question(()), workflow())
    assert not repeats(question(cache="no-store"), workflow())


def test_an_unknown_user_shares_nothing_where_answers_are_a_users_own() -> None:
    own = workflow(caches={"results": {"scope": "user"}})
    assert repeats(question(), own) and not repeats(question(user_id=""), own)


RESULT = RunResult("r1", "s1", "hi", "stop", Usage(1, 1), "m", ["a"], parts=[PartSummary("a", "ok")])


def test_only_whole_answers_are_kept() -> None:
    assert keeps(RESULT)
    call = ToolCall("1", Function("f", "{}"))
    for wrong in (
        replace(RESULT, finish_reason="length"),
        replace(RESULT, content=""),
        replace(RESULT, content="x" * (1 << 20)),
        replace(RESULT, tool_calls=[call]),
        replace(RESULT, metadata={"degraded": True}),
        replace(RESULT, metadata={"repeated": True}),
        replace(RESULT, parts=[PartSummary("a", "error")]),
        replace(RESULT, parts=[PartSummary("b", "ok", instead_of="a")]),
    ):
        assert not keeps(wrong)
