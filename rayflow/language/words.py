"""Words as things to compare: stems, a stop list, and words that ask for the same fact.

The stop list and the suffix rules are English; other languages work by equal words. Kinds of facts (an e-mail
address, a date, a place) are written as pseudo words such as `<date>`, so that "when" can meet a sentence that holds
a date.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")

_STOP_WORDS = """
a about above after again against all also am an and any are as at be because been before being below between both
but by can could did do does doing don't down during each few for from further had has have having he her here hers
him his how i i'd i'll i'm i've if in into is it it's its itself just let let's me more most my myself no nor not
now of off ok okay on once only or other our ours out over own please same she should so some such than thank thanks
that that's the their theirs them then there these they this those through to too under until up us very was we were
what what's when where which while who whom whose why will with would you you're your yours yourself actually
earlier exactly finally know knew later mention mentioned previously recall remember remind repeat said say tell
told want wanted like need give gave show using use used get got go going may might must shall able way thing things
well yes hi hello hey dear kindly currently e long much many take takes
"""
STOP = frozenset(_STOP_WORDS.split())

_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_RELATIVE = ("today", "tomorrow", "yesterday", "tonight", "next")
_NUMBERS = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty", "thirty",
    "forty", "fifty", "hundred", "dozen",
)  # fmt: skip

_DIGIT = re.compile(r"\d")
_CAPITAL = re.compile(r"\s[A-ZÀ-Þ]")
_AT = re.compile("@")


class _Kind(NamedTuple):
    """How facts of a kind look. A text that has neither the `mark` nor one of the `words` holds none, which is much
    cheaper to see."""

    form: re.Pattern[str]
    mark: re.Pattern[str]
    words: frozenset[str] = frozenset()


KINDS = {
    "<email>": _Kind(re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}\.\w"), _AT),
    "<date>": _Kind(
        re.compile(
            r"\b(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]*\.?\s+\d|\b\d{1,2}(?:st|nd|rd|th)\b"
            rf"|\b(?:{'|'.join(_DAYS)})\b|\b\d{{4}}-\d\d-\d\d\b|\b\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}\b"
            r"|\b(?:1[89]|20)\d\d\b|\b(?:today|tomorrow|yesterday|tonight|next week|next month|next year)\b"
            rf"|\b\d{{1,2}}\.?\s+(?:{_MONTHS})\b",
            re.I,
        ),
        _DIGIT,
        frozenset(_DAYS + _RELATIVE),
    ),
    "<time>": _Kind(
        re.compile(r"\b\d{1,2}:\d\d\b|\b\d{1,2}\s?(?:am|pm|a\.m\.|p\.m\.)(?!\w)|\b(?:noon|midnight|o'clock)\b", re.I),
        _DIGIT,
        frozenset(("noon", "midnight", "o'clock")),
    ),
    "<money>": _Kind(
        re.compile(r"[$€£¥]\s?\d|\b\d[\d.,]{0,20}\s?(?:dollars?|euros?|pounds?|usd|eur|gbp|cents?)\b", re.I), _DIGIT
    ),
    "<number>": _Kind(re.compile(rf"\d|\b(?:{'|'.join(_NUMBERS)})\b", re.I), _DIGIT, frozenset(_NUMBERS)),
    "<place>": _Kind(
        re.compile(r"\b(?:in|at|from|to|near|visit|visited|around|address is|city is)\s+(?:the\s+)?[A-ZÀ-Þ]\w"),
        _CAPITAL,
    ),
    "<name>": _Kind(re.compile(r"(?i:\bname(?:'s| is)|\bcall me|\bi am|\bi['’]m|\bthis is)\s+[A-ZÀ-Þ]\w"), _CAPITAL),
}

_ASKED_BY: dict[str, tuple[str, ...]] = {
    "<date>": ("when", "date", "day", "month", "birthday"),
    "<time>": ("when", "time", "hour"),
    "<place>": ("where", "city", "place", "country", "town", "location", "destination"),
    "<name>": ("who", "whom", "name"),
    "<email>": ("email", "mail"),
    "<number>": ("number", "many", "much", "old", "long", "phone", "age", "code", "id"),
    "<money>": ("much", "price", "cost", "budget", "amount", "salary"),
}
"""Words that make a sentence better which holds such a fact."""
_IS_KIND: dict[str, tuple[str, ...]] = {
    "<date>": ("date",),
    "<time>": ("time",),
    "<place>": ("city", "town", "country", "destination", "address"),
    "<name>": ("name",),
    "<email>": ("email", "mail", "address"),
    "<number>": ("number",),
}
"""Words that such a fact answers by itself."""
_SAME = (
    ("live", "reside", "home", "based"),
    ("old", "age", "year"),
    ("name", "called"),
    ("job", "work", "profession", "occupation", "career"),
    ("phone", "telephone", "mobile", "call"),
    ("email", "mail"),
    ("cost", "price", "pay", "paid", "charge", "fee"),
    ("buy", "bought", "purchase", "purchased", "ordered"),
    ("favourite", "favorite", "love", "prefer"),
    ("kid", "child", "children", "son", "daughter"),
    ("wife", "husband", "spouse", "partner", "married"),
    ("broken", "damaged", "defective", "faulty"),
    ("delivery", "shipping", "delivered", "shipped", "arrive"),
    ("allergy", "allergic"),
)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """`word` in lower case without its commonest English endings: "arrives", "arrived" and "arriving" are equal."""
    word = word.lower().replace("’", "'").removesuffix("'s").removesuffix("'")
    if len(word) < 4 or not word.isascii():
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for suffix, shortest in (("ing", 6), ("ed", 5), ("ly", 6)):
        if word.endswith(suffix) and len(word) >= shortest:
            word = word[: -len(suffix)]
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word.removesuffix("e")


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def plain(word: str) -> str:
    """In lower case, with a straight apostrophe: as it stands in lists of words."""
    return word.lower().replace("’", "'")


def content_words(text: str) -> list[str]:
    """Words that carry meaning, in order, as written."""
    return [word for word in words(text) if plain(word) not in STOP]


def kinds(text: str, said: Sequence[str]) -> list[str]:
    """The kinds of facts that a text holds whose plain words are `said`."""
    heads = {word.partition("'")[0] for word in said}.union(said)  # of "Monday's", too
    marks = {mark: mark.search(text) is not None for mark in (_DIGIT, _CAPITAL, _AT)}
    return [
        name
        for name, kind in KINDS.items()
        if (marks[kind.mark] or not kind.words.isdisjoint(heads)) and kind.form.search(text)
    ]


def stems(text: str) -> list[str]:
    """Stems of the content words, and the kinds of facts the text holds."""
    return [stem(word) for word in content_words(text)] + kinds(text, [plain(word) for word in words(text)])


def alternatives(word: str) -> frozenset[str]:
    """Stems that answer to `word`: its own, those of words for the same thing, and the kinds of facts it asks for."""
    return _alternatives(stem(word))


def kinds_asked(text: str) -> frozenset[str]:
    """Kinds of facts that the question words of `text` ask for."""
    asked = {stem(word) for word in words(text)}
    return frozenset(kind for kind, askers in _ASKERS.items() if asked & askers)


_SAME_STEMS = [frozenset(stem(word) for word in group) for group in _SAME]
_ASKERS = {kind: frozenset(stem(word) for word in askers) for kind, askers in _ASKED_BY.items()}
_KIND_STEMS = {kind: frozenset(stem(word) for word in names) for kind, names in _IS_KIND.items()}


@lru_cache(maxsize=65536)
def _alternatives(stemmed: str) -> frozenset[str]:
    facts = (kind for kind, named in _KIND_STEMS.items() if stemmed in named)
    return frozenset({stemmed}.union(facts, *(group for group in _SAME_STEMS if stemmed in group)))
