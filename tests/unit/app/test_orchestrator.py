"""The Python API, with all actors in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rayflow.analytics.database import open_log
from rayflow.app.orchestrator import ChatResult, Orchestrator
from rayflow.errors import ConfigurationError, ContentRejected, NotFound, Unavailable
from rayflow.messages import GetHistory

PATIENCE_S = 10.0


def workflow(folder: Path, **sections: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "name": "team",
        "agents": [
            {"name": "general", "system_prompt": "The office opens at nine. Everything about hats: they are red."},
            {"name": "billing", "system_prompt": "Refunds take five days. Everything about hats: they cost nine."},
        ],
        "routing": {"rules": [{"keywords": ["refund"], "target_agent": "billing"}]},
        "storage": {"state": str(folder / "state")},
        "processing": {"drain_s": 1.0},
    }
    return {**given, **sections}


@pytest.fixture
async def team(tmp_path: Path) -> AsyncIterator[Orchestrator]:
    async with Orchestrator(workflow(tmp_path), in_process=True) as made:
        yield made


async def test_a_message_is_answered_with_what_is_known_of_it(team: Orchestrator) -> None:
    result = await team.process_chat(message="How long does a refund take?", user_id="ada")
    assert "five days" in result.content
    assert result.metadata["agents"] == ["billing"]
    assert result.metadata["confidence"] == pytest.approx(0.8)
    assert result.metadata["session_id"].startswith("sess_")
    assert result.metrics["total_tokens"] == result.metrics["prompt_tokens"] + result.metrics["completion_tokens"] > 0
    assert result.metrics["duration_ms"] > 0


async def test_the_second_message_of_a_session_knows_the_first(team: Orchestrator) -> None:
    first = await team.process_chat("My order number is 4711.")
    session = first.metadata["session_id"]
    second = await team.process_chat("What is my order number?", session_id=session)
    assert second.metadata["session_id"] == session
    assert "4711" in second.content
    assert "4711" not in (await team.process_chat("What is my order number?")).content


async def test_a_stream_is_the_answer_in_pieces_and_the_result_last(team: Orchestrator) -> None:
    items = [item async for item in team.stream_chat("How long does a refund take?")]
    *pieces, result = items
    assert isinstance(result, ChatResult)
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == result.content
    assert len(pieces) >= 1


async def test_a_stream_of_several_agents_is_their_joined_answer(tmp_path: Path) -> None:
    both = {"rules": [{"keywords": ["everything"], "target_agents": ["general", "billing"]}]}
    async with Orchestrator(workflow(tmp_path, routing=both), in_process=True) as team:
        question = "Tell me everything about hats."
        *pieces, result = [item async for item in team.stream_chat(question)]
    assert isinstance(result, ChatResult)
    assert result.metadata["agents"] == ["general", "billing"]
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == result.content


async def test_a_stream_that_is_left_early_cancels_its_run(team: Orchestrator) -> None:
    session = await team.create_session()
    stream = team.stream_chat("How long does a refund take?", session_id=session)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    again = await asyncio.wait_for(team.process_chat("And when does it open?", session_id=session), PATIENCE_S)
    assert again.content


async def test_a_session_is_created_used_and_closed(team: Orchestrator) -> None:
    session = await team.create_session(user_id="ada")
    await team.process_chat("When does the office open?", session_id=session)
    history = await team._running.session(GetHistory("", session))
    assert [turn.message.role for turn in history.turns] == ["user", "assistant"]
    assert history.info.user_id == "ada"
    await team.close_session(session)
    with pytest.raises(NotFound):
        await team.close_session(session)


async def test_sessions_are_there_when_the_workflow_starts_again(tmp_path: Path) -> None:
    async with Orchestrator(workflow(tmp_path), in_process=True) as team:
        session = (await team.process_chat("My order number is 4711.")).metadata["session_id"]
    async with Orchestrator(workflow(tmp_path), in_process=True) as team:
        assert "4711" in (await team.process_chat("What is my order number?", session_id=session)).content


async def test_what_happened_is_readable_by_queries_afterwards(tmp_path: Path) -> None:
    async with Orchestrator(workflow(tmp_path), in_process=True) as team:
        result = await team.process_chat("How long does a refund take?")
    with open_log(tmp_path / "state" / "events") as log:
        rows = log.query("SELECT run_id, status, channel FROM runs").to_pylist()
    assert rows == [{"run_id": result.metadata["run_id"], "status": "ok", "channel": "python"}]


async def test_a_message_that_is_refused_says_why(team: Orchestrator) -> None:
    with pytest.raises(ContentRejected, match="0 characters"):
        await team.process_chat("")


async def test_many_conversations_run_side_by_side(team: Orchestrator) -> None:
    results = await asyncio.gather(*(team.process_chat(f"Remember {i}. What of a refund?") for i in range(50)))
    assert len({result.metadata["session_id"] for result in results}) == 50


async def test_before_and_after_its_life_it_says_so(tmp_path: Path) -> None:
    team = Orchestrator(workflow(tmp_path), in_process=True)
    for _ in range(2):
        with pytest.raises(Unavailable, match="initialize"):
            await team.process_chat("hello")
        await team.initialize()
        await team.initialize()
        assert (await team.process_chat("When does the office open?")).content
        await team.shutdown()
        await team.shutdown()


async def test_cleanup_runs_when_the_body_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        async with Orchestrator(workflow(tmp_path), in_process=True):
            raise RuntimeError("mine")
    async with Orchestrator(workflow(tmp_path), in_process=True):
        pass


async def test_two_workflows_cannot_share_a_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayflow.app.state.GLANCE_S", 0.0)
    async with Orchestrator(workflow(tmp_path), in_process=True):
        second = Orchestrator(workflow(tmp_path), in_process=True)
        with pytest.raises(Unavailable, match="in use by"):
            await second.initialize()


async def test_a_workflow_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "team.yaml"
    file.write_text(f"name: team\nagents:\n  - name: a\nstorage:\n  state: {tmp_path}/state\n")
    async with Orchestrator.from_config(file, in_process=True) as team:
        assert (await team.process_chat("hello")).metadata["agents"] == ["a"]
    with pytest.raises(ConfigurationError):
        Orchestrator.from_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError):
        Orchestrator({"name": "team"})


async def test_a_workflow_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "sessions").write_text("in the way")
    team = Orchestrator(workflow(tmp_path), in_process=True)
    with pytest.raises(Unavailable, match="session/0"):
        await asyncio.wait_for(team.initialize(), PATIENCE_S)
    (tmp_path / "state" / "sessions").unlink()
    async with team:
        assert (await team.process_chat("hello")).content


async def test_capacity_is_scaled_by_a_factor_within_the_limits(tmp_path: Path) -> None:
    agents = [{"name": "general", "replicas": {"min": 2, "max": 3}}, {"name": "billing"}]
    config = workflow(tmp_path, agents=agents, routing={}, scaling={"strategy": "manual"})
    async with Orchestrator(config, in_process=True) as team:
        assert await team.scale_processing_capacity(1.5) == {"general": 3, "billing": 2}
        assert await team.scale_processing_capacity(0.5, agent="billing") == {"billing": 1}
        with pytest.raises(NotFound):
            await team.scale_processing_capacity(2.0, agent="nobody")
        with pytest.raises(ValueError, match="above 0"):
            await team.scale_processing_capacity(0.0)


async def test_the_state_of_a_session_is_changed_and_restored(tmp_path: Path) -> None:
    fields = [{"name": "stage", "default": "new"}, {"name": "count", "type": "integer", "reducer": "add"}]
    async with Orchestrator(workflow(tmp_path, state={"fields": fields}), in_process=True) as team:
        state = team.state(await team.create_session())
        assert (await state.update({"stage": "paid", "count": 2})).values == {"stage": "paid", "count": 2}
        await state.checkpoint("paid")
        await state.update({"stage": "sent", "count": 1})
        assert (await state.restore("paid")).values == {"stage": "paid", "count": 2}
        assert [delta.by for delta in await state.history()] == ["python"] * 3
