"""Words, tokens and sentences: the offline model's view of text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.chat import Message, ModelParams, ModelRequest
from rayflow.language.sentences import sentences
from rayflow.language.words import stem, stems
from rayflow.models.offline import tokens
from rayflow.models.offline.model import OfflineModel
from rayflow.models.offline.person import second_person


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("Hello, world!", 4), ("don't stop", 2), ("a_b 3.5", 6), ("  \n", 0), ("naïve 🌱", 2)]
)
def test_a_token_is_a_word_or_a_visible_character(text: str, count: int) -> None:
    assert tokens.count(text) == count


@given(st.text(), st.integers(0, 20))
def test_a_cut_text_is_a_beginning_with_that_many_tokens(text: str, limit: int) -> None:
    cut = tokens.cut(text, limit)
    assert text.startswith(cut)
    assert tokens.count(cut) == min(limit, tokens.count(text))


@given(st.text())
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    assert "".join(tokens.pieces(text)) == text


@pytest.mark.parametrize(
    "forms",
    [
        ("arrive", "arrives", "arrived", "arriving"),
        ("city", "cities"),
        ("stop", "stopped", "stopping"),
        ("order", "orders", "order's", "Ordered"),
        ("pass", "passed"),
    ],
)
def test_forms_of_a_word_share_a_stem(forms: tuple[str, ...]) -> None:
    assert len({stem(form) for form in forms}) == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("<email>", "write to a.b@c.org"),
        ("<date>", "on March 3rd"),
        ("<date>", "on 2026-11-05"),
        ("<date>", "by Friday"),
        ("<time>", "at 10:30"),
        ("<time>", "at 9 pm"),
        ("<money>", "for €20"),
        ("<number>", "twelve eggs"),
        ("<place>", "I live in Hamburg"),
        ("<name>", "my name is Anna"),
        ("<name>", "I'm Anna"),
    ],
)
def test_kinds_of_facts_are_recognised(kind: str, text: str) -> None:
    assert kind in stems(text)
    assert kind not in stems("nothing of the kind")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Smith is here. He waits.", ["Dr. Smith is here.", "He waits."]),
        ("- first\n- second\n1. third", ["first", "second", "third"]),
        ("hi. my order is late", ["hi.", "my order is late"]),
        ("It costs 3.50 euros", ["It costs 3.50 euros"]),
        ("", []),
        (" \n \n", []),
    ],
)
def test_sentences_are_cut_where_a_reader_would(text: str, parts: list[str]) -> None:
    assert [sentence.text for sentence in sentences(text)] == parts


@given(st.text())
def test_no_text_breaks_the_analysis(text: str) -> None:
    assert all(sentence.text.strip() for sentence in sentences(text))


def test_a_sentence_without_end_is_shortened_for_quoting() -> None:
    [sentence] = sentences("word " * 1000)
    assert sentence.text.endswith(" ...")
    assert len(sentence.text) < 410


@pytest.mark.parametrize(
    ("said", "back"),
    [
        ("My order is late and I am sorry.", "your order is late and you are sorry."),
        ("I'm Anna, call me", "you're Anna, call you"),
        ("I was there with my wife", "you were there with your wife"),
        ("ı and İ look alike", "ı and İ look alike"),
        ("Ich bin hier, i@x.org, TV-me", "Ich bin hier, i@x.org, TV-me"),
    ],
)
def test_first_person_becomes_second(said: str, back: str) -> None:
    assert second_person(said) == back


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text(max_size=60)), max_size=6))
def test_any_conversation_gets_an_answer_that_streams_alike(turns: list[tuple[str, str]]) -> None:
    request = ModelRequest([Message(role, text) for role, text in turns], ModelParams(max_tokens=50))
    reply = OfflineModel().reply(request)
    assert reply.text
    assert reply.usage.completion_tokens == tokens.count(reply.text) <= 50
    assert reply == OfflineModel().reply(request)


def test_usage_counts_texts_and_tool_calls() -> None:
    reply = OfflineModel().reply(ModelRequest([Message("system", "Be kind."), Message("user", "Hello there")]))
    assert reply.usage.prompt_tokens == 5
    assert not reply.usage.estimated


HOSTILE = [
    "a" * 200_000,
    "1.1," * 50_000,
    "A. " * 60_000,
    "summary " * 25_000,
    "'" * 200_000,
    "a@" * 100_000,
    " " * 200_000,
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:4]))
def test_no_pattern_takes_quadratic_time(text: str) -> None:
    schema = {"properties": {"email": {"type": "string"}, "days": {"type": "integer"}}, "required": ["email", "days"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    messages = [Message("user", text), Message("assistant", "ok"), Message("user", text + " f?")]
    assert OfflineModel().reply(ModelRequest(messages)).text
    assert OfflineModel().reply(ModelRequest(messages, ModelParams(tools=[tool], tool_choice="required"))).tool_calls
