"""Things that a text names: mail addresses, links, dates, times, money, numbered things, and proper names.

Each kind is a pattern, tried in the order of `ENTITIES`; where two overlap, the earlier kind has it. Names are groups
of capitalised words that do not merely begin a sentence. That is right for English and fair for other languages with
capitals; it needs no model and is the same everywhere.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rayflow.language.words import STOP

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
ENTITIES: dict[str, re.Pattern[str]] = {
    "email": re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,4}"),
    "url": re.compile(r"https?://[^\s<>\"')\]]{1,500}[^\s<>\"')\].,;:!?]"),
    "date": re.compile(
        rf"\b{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?\b"
        rf"|\b\d{{1,2}}(?:st|nd|rd|th)?\.?\s+(?:of\s+)?{_MONTH}\b(?:,?\s+\d{{4}}\b)?"
        r"|\b\d{4}-\d\d-\d\d\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b"
        r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b",
        re.I,
    ),
    "time": re.compile(r"\b\d{1,2}:\d\d(?:\s?[ap]\.?m\b\.?)?|\b\d{1,2}\s?[ap]\.?m\b\.?|\b(?:noon|midnight)\b", re.I),
    "money": re.compile(
        r"[$€£¥]\s?\d[\d.,]{0,20}\b|\b\d[\d.,]{0,20}\s?(?:dollars?|euros?|pounds?|usd|eur|gbp|cents?)\b", re.I
    ),
    "id": re.compile(
        r"#\d{2,20}\b|\b(?=[A-Z0-9-]{0,20}\d)(?=[0-9-]{0,20}[A-Z])[A-Z0-9]{1,12}(?:-[A-Z0-9]{1,12}){0,4}\b"
    ),
    "number": re.compile(r"\b\d[\d.,]{0,20}(?<![.,])(?:\s?%|\b)"),
    "name": re.compile(
        r"(?<![\w'’])[A-ZÀ-Þ][\w'’-]{1,30}(?:\s(?:of|the|de|van|von|and)?\s?[A-ZÀ-Þ][\w'’-]{1,30}){0,4}"
    ),
}
_BEGINS = re.compile(r"(?:^|[.!?:\n])[\s\"'(*•-]*$")
MAX_CHARS = 4000
"""Only so much of a text is looked at."""


class Entity(NamedTuple):
    kind: str
    text: str


def entities(text: str) -> tuple[Entity, ...]:
    """What `text` names, in order, each thing once."""
    text = text[:MAX_CHARS]
    found: dict[int, tuple[int, Entity]] = {}
    taken = bytearray(len(text))
    for kind, form in ENTITIES.items():
        for match in form.finditer(text):
            start, end = match.span()
            if any(taken[start:end]):
                continue
            named = _name(match.group(), text[max(0, start - 8) : start]) if kind == "name" else match.group()
            if named:
                found[start] = end, Entity(kind, named)
                taken[start:end] = b"\1" * (end - start)
    return tuple(dict.fromkeys(entity for _, (_, entity) in sorted(found.items())))


def _name(group: str, before: str) -> str:
    """The proper name in a group of capitalised words; "" where it has a capital only because a sentence begins."""
    words = group.split()
    begins = _BEGINS.search(before) is not None
    while words and words[0].lower().replace("’", "'") in STOP:
        words, begins = words[1:], False
    if not words or (begins and len(words) == 1):
        return ""
    return " ".join([*words[:-1], re.sub(r"['’]s$", "", words[-1])])
