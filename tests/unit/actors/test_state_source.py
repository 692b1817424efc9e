"""What models are told of a session's working state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from actor_doubles import HeldModel, config, team

from rayflow.actors.enrichment import ContextMeans
from rayflow.actors.state_source import StateSource
from rayflow.app.client import SystemClient
from rayflow.app.context_view import view
from rayflow.app.system import InProcessSystem
from rayflow.app.working_state import WorkingState
from rayflow.chat import Message
from rayflow.errors import Unavailable
from rayflow.messages import ReadRecords, Records, RunRequest
from rayflow.models import factory
from rayflow.policies.state import StateUpdate

STATE: dict[str, Any] = {"fields": [{"name": "order", "in_context": True}, {"name": "hidden"}]}
BLOCK = "Working state of this conversation:\n- order: "


def on_disk(folder: Path, **sections: Any) -> Any:
    storage = {"state": str(folder)}
    return config({"name": "a"}, storage=storage, session={"store": "memory", "shards": 2}, **sections)


async def test_a_model_is_told_the_state_as_it_is_at_each_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = HeldModel()
    monkeypatch.setattr(factory, "build", lambda *_: model)
    async with InProcessSystem(on_disk(tmp_path, state=STATE)) as system:
        client = await system.client("test")
        for n, order in enumerate(("", "7", "8")):
            if order:
                await WorkingState(client, "t", "s").update(StateUpdate({"order": order, "hidden": "secret"}))
            await client.run(RunRequest(f"run_{n}", "s", [Message("user", f"question {n}")], tenant="t"))
        told = [request.messages[0] for request in model.requests]
        assert [message.role for message in told] == ["user", "system", "system"]
        assert [message.text for message in told[1:]] == [f"{BLOCK}7", f"{BLOCK}8"]
        assert [message.text for message in model.requests[2].messages[1:]] == [
            "question 0",
            "done",
            "question 1",
            "done",
            "question 2",
        ]
        seen = await view(client, "t", "s", "next")
        assert seen.messages[0].text == f"{BLOCK}8"
        assert seen.context.pieces[0].inclusion.why == "source working_state"


async def test_a_workflow_whose_models_need_no_state_asks_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = HeldModel(), []
    monkeypatch.setattr(factory, "build", lambda *_: model)
    async with InProcessSystem(on_disk(tmp_path, state={"fields": [{"name": "hidden"}]})) as system:
        ask = system.fabric.ask
        monkeypatch.setattr(system.fabric, "ask", lambda *given: (asked.append(given[1]), ask(*given))[1])
        client: SystemClient = await system.client("test")
        await client.run(RunRequest("run_1", "s", [Message("user", "hi")], tenant="t"))
        assert not [message for message in asked if isinstance(message, ReadRecords)]
        assert asked


async def test_a_store_that_does_not_answer_costs_the_state_and_not_the_run() -> None:
    async def read(message: ReadRecords) -> Records:
        raise Unavailable("away")

    configuration = config(state=STATE)
    means = ContextMeans(sources=(StateSource(configuration.state, read),))
    async with team(configuration, context=means) as t:
        assert (await t.run("hi")).content == "done"
        assert [message.role for message in t.models["a"].requests[-1].messages] == ["user"]
