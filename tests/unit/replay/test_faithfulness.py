"""What was decided by chance, failed, was cut, or is not recorded: a replay says so instead of inventing something."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from support.recorded_day import ALL, TEAM, changed, configured, recorded, replayed

from rayflow.analytics.database import open_log
from rayflow.app.session_access import stores
from rayflow.chat import FunctionCall, Message, ModelChunk, ModelReply, ModelRequest, ToolCall, Usage
from rayflow.config.schema import ModelConfig
from rayflow.errors import ModelTimeout
from rayflow.replay import models as replay_models
from rayflow.replay.replay import How
from rayflow.runtime.ports import ModelClient

CHATS = [(f"sess-{number % 3}", f"Tell me about a refund, number {number}.") for number in range(9)]
ONE_RETRY = {"max_attempts": 1}


class Echo:
    """Answers with what it was asked; `name` says whom. `seen`: all that it was sent."""

    def __init__(self, name: str, seen: list[list[str]] | None = None) -> None:
        self._name = name
        self._seen = seen if seen is not None else []

    async def complete(self, request: ModelRequest) -> ModelReply:
        self._seen.append([message.text for message in request.messages])
        text = request.messages[-1].text
        if self._name == "broken":
            raise ModelTimeout("it took too long", model=self._name)
        if self._name == "caller":
            call = ToolCall("call_1", FunctionCall("look_up", '{"order": 7}'))
            return ModelReply("", "tool_calls", Usage(3, 4), self._name, [call])
        return ModelReply(f"{self._name} says {text}", "stop", Usage(len(text), 4), self._name)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        reply = await self.complete(request)
        yield ModelChunk((reply.text,), (), reply.finish_reason, reply.usage, reply.model)

    async def close(self) -> None: ...


def echoes(entry: ModelConfig, address: str) -> ModelClient:
    return Echo(entry.name)


@pytest.mark.parametrize("strategy", ["round_robin", "load_balanced"])
async def test_what_chance_decided_is_undetermined_and_no_change(strategy: str, tmp_path: Path) -> None:
    team = changed(routing={"strategy": strategy})
    await recorded(tmp_path / "state", CHATS, team)
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.changed, summary.figures.routing_undetermined) == (0, len(CHATS))
    assert all(row["agents_after"] == row["agents_before"] for row in rows.values())
    assert {row["strategy_after"] for row in rows.values()} == {strategy}
    summary, _ = await replayed(tmp_path / "state", TEAM, tmp_path / "by-keyword")
    assert (summary.figures.routing, summary.figures.routing_undetermined) == (len(CHATS), 0)


async def test_failures_and_who_stood_in_for_them_are_replayed(tmp_path: Path) -> None:
    team = changed(
        agents=[
            {"name": "general", "model": "broken", "fallback_models": ["spare"]},
            {"name": "billing", "model": "broken", "fallback_agent": "general"},
            {"name": "technical", "model": "broken"},
        ],
        models=[{"name": name, "retries": ONE_RETRY} for name in ("broken", "spare")],
        routing={
            "rules": [
                {"keywords": ["refund"], "target_agent": "billing"},
                {"keywords": ["crash"], "target_agent": "technical"},
            ]
        },
        resilience={"breaker": {"enabled": False}},
    )
    said = [*CHATS, ("sess-4", "It did crash."), ("sess-5", "Hello there.")]
    texts = await recorded(tmp_path / "state", said, team, echoes)
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.replayed, summary.figures.changed, summary.figures.unrecorded) == (len(said), 0, 0)
    failed = [row for row in rows.values() if row["status_after"] == "error"]
    assert [(row["error_before"], row["error_after"]) for row in failed] == [("model-timeout", "model-timeout")]
    assert failed[0]["agents_after"] == ["technical"]

    team["agents"][1].pop("fallback_agent")  # now nobody stands in for billing
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "alone")
    refunds = {run_id for run_id, text in texts.items() if "refund" in text}
    assert {run_id for run_id, row in rows.items() if row["changed"]} == refunds
    assert summary.figures.new_errors == len(refunds)


async def test_a_call_of_a_tool_is_an_answer(tmp_path: Path) -> None:
    team = changed(agents=[{"name": "general", "model": "caller"}], models=[{"name": "caller"}], routing={})
    await recorded(tmp_path / "state", CHATS, team, echoes)
    summary, _ = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.replayed, summary.figures.changed, summary.figures.unrecorded) == (len(CHATS), 0, 0)


async def test_texts_that_the_log_lacks_come_from_the_sessions(tmp_path: Path) -> None:
    team = changed(monitoring={"capture": "none", "flush_s": 0.05})
    said = [*CHATS, ("sess-9", "What do you offer?")]
    texts = await recorded(tmp_path / "state", said, team)
    config = configured(team, tmp_path / "state")
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "out", sessions_of=lambda: stores(config))
    assert {row["input"] for row in rows.values()} == {"sessions"}
    assert (summary.figures.replayed, summary.figures.changed) == (len(said), 0)
    together = {run_id for run_id, text in texts.items() if "offer" in text}  # of parts, sessions know nothing
    assert {run_id for run_id, row in rows.items() if row["missing"]} == together
    assert all(row["answer_before"].startswith("sha256:") for row in rows.values()), (
        "what was not captured is not shown"
    )


async def test_without_any_texts_every_run_is_left_out_and_counted(tmp_path: Path) -> None:
    team = changed(monitoring={"capture": "hashed", "flush_s": 0.05})
    await recorded(tmp_path / "state", CHATS, team)
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.replayed, summary.figures.left_out) == (0, len(CHATS))
    assert {"monitoring.capture" in row["reason"] for row in rows.values()} == {True}
    assert [row["runs"] for row in summary.left_out] == [len(CHATS)]


async def test_a_redacted_question_is_replayed_and_marked(tmp_path: Path) -> None:
    team = changed(monitoring={"capture": "redacted", "flush_s": 0.05})
    said = [("sess-1", "My mail is ada@example.org, where is my refund?"), ("sess-2", "A crash.")]
    await recorded(tmp_path / "state", said, team, echoes)
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert sorted(row["input"] for row in rows.values()) == ["log", "redacted"]
    assert (summary.figures.redacted, summary.figures.changed) == (1, 0)
    assert "ada@example.org" not in "".join(f"{row}" for row in rows.values())


async def test_a_text_that_was_cut_is_none(tmp_path: Path) -> None:
    team = changed(monitoring={"capture": "full", "capture_max_chars": 100, "flush_s": 0.05})
    long = f"A crash, and {'very ' * 40}much of it."
    await recorded(tmp_path / "state", [("sess-1", long), ("sess-2", "A crash.")], team)
    summary, _ = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.replayed, summary.figures.left_out) == (1, 1)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What models were sent that are called live."""
    sent: list[list[str]] = []
    monkeypatch.setattr(replay_models, "build", lambda entry: Echo("now", sent))
    return sent


