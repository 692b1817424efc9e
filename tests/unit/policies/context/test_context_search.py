"""Earlier messages are found by what is asked about them."""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from support.data import shared

from rayflow.language.sentences import sentences
from rayflow.policies.context.search import Index, excerpt
from rayflow.policies.context.tokens import estimate


def index(*messages: str) -> Index:
    made = Index()
    for seq, text in enumerate(messages, 1):
        made.add(seq, "user" if seq % 2 else "assistant", sentences(text))
    return made


def test_the_message_with_the_rarer_words_comes_first() -> None:
    made = index("The colour of the door is red.", "Red it is.", "The hinge of the door squeaks.", "Doors can be red.")
    assert made.search("Which hinge squeaks?", 2)[0].seq == 3


def test_words_for_the_same_thing_are_found() -> None:
    made = index("I live in Bergen.", "A nice city.", "The lamp is broken.", "Sorry to hear that.")
    assert made.search("Where do I reside?", 1)[0].seq == 1


def test_a_question_ranks_below_the_statement_that_answers_it() -> None:
    made = index("What is the name of my dog?", "I do not know.", "The name of my dog is Rex.", "Noted.")
    assert [hit.seq for hit in made.search("What is my dog's name?", 2)] == [3, 1]


def test_a_search_stays_within_the_stretch_it_is_given() -> None:
    made = index(*(["My dog is called Rex.", "A fine dog."] * 10))
    assert {hit.seq for hit in made.search("dog", 20, since=5, until=9)} == {5, 6, 7, 8}
    assert made.search("dog", 5, since=21) == []
    assert made.search("", 5) == []


def test_the_coverage_says_how_much_of_the_question_is_there() -> None:
    made = index("My dog is called Rex.", "Fine.", "The kitchen is blue.", "Fine.")
    assert made.search("dog", 1)[0].coverage == 1.0
    assert made.search("Does the dog like the zoological garden?", 1)[0].coverage < 0.35


@given(st.lists(st.text(max_size=60), max_size=12), st.text(max_size=60), st.integers(0, 12), st.integers(0, 14))
def test_any_text_can_be_searched_for_in_any(messages: list[str], query: str, since: int, until: int) -> None:
    hits = index(*messages).search(query, 3, since, until)
    assert len(hits) <= 3
    assert all(since <= hit.seq < until and hit.score > 0 and 0 < hit.coverage <= 1 for hit in hits)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, -hit.seq))


def test_what_is_alike_is_found_without_a_word_in_common() -> None:
    known = index("We named him Rex.", "The puppy sleeps.", "Trains are late.")
    alike = {1: 0.7, 2: 0.5, 3: 0.0}
    found = known.search("What is the puppy called?", 3, meaning=alike, weight=0.6)
    assert {hit.seq for hit in found} == {1, 2} and all(0 < hit.score <= 1 for hit in found)
    assert {hit.seq: hit.coverage for hit in found}[1] == 0.7
    assert [hit.seq for hit in known.search("xyzzy", 3, meaning=alike, weight=0.6)] == [1, 2]
    assert [hit.seq for hit in known.search("xyzzy", 3, since=2, meaning=alike, weight=0.6)] == [2]


def test_without_weight_vectors_change_no_rank() -> None:
    known = index("We named him Rex.", "The puppy sleeps.", "The puppy eats late.")
    plain = [hit.seq for hit in known.search("When does the puppy eat?", 3)]
    assert [hit.seq for hit in known.search("When does the puppy eat?", 2, meaning={1: 1.0})] == plain[:2]


def test_an_excerpt_keeps_the_sentences_that_were_asked_for() -> None:
    text = "The weather is nice today. " * 40 + "The code of the door is 4711. " + "Lunch was good. " * 40
    shown = excerpt(text, "What is the code of the door?", 30, estimate)
    assert shown == "... The code of the door is 4711."
    assert excerpt(text, "Elephants?", 30, estimate) == ""


def test_the_answers_to_public_memory_questions_are_found() -> None:
    """BFCL v4: 55 questions about 156 earlier messages; 52 of the answers stand in one of them word for word."""
    conversations = shared("data", "memory", "bfcl_memory_conversations.jsonl.gz")
    questions = shared("data", "memory", "bfcl_memory_questions.jsonl")
    said: defaultdict[str, list[str]] = defaultdict(list)
    for line in gzip.decompress(conversations.read_bytes()).splitlines():
        conversation = json.loads(line)
        said[conversation["scenario"]] += [turn["content"] for turn in conversation["turns"]]
    indexes = {}
    for scenario, messages in said.items():
        indexes[scenario] = Index()
        for seq, text in enumerate(messages, 1):
            indexes[scenario].add(seq, "user", sentences(text))
    found = 0
    for line in questions.read_text().splitlines():
        row = json.loads(line)
        top = [said[row["scenario"]][hit.seq - 1] for hit in indexes[row["scenario"]].search(row["question"], 5)]
        found += any(f" {_plain(answer)} " in f" {_plain(text)} " for answer in row["accepted_answers"] for text in top)
    assert found >= 48, f"{found} of 55"


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()
