"""What the offline model finds in a conversation, and how it says that it finds nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayflow.chat import Message, ModelParams, ModelRequest
from rayflow.models.offline.answers import SELF
from rayflow.models.offline.model import OfflineModel

INTRODUCTION = (
    "Hi, I'm Anna. My order number is 48213 and it arrived broken. I live in Hamburg and work as a carpenter. "
    "You can reach me at anna@example.org or +49 40 1234. My appointment is on 3 March at 10:30. "
    "I paid 89 euros. My dog is called Rex."
)


def say(*turns: str, system: str = "", knowledge: str | None = None, seed: int | None = None) -> str:
    messages = [Message("system", system)] if system else []
    messages += [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(turns)]
    return OfflineModel(knowledge=knowledge).reply(ModelRequest(messages, ModelParams(seed=seed))).text


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("What was my order number?", "48213"),
        ("Can you please tell me the order number again", "48213"),
        ("What is my name?", "Anna"),
        ("Where do I live?", "Hamburg"),
        ("Which city do I live in?", "Hamburg"),
        ("What is my e-mail address?", "anna@example.org"),
        ("what's my email", "anna@example.org"),
        ("When is my appointment?", "3 March at 10:30"),
        ("At what time is my appointment?", "10:30"),
        ("What is my job?", "carpenter"),
        ("How much did I pay?", "89 euros"),
        ("What is the name of my dog?", "Rex"),
        ("Was my order damaged?", "broken"),
    ],
)
def test_a_fact_told_earlier_is_found(question: str, fact: str) -> None:
    other = ("What are your opening hours?", "From nine to five.")
    assert fact in say(INTRODUCTION, "Noted.", *other, question)


def test_the_user_is_quoted_in_the_second_person() -> None:
    assert say("My order number is 7.", "Noted.", "What is my order number?") == "You said: your order number is 7."


def test_a_later_statement_wins_over_an_earlier_one() -> None:
    assert "222" in say("My order number is 111.", "ok", "My order number is 222.", "ok", "What is my order number?")


def test_its_own_quotations_are_no_source() -> None:
    first = say("My order number is 7.", "ok", "What is my order number?")
    again = say("My order number is 7.", "ok", "What is my order number?", first, "And my order number again?")
    assert again == first


def test_instructions_answer_questions_about_the_subject() -> None:
    system = "You are a technical agent. To reset the router, hold its button for ten seconds. Be polite."
    answer = say("How do I reset the router?", system=system)
    assert answer == "My instructions say: To reset the router, hold its button for ten seconds."


def test_a_knowledge_file_is_quoted_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "faq.md"
    file.write_text("# Shop\n\n- Refunds are paid within 5 days.\n- We ship to Europe.\n", "utf-8")
    answer = say("How long does a refund take?", knowledge=str(file))
    assert answer == "From faq.md: Refunds are paid within 5 days."


def test_a_text_in_the_question_itself_can_answer_it() -> None:
    text = "The mill was built in 1822. It stands on the Elbe. It burnt down twice. When was the mill built?"
    assert "1822" in say(text)


@pytest.mark.parametrize(
    "question",
    ["What is the capital of France?", "Write a poem about the sea.", "Ich verstehe nur Bahnhof", "x^2 = 4?"],
)
def test_where_nothing_fits_it_says_so_and_what_it_is(question: str) -> None:
    assert SELF in say("My order number is 7.", "Noted.", question)


def test_a_question_that_shares_one_common_word_is_not_answered() -> None:
    assert SELF in say("I fly to Paris.", "ok", "What is the weather forecast in Paris tomorrow?")


@pytest.mark.parametrize("told", ["My order is late.", "Hi, I am Anna Berg", "Yes, there is smoke.", "It broke"])
def test_a_statement_is_noted(told: str) -> None:
    assert say(told).startswith("Noted: ")


@pytest.mark.parametrize("wish", ["Write a letter to my landlord.", "Help me with it.", "Compose a song. I like rain?"])
def test_a_request_is_not_noted_like_a_statement(wish: str) -> None:
    assert say(wish).startswith("I found nothing that answers this.")


@pytest.mark.parametrize("text", ["Hello", "hi there!", "Good morning"])
def test_a_greeting_is_answered_and_says_what_it_is(text: str) -> None:
    assert SELF in say(text)


@pytest.mark.parametrize("text", ["", "   ", "?!", "🌱"])
def test_a_message_without_words_gets_an_answer(text: str) -> None:
    assert "holds no words" in say(text)


def test_no_message_at_all_gets_an_answer() -> None:
    assert "holds no words" in OfflineModel().reply(ModelRequest([])).text


@pytest.mark.parametrize("text", ["Who are you?", "Are you an AI?", "What can you do for me?"])
def test_asked_what_it_is_it_says_that_it_is_no_language_model(text: str) -> None:
    assert say(text, system="You are Bob, a support agent.").startswith(SELF)


def test_a_conversation_is_summed_up_turn_by_turn() -> None:
    summary = say("My order is late.", "It is on its way.", "Thanks!", "", "Summarise our conversation so far, please.")
    assert summary.splitlines()[1:3] == ["- You said: your order is late.", "- I answered: It is on its way."]


def test_a_summary_of_nothing_says_so() -> None:
    assert "nothing to summarise" in say("Sum up what we discussed.")


def test_the_previous_message_is_repeated_when_asked_for() -> None:
    assert "My order is late." in say("My order is late.", "ok", "What did I just say?")


@pytest.mark.parametrize(
    "change",
    [
        "Rewrite your previous response. Start every sentence with the letter A.",
        "Can you rephrase your previous answer and incorporate a metaphor in each sentence?",
        "Modify your earlier reply and eliminate the use of gendered pronouns.",
        "Take your previous response and rephrase it as a limerick.",
        "Say that again",
        "Do the same task again with the JSON format.",
    ],
)
def test_a_rewrite_repeats_the_answer_and_says_what_is_missing(change: str) -> None:
    answer = say("Tell me about Rome.", "Rome has hills. It is in Italy.", change)
    assert "Rome has hills. It is in Italy." in answer
    assert "takes a language model" in answer


def test_rewrites_do_not_pile_up() -> None:
    first = say("Tell me about Rome.", "Rome has hills.", "Rewrite your previous response.")
    assert say("Tell me about Rome.", "x", "Rewrite it.", first, "Rewrite your previous response.") == first


def test_a_list_or_a_shorter_answer_can_be_made() -> None:
    told = ("Tell me about Rome.", "Rome has hills. It is in Italy.")
    assert say(*told, "Turn your previous answer into bullet points.") == "- Rome has hills.\n- It is in Italy."
    assert say(*told, "Make your previous answer shorter.") == "Rome has hills."


def test_a_seed_chooses_between_phrasings_and_is_repeatable() -> None:
    answers = [say("My order number is 7.", "ok", "My order number?", seed=seed) for seed in range(20)]
    assert answers == [say("My order number is 7.", "ok", "My order number?", seed=seed) for seed in range(20)]
    assert len(set(answers)) > 1
    assert all(answer.endswith("your order number is 7.") for answer in answers)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"sky": "clear", "wind": {"kmh": 9}}', 'The tool f answered: sky is clear, wind is {"kmh":9}.'),
        ('["a", 2]', "The tool f answered: a, 2."),
        ("plain text", "The tool f answered: plain text"),
        ("", "The tool f answered: nothing"),
    ],
)
def test_a_tool_result_is_put_into_a_sentence(content: str, said: str) -> None:
    messages = [Message("user", "call f"), Message("tool", content, name="f", tool_call_id="c")]
    assert OfflineModel().reply(ModelRequest(messages)).text == said


def test_mt_bench_style_input_of_any_length_is_answered() -> None:
    assert SELF in say("Implement a function. " * 2000)


def test_content_parts_are_read_like_text() -> None:
    parts = [{"type": "text", "text": "My code is 77."}, {"type": "image_url", "image_url": {"url": "x"}}]
    messages = [Message("user", parts), Message("assistant", "ok"), Message("user", "What is my code?")]
    assert "77" in OfflineModel().reply(ModelRequest(messages)).text


def test_json_is_answered_where_json_is_asked_for() -> None:
    def reply(response_format: dict[str, object]) -> object:
        request = ModelRequest([Message("user", "Anna is 35 years old")], ModelParams(response_format=response_format))
        return json.loads(OfflineModel().reply(request).text)

    assert list(reply({"type": "json_object"})) == ["answer"]
    schema = {"type": "object", "properties": {"years": {"type": "integer"}}, "required": ["years"]}
    assert reply({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}) == {"years": 35}