@pytest.mark.parametrize(("how", "answered"), [(How("live"), "cheap"), (How("live", cascade=True), "now")])
async def test_a_run_sees_what_was_answered_then_or_in_a_cascade_now(
    how: How, answered: str, seen: list[list[str]], tmp_path: Path
) -> None:
    said = [("sess-1", "Hello there."), ("sess-1", "And the weather?"), ("sess-1", "Thank you.")]
    await recorded(tmp_path / "state", said, TEAM, echoes)
    summary, _ = await replayed(tmp_path / "state", TEAM, tmp_path / "out", how)
    assert summary.figures.answers == 3
    assert seen[-1] == [
        *("Hello there.", f"{answered} says Hello there."),
        *("And the weather?", f"{answered} says And the weather?", "Thank you."),
    ]


async def test_a_changed_prompt_shows_when_models_are_called(seen: list[list[str]], tmp_path: Path) -> None:
    await recorded(tmp_path / "state", CHATS, TEAM, echoes)
    agents = changed()["agents"]
    agents[1]["system_prompt"] = "Be brief."
    summary, rows = await replayed(tmp_path / "state", changed(agents=agents), tmp_path / "out", How("live"))
    assert {messages[0] for messages in seen} == {"Be brief."}
    assert (summary.figures.answers, summary.figures.routing) == (len(CHATS), 0)
    assert all(0.5 < row["similarity"] < 1 and row["latency_after_ms"] > 0 for row in rows.values())


class Chooser(Echo):
    async def complete(self, request: ModelRequest) -> ModelReply:
        agent = "billing" if "number 4" in request.messages[-1].text else "technical"
        return ModelReply(f'{{"agents": [{{"name": "{agent}", "confidence": 0.9}}]}}', "stop", Usage(9, 9), "chooser")


async def test_what_a_model_chose_is_chosen_again(tmp_path: Path) -> None:
    team = changed(routing={"strategy": "llm", "model": "cheap"})

    def models(entry: ModelConfig, address: str) -> ModelClient:
        return Chooser("chooser") if address.startswith("router") else Echo(entry.name)

    texts = await recorded(tmp_path / "state", CHATS, team, models)
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.changed, summary.figures.routing_undetermined) == (0, 0)
    agents = {texts[run_id][-2:]: row["agents_after"] for run_id, row in rows.items()}
    assert agents["4."] == ["billing"] and agents["5."] == ["technical"]


async def test_a_model_that_never_chose_leaves_the_routing_undetermined(tmp_path: Path) -> None:
    await recorded(tmp_path / "state", CHATS)
    team = changed(routing={"strategy": "llm", "model": "cheap"})
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.routing_undetermined, summary.figures.routing) == (len(CHATS), 0)
    assert all("router" in row["missing"] and row["agents_after"] is None for row in rows.values())


