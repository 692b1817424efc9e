"""What a sentence says that is worth keeping: how important it is, and what it is a fact about.

Patterns in the order of their weight, the first that fits decides. They are English, as those of `rayflow.language`
are; of other languages, sentences with names and numbers in them are kept, and what more there is a model can say
(`memory.extraction_model`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rayflow.language.entities import entities
from rayflow.language.sentences import sentences
from rayflow.language.words import content_words, stem

MAX_TEXT_CHARS = 2000
"""Of one memory."""
MAX_SCANNED_CHARS = 20_000
"""Of one message; what follows is material, not something a person says of themselves."""
MOST_STATEMENTS = 20
"""Of one message."""
MAX_TAGS = 8

ASKED_TO = 0.95
PERSONAL = 0.85
PREFERENCE = 0.8
FIRST_PERSON = 0.5
NAMES = 0.15
"""So much more for a sentence that names something."""
PLAIN = 0.2

_REMEMBER = re.compile(
    r"^\W*(?:(?:please|and|also|so|ok(?:ay)?|can you|could you)[\s,]+)*"
    r"(?:remember|note|keep in mind|bear in mind|(?:don['’]t|do not|never) forget|make a note)\b[\s:,]*(?:that\b)?\s*"
    r"(?P<said>\S.*)$",
    re.I | re.S,
)
_MY = re.compile(
    r"\b(?:my|our)\s+(?P<what>[\w'’-]+(?:\s+[\w'’-]+){0,3}?)(?:\s+(?:is|are)\b|['’]s\b(?=\s+\S)|\s+(?:has\s+)?changed\s+to\b)",
    re.I,
)
_THE = re.compile(r"^(?:that\s+)?the\s+(?P<what>[\w'’-]+(?:\s+[\w'’-]+){0,3}?)\s+(?:is|are)\b", re.I)
"""A fact only where one is asked to remember it."""
_CLAUSE = re.compile(r",?\s+(?:and|but)\s+(?=(?:i|i['’]m|my|we|our|please)\b)", re.I)
_BEFORE = re.compile(r"^(?:old|former|previous|first|last|ex)\b", re.I)
_ABOUT: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("name", re.compile(r"\b(?:my name(?:['’]s| is)|call me)\s+\w", re.I)),
    ("home", re.compile(r"\b(?:i|we)\s+(?:now\s+)?(?:live|reside|(?:have\s+)?moved to|am based|are based)\b", re.I)),
    ("home", re.compile(r"\bi['’]m based (?:in|at)\b", re.I)),
    ("age", re.compile(r"\bi(?:['’]m| am)\s+\d{1,3}(?:\s+years?\s+old)?(?=\W*$|\s+years?\b)", re.I)),
    ("work", re.compile(r"\bi\s+(?:now\s+)?work\s+(?:as|at|for|in)\b|\bi(?:['’]m| am)\s+(?:a|an)\s+\w+", re.I)),
)
_PERSONAL = re.compile(
    r"\b(?:i(?:['’]m| am)\s+(?:\w+\s+)?(?:allergic|vegan|vegetarian|diabetic|pregnant|married|divorced|deaf|blind)\b"
    r"|i\s+(?:can['’]t|cannot|don['’]t|do not)\s+(?:eat|drink|drive|hear|see|speak)"
    r"|i\s+(?:speak|was born|grew up|have\s+(?:a|an|two|three|four|\d+)\s+\w+|have\s+\w+\s+allerg\w+)"
    r"|i(?:['’]m| am)\s+from)\b",
    re.I,
)
_PREFERENCE = re.compile(
    r"\b(?:i(?:['’]d)?\s+(?:really\s+|always\s+|usually\s+|much\s+)?(?:prefer|like|love|enjoy|hate|dislike|avoid)"
    r"|i\s+(?:don['’]t|do not)\s+(?:like|want|enjoy)|i\s+never\b|i\s+always\b|from now on\b|please (?:always|never)\b)",
    re.I,
)
_FIRST = re.compile(r"\b(?:i|i['’](?:m|ve|d|ll)|me|my|mine|we|our|us)\b", re.I)


class Statement(NamedTuple):
    """`subject`: what it is a fact about, where only one such fact can hold; "" otherwise."""

    text: str
    importance: float
    subject: str = ""


def statements(text: str) -> list[Statement]:
    """What a person says in `text`, in order. Questions say nothing."""
    found: list[Statement] = []
    for sentence in sentences(text[:MAX_SCANNED_CHARS]):
        clauses = [statement(clause, question=sentence.question) for clause in _CLAUSE.split(sentence.text)]
        whole = [] if None not in clauses else [statement(sentence.text, question=sentence.question)]
        found += [said for said in whole or clauses if said is not None]
        if len(found) >= MOST_STATEMENTS:
            break
    return found[:MOST_STATEMENTS]


def statement(sentence: str, *, question: bool = False) -> Statement | None:
    """One sentence; None for a question, and for what is too short to say anything."""
    if wanted := _REMEMBER.match(sentence):
        said = wanted["said"].strip()
        return Statement(said[:MAX_TEXT_CHARS], ASKED_TO, subject(said) or _subject(_THE.search(said)))
    if question or (len(content_words(sentence)) < 2 and not _about(sentence)):
        return None
    about = subject(sentence)
    if about or _PERSONAL.search(sentence):
        return Statement(sentence[:MAX_TEXT_CHARS], PERSONAL, about)
    if _PREFERENCE.search(sentence):
        return Statement(sentence[:MAX_TEXT_CHARS], PREFERENCE)
    weight = FIRST_PERSON if _FIRST.search(sentence) else PLAIN
    return Statement(sentence[:MAX_TEXT_CHARS], weight + (NAMES if entities(sentence) else 0.0))


def subject(sentence: str) -> str:
    """What a sentence is a fact about: "home", "my favourite colour"; "" where it is no such fact."""
    if about := _about(sentence):
        return about
    return _subject(_MY.search(sentence))


def _subject(fact: re.Match[str] | None) -> str:
    if fact is None or _BEFORE.match(fact["what"]):
        return ""
    what = [stem(word).replace("favorit", "favourit") for word in content_words(fact["what"])]
    return "my " + " ".join(what) if what else ""


def _about(sentence: str) -> str:
    return next((about for about, form in _ABOUT if form.search(sentence)), "")


def tags(text: str) -> list[str]:
    """The first words of `text` that carry meaning, as stems."""
    return list(dict.fromkeys(stem(word) for word in content_words(text)))[:MAX_TAGS]
