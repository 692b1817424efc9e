"""The chat in the terminal, driven through a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rayflow.app.orchestrator import Orchestrator
from rayflow.app.repl import Repl

Chat = Callable[..., Awaitable[str]]


def workflow(folder: Path) -> dict[str, Any]:
    return {
        "name": "team",
        "agents": [
            {"name": "general", "system_prompt": "The office opens at nine. Everything about hats: they are red."},
            {"name": "billing", "system_prompt": "Refunds take five days. Everything about hats: they cost nine."},
        ],
        "routing": {
            "rules": [
                {"keywords": ["refund"], "target_agent": "billing"},
                {"keywords": ["everything"], "target_agents": ["general", "billing"]},
            ]
        },
        "processing": {"max_length": 100, "drain_s": 1.0},
        "storage": {"state": str(folder / "state")},
    }


@pytest.fixture
async def chat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Chat]:
    """Type lines, and get what is shown."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    async with Orchestrator(workflow(tmp_path), in_process=True) as team:

        async def typed(*lines: str, session_id: str | None = None) -> str:
            monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
            await Repl(team._running, "ada", session_id).loop()
            return capsys.readouterr().out

        yield typed


async def test_the_first_line_says_who_is_there(chat: Chat) -> None:
    assert "team  general, billing" in await chat("quit")


@pytest.mark.parametrize("word", ["quit", "exit"])
async def test_nothing_after_leaving_is_read(chat: Chat, word: str) -> None:
    assert "five days" not in await chat(word, "How long does a refund take?")


async def test_the_end_of_input_leaves_too(chat: Chat) -> None:
    assert "five days" in await chat("How long does a refund take?")


async def test_an_answer_stands_behind_the_name_of_its_agent_once(chat: Chat) -> None:
    shown = await chat("How long does a refund take?", "quit")
    assert shown.count("five days") == 1
    assert "billing " in shown.splitlines()[1]


async def test_the_answer_of_several_agents_is_shown_once_and_whole(chat: Chat) -> None:
    shown = await chat("Tell me everything about hats.", "quit")
    assert "general + billing" in shown
    assert shown.count("**general**") == 1


async def test_help_names_every_command(chat: Chat) -> None:
    shown = await chat("help")
    assert all(command in shown for command in ("help", "metrics", "history", "clear", "quit", "exit"))


async def test_history_is_what_was_said(chat: Chat) -> None:
    shown = await chat("history", "How long does a refund take?", "history")
    assert "nothing was said yet" in shown
    assert "1 user How long does a refund take?" in shown
    assert "2 assistant" in shown


async def test_metrics_count_answers_errors_and_tokens(chat: Chat) -> None:
    shown = await chat("How long does a refund take?", "x" * 101, "metrics")
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.split()}
    assert rows["answers"] == ["1"]
    assert rows["errors"] == ["1"]
    assert rows["tokens"][1::2] == ["in,", "out"]
    assert int(rows["tokens"][0]) > 0


async def test_an_error_is_shown_and_the_chat_goes_on(chat: Chat) -> None:
    shown = await chat("x" * 101, "How long does a refund take?")
    assert "error: the message has 101 characters" in shown
    assert "five days" in shown


async def test_clear_begins_a_new_conversation(chat: Chat) -> None:
    shown = await chat("My order number is 4711.", "clear", "history", "metrics")
    assert "a new conversation" in shown
    assert "nothing was said yet" in shown.split("a new conversation")[1]


async def test_a_conversation_can_be_gone_on_with(chat: Chat) -> None:
    await chat("My order number is 4711.", session_id="sess_mine")
    assert "4711" in await chat("What is my order number?", session_id="sess_mine")


async def test_empty_lines_are_nothing(chat: Chat) -> None:
    assert "error" not in await chat("", "   ", "quit")


async def test_what_looks_like_markup_is_shown_as_it_was_written(chat: Chat) -> None:
    shown = await chat("My code is [bold]4711[/bold].", "history")
    assert "[bold]4711[/bold]" in shown