async def test_runs_for_a_named_agent_and_without_a_session_stay_that(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"agent": "sales", "stateless": True}
    await recorded(tmp_path / "state", CHATS, TEAM, None, **fields)
    summary, rows = await replayed(tmp_path / "state", TEAM, tmp_path / "out", choice=ALL)
    assert (summary.figures.replayed, summary.figures.changed, summary.figures.history_missing) == (len(CHATS), 0, 0)
    assert {tuple(row["agents_after"]) for row in rows.values()} == {("sales",)}


class Judge(Echo):
    async def complete(self, request: ModelRequest) -> ModelReply:
        return ModelReply('{"accuracy": [0.1, 1.0]}', "stop", Usage(9, 9), "judge")


async def test_an_answer_that_a_judge_chose_is_undetermined_where_it_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    team = changed(aggregation={"strategy": "best_response", "judge_model": "dear"})
    monkeypatch.setattr("rayflow.app.build._model", lambda entry: Judge("judge"))

    def models(entry: ModelConfig, address: str) -> ModelClient:
        return Echo(address.split("/")[1])

    said = [("sess-1", "What do you offer?"), ("sess-2", "A crash.")]
    await recorded(tmp_path / "state", said, team, models)
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.replayed, summary.figures.changed, summary.figures.unrecorded) == (2, 0, 0)
    (judged,) = [row for row in rows.values() if row["missing"]]
    assert (judged["missing"], judged["undetermined"]) == (["judge"], ["answer"])
    assert judged["answer_before"] == "general says What do you offer?" != judged["answer_after"]


async def test_an_answer_that_was_given_again_is_replayed_as_an_answer(tmp_path: Path) -> None:
    team = changed(caches={"results": {"enabled": True}})
    said = [(f"sess-{number}", "Where is my refund?") for number in range(2)]
    await recorded(tmp_path / "state", said[:1], team)
    await recorded(tmp_path / "state", said[1:], team)
    summary, _ = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.replayed, summary.figures.changed, summary.figures.unrecorded) == (2, 0, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_streamed_is_streamed_again(stream: bool, tmp_path: Path) -> None:
    team = changed(aggregation={"strategy": "intelligent_merge"})

    class Seller(Echo):
        async def complete(self, request: ModelRequest) -> ModelReply:
            said = {
                "sales": "Boats cost 100 euros.",
                "general": "We offer boats and cars. Boats cost 300 euros. Cars cost 200 euros.",
            }
            return ModelReply(said[self._name], "stop", Usage(5, 5), self._name)

    said = [("sess-1", "What boats and cars do you offer, and what do they cost?")]
    await recorded(tmp_path / "state", said, team, lambda entry, address: Seller(address.split("/")[1]), stream=stream)
    summary, _ = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.replayed, summary.figures.changed) == (1, 0)
    with open_log(tmp_path / "out" / "events") as log:
        streamed = log.query("SELECT agent FROM steps WHERE ttft_ms IS NOT NULL").to_pylist()
    assert [row["agent"] for row in streamed] == (["sales"] if stream else [])


async def test_a_whole_conversation_that_was_sent_at_once_is_sent_again(tmp_path: Path) -> None:
    before = [Message("user", "A crash!"), Message("assistant", "Where?")]
    fields: dict[str, Any] = {"before": before}
    await recorded(tmp_path / "state", CHATS[:3], TEAM, None, **fields)
    summary, rows = await replayed(tmp_path / "state", TEAM, tmp_path / "out")
    assert (summary.figures.replayed, summary.figures.changed, summary.figures.history_missing) == (3, 0, 0)
    assert {tuple(row["agents_after"]) for row in rows.values()} == {("billing",)}


async def test_a_message_in_the_place_of_an_answer_is_given_again(tmp_path: Path) -> None:
    team = changed(
        agents=[{"name": "general", "model": "broken"}],
        models=[{"name": "broken", "retries": ONE_RETRY}],
        routing={},
        resilience={"degraded_message": "Please call us.", "breaker": {"enabled": False}},
    )
    await recorded(tmp_path / "state", CHATS, team, echoes)
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.replayed, summary.figures.changed, summary.figures.unrecorded) == (len(CHATS), 0, 0)
    assert {row["answer_after"] for row in rows.values()} == {"Please call us."}
    team["resilience"]["degraded_message"] = "Please write."
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "other")
    assert {tuple(row["changed"]) for row in rows.values()} == {("answer",)}


async def test_a_message_that_was_declined_is_declined_again(tmp_path: Path) -> None:
    team = changed(routing={"strategy": "capability", "out_of_scope": "decline"})
    await recorded(tmp_path / "state", CHATS, team)
    summary, rows = await replayed(tmp_path / "state", team, tmp_path / "out")
    assert (summary.figures.replayed, summary.figures.changed) == (len(CHATS), 0)
    assert {tuple(row["agents_after"]) for row in rows.values()} == {()}
