"""A conversation's topics: what they are called, and where one ends."""

from __future__ import annotations

from rayflow.policies.context.topics import MAX_TOPICS, Topics


def tracked(*messages: str) -> list[tuple[str, int, int]]:
    topics = Topics()
    for seq, text in enumerate(messages, 1):
        topics.add(seq, text)
    return [(str(topic), topic.first, topic.last) for topic in topics.all]


def test_a_message_that_shares_no_words_begins_a_topic() -> None:
    assert tracked(
        "My espresso machine leaks water at the bottom.",
        "The espresso machine leaks only when the water tank is full.",
        "Another matter: which museums open on Sundays near Bergen?",
    ) == [("espresso machine leaks", 1, 2), ("another matter museums", 3, 3)]


def test_a_short_message_belongs_to_what_was_said_before() -> None:
    assert len(tracked("My espresso machine leaks water.", "And the red one?", "Really?")) == 1


def test_a_conversation_without_words_has_no_topic() -> None:
    assert tracked("...", "?") == []


def test_only_so_many_topics_are_known() -> None:
    unrelated = [f"alpha{n} beta{n} gamma{n} delta{n}" for n in range(2 * MAX_TOPICS)]
    assert len(tracked(*unrelated)) == MAX_TOPICS
