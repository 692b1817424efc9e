"""`rayflow context show` as a user types it: what a model would get, and why."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from rayflow.app.attach import open_client
from rayflow.chat import Message
from rayflow.cli import context
from rayflow.errors import NotFound
from rayflow.messages import AppendTurns, CreateSession, RunRequest
from rayflow.models.offline.model import OfflineModel

WORKFLOW = """\
name: shop
agents:
  - name: helper
    system_prompt: Be brief.
context: {window: 4, compression_threshold: 50, retrieval: 5}
session: {store: sqlite}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with a session of 40 turns, and its workflow file."""
    made = tmp_path_factory.mktemp("context")
    (made / "shop.yaml").write_text(WORKFLOW)
    asyncio.run(_talk(made))
    return made


async def _talk(folder: Path) -> None:
    said = [
        Message("user" if n % 2 else "assistant", f"Message {n} speaks of curtains, tiles and colour {n}.")
        for n in range(1, 41)
    ]
    said[4] = Message("user", "My dog is called Rex and he comes from Bergen.")
    async with open_client(folder / "shop.yaml", state=folder / "state", in_process=True) as client:
        await client.session(CreateSession("", "sess_1", metadata={"pinned": ["Contract 77."]}))
        await client.session(AppendTurns("", "sess_1", said))


def run(folder: Path, *arguments: str) -> str:
    app = typer.Typer()
    context.register(app)
    app.command()(lambda: None)
    where = ["--workflow", str(folder / "shop.yaml"), "--state", str(folder / "state")]
    done = CliRunner().invoke(app, ["context", "show", *arguments, *where])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_each_part_is_shown_with_its_reason(folder: Path) -> None:
    shown = run(folder, "sess_1", "--message", "What is the name of my dog?", "--agent", "helper")
    lines = shown.splitlines()
    assert lines[0] == "session   sess_1, 40 turns"
    reasons = [
        line.split()[0]
        for line in lines[lines.index("included      turn  tokens  why") + 1 : lines.index("messages") - 1]
    ]
    assert reasons == ["pinned", "summary", "relevant", *["window"] * 4, "new"]
    assert "[system]\n  Be brief.\n  \n  Keep in mind: Contract 77." in shown
    assert "  My dog is called Rex and he comes from Bergen." in shown


def test_it_is_exactly_what_a_model_gets(folder: Path) -> None:
    asked = ["--message", "What is the name of my dog?", "--agent", "helper"]
    shown = json.loads(run(folder, "sess_1", *asked, "--format", "json"))
    assert [part["reason"] for part in shown["included"]][:3] == ["pinned", "summary", "relevant"]
    assert {"kind": "name", "text": "Rex"} in shown["entities"]
    assert shown["tokens"] <= shown["budget"] == 4000
    assert asyncio.run(_asked(folder)) == shown["messages"]


async def _asked(folder: Path) -> list[Any]:
    """The messages that the router sends, after a question of the same words."""
    seen: list[Any] = []
    reply = OfflineModel.reply

    def spy(self: OfflineModel, request: Any) -> Any:
        seen.append(msgspec.to_builtins(request.messages))
        return reply(self, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OfflineModel, "reply", spy)
        async with open_client(folder / "shop.yaml", state=folder / "state", in_process=True) as client:
            question = [Message("user", "What is the name of my dog?")]
            await client.run(RunRequest("run_1", "sess_1", question))
    (messages,) = seen
    return messages


def test_without_a_message_it_is_what_would_stand_beside_it(folder: Path) -> None:
    shown = json.loads(run(folder, "sess_1", "--format", "json"))
    assert "new" not in [part["reason"] for part in shown["included"]]


def test_what_is_not_there_is_not_found(folder: Path) -> None:
    with pytest.raises(NotFound, match="sess_2"):
        run(folder, "sess_2")
    with pytest.raises(NotFound, match="helper"):
        run(folder, "sess_1", "--agent", "nobody")
    with pytest.raises(NotFound):
        run(folder, "sess_1", "--tenant", "other")
