"""A conversation of 400 turns: within its budget at every turn, and nothing that is pinned or asked about is lost."""

from __future__ import annotations

import pytest
from long_conversation import FACTS, add, learnt, said, turns

from rayflow.chat import Message
from rayflow.config.schema import ContextConfig
from rayflow.policies.context import Context, Facts, Past, assemble
from rayflow.policies.context.summary import summarise
from rayflow.policies.context.tokens import estimate

SMALL = ContextConfig(max_context_tokens=1200, compression_threshold=600, retrieval=5)


def ask(past: Past, text: str, config: ContextConfig = SMALL, facts: Facts | None = None) -> Context:
    return assemble(past, [Message("user", text)], config, 1, facts or Facts())


def shown(context: Context) -> str:
    return "\n".join(message.text for message in context.messages)


@pytest.mark.parametrize("config", [SMALL, ContextConfig()], ids=["1200 tokens", "the defaults"])
def test_every_turn_is_within_its_budget_and_ends_with_the_new_message(config: ContextConfig) -> None:
    past = learnt([])
    history = turns()
    facts = Facts(pinned=("The customer's name is Dana.",), pinned_turns=frozenset({7}))
    for number in range(1, 400, 2):
        context = ask(past, said(number), config, facts)
        context.validate()
        assert context.tokens <= config.max_context_tokens
        assert context.messages[-1] == Message("user", said(number))
        add(past, history[number - 1 : number + 1])
    assert past.last == 400


@pytest.mark.parametrize("turn", FACTS)
def test_a_fact_that_is_asked_about_is_reachable_from_the_end(turn: int) -> None:
    fact, question, words = FACTS[turn]
    context = ask(learnt(turns()), question)
    found = [p for p in context.pieces if p.inclusion.turn == turn]
    assert [p.inclusion.reason for p in found] == ["relevant"]
    assert found[0].message.text == fact
    assert words in shown(context)


def test_a_pinned_fact_is_there_whatever_is_asked() -> None:
    facts = Facts(pinned=("The customer's name is Dana.",), pinned_turns=frozenset({61}))
    context = ask(learnt(turns()), "And the tiles?", facts=facts)
    assert "The customer's name is Dana." in shown(context)
    assert FACTS[61][0] in shown(context)
    assert [p.inclusion.turn for p in context.pieces if p.inclusion.reason == "pinned"] == [0, 61]


def test_the_summary_says_what_it_stands_for_and_the_window_follows_it() -> None:
    context = ask(learnt(turns()), "And the tiles?")
    reasons = [piece.inclusion.reason for piece in context.pieces]
    assert reasons[0] == "summary"
    assert reasons[-2:] == ["window", "new"]
    assert context.pieces[0].inclusion.why.startswith("version 3")
    newest = [piece.inclusion.turn for piece in context.pieces if piece.inclusion.reason == "window"]
    assert newest == list(range(newest[0], 401))


def test_a_summary_that_stands_still_is_the_one_that_would_be_made_anew() -> None:
    past, made = learnt(turns()), set[str]()
    for limit in (*range(1200), *range(1200, 0, -7)):
        summary = summarise(past._digests, 1, 300, limit, estimate)
        assert past.summary(1, 300, limit).text == summary.text, limit
        made.add(summary.text)
    assert len(made) > 20
    other = past.summary(1, 200, 1200)
    assert (other.since, other.upto) == (1, 200)


def test_the_context_is_the_same_whether_the_past_grew_or_was_read_at_once() -> None:
    grown = learnt([])
    for turn in turns():
        add(grown, [turn])
    for _, question, _ in FACTS.values():
        assert ask(grown, question) == ask(learnt(turns()), question)


def test_a_past_that_is_known_further_back_gives_the_same_context_as_one_that_begins_at_the_reach() -> None:
    config = ContextConfig(max_context_tokens=1200, compression_threshold=600, search_turns=100, retrieval=5)
    far, near = learnt(turns()), learnt(turns()[300:], since=301)
    for question in ("When does the warranty of the grinder end?", "Which doors?"):
        a, b = ask(far, question, config), ask(near, question, config)
        assert a.pieces == b.pieces
