"""Streams of answers that several agents gave: whose tokens they are, and that every character comes once."""

from __future__ import annotations

import json
from typing import Any

from api_doubles import result

from rayflow.api.chat_answer import ChatEncoder
from rayflow.ids import new_run_id
from rayflow.messages import RunRequest, Token

RUN = RunRequest(new_run_id(), "sess_1", [])


def told(tokens: list[tuple[str, str]], content: str, **facts: Any) -> list[tuple[str, str]]:
    """(node, text) of all tokens that the client gets."""
    encoder = ChatEncoder("team", "req_1")
    events = [encoder.token(Token(RUN.run_id, i + 1, agent, [text])) for i, (agent, text) in enumerate(tokens)]
    events.append(encoder.result(result(RUN, content, **facts)))
    lines = b"".join(events).decode().splitlines()
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    return [(event["node"], event["content"]) for event in data if event["type"] == "token"]


def test_what_the_others_add_follows_the_leading_agents_tokens() -> None:
    given = [("billing", "It takes "), ("billing", "14 days.")]
    content = "It takes 14 days.\n\n**facts**: Always."
    assert told(given, content, streamed="billing", agents=["billing", "facts"]) == [
        *given,
        ("aggregator", "\n\n**facts**: Always."),
    ]


def test_a_leading_agent_that_nobody_adds_to_ends_its_own_stream() -> None:
    assert told([("billing", "It takes ")], "It takes 14 days.", streamed="billing", agents=["billing"]) == [
        ("billing", "It takes "),
        ("billing", "14 days."),
    ]


def test_a_joined_answer_of_one_agent_in_other_words_than_it_was_shown_follows_whole() -> None:
    shown = [("billing", "It takes 30 days. Always."), ("facts", "Never.")]
    assert told(shown, "Always.", streamed="", agents=["billing"]) == [*shown, ("aggregator", "Always.")]


def test_a_joined_answer_that_was_shown_already_is_not_shown_again() -> None:
    shown = [("billing", "Always."), ("facts", "Never.")]
    assert told(shown, "Always.", streamed="", agents=["billing"]) == shown
