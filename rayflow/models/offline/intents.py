"""What the last message wants, as far as it can be told from its form."""

from __future__ import annotations

import re
from enum import Enum, auto

from rayflow.language.sentences import sentences
from rayflow.language.words import words

MAX_FORM_CHARS = 600


class Intent(Enum):
    EMPTY = auto()
    GREETING = auto()
    THANKS = auto()
    IDENTITY = auto()
    """Who or what are you?"""
    SUMMARY = auto()
    """Sum up the conversation."""
    PREVIOUS_ANSWER = auto()
    """Repeat, rewrite or change what the assistant said last."""
    PREVIOUS_MESSAGE = auto()
    """What did I just say?"""
    STATEMENT = auto()
    """Tells something: starts with "I", "my", "the", "there" and the like, and asks nothing."""
    QUESTION = auto()
    """Anything else: a question or a request."""


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.I | re.S)


_GREETING = _any(r"(?:hi|hello|hey|hiya|greetings|howdy|hallo|salut|hola|good (?:morning|afternoon|evening|day))\b")
_THANKS = _any(r"(?:thanks|thank you|thx|cheers|great|perfect|ok(?:ay)?|cool|bye|goodbye|see you)\b")
_IDENTITY = _any(
    r"\b(?:who|what) are you\b",
    r"\bare you (?:an? )?(?:ai|human|bot|robot|llm|language model|chatbot|real)\b",
    r"\bwhat(?:'s| is) your name\b",
    r"\bwhat can you do\b",
)
_SUMMARY = _any(
    r"\b(?:summary|summari[sz]e|sum up|recap)\b.*\b(?:conversation|chat|discussion|so far|talked|discussed|said)\b",
    r"\bwhat (?:have|did) we (?:talk|discuss|cover)",
)
_PREVIOUS_MESSAGE = _any(
    r"\bwhat (?:did|have|was) i (?:just |last )?(?:say|said|ask|asked|asking|saying|write|written|tell)"
    r"(?: you)?(?: just| last| before| earlier| now| first| previously)*\s*[?.!]*$",
    r"\bmy (?:last|previous) (?:message|question)\b",
)
_ANSWER = r"(?:response|answer|reply|output|message|solution|text|story|example|explanation)"
_PREVIOUS_ANSWER = _any(
    rf"\b(?:your|the) (?:\w+ )?(?:previous|last|earlier|original|own) {_ANSWER}\b",
    rf"\b(?:re-?write|rephrase|repeat|revise|shorten|expand|edit|critique|translate|summari[sz]e|simplify|improve) "
    rf"(?:your|the) {_ANSWER}\b",
    r"\bsay (?:that|it) again\b",
    r"\bsame task again\b",
    r"\brepeat (?:that|it|the same)\b",
    r"^(?:now,? )?(?:explain|describe) (?:it|them|that|this) (?:again|like|in)\b",
)
_STATEMENT = _any(
    r"(?:(?:hi|hello|hey|so|and|but|well|yes|no|also|actually|sorry|ok|okay|there)\b[\s,.!]*)*"
    r"(?:i|i['’]m|i['’]ve|my|we|we['’]re|our|it|it['’]s|this|that|the|there|he|she|they|you|your)\b"
)
_FORMS = (
    (_IDENTITY, Intent.IDENTITY),
    (_SUMMARY, Intent.SUMMARY),
    (_PREVIOUS_MESSAGE, Intent.PREVIOUS_MESSAGE),
    (_PREVIOUS_ANSWER, Intent.PREVIOUS_ANSWER),
)
"""The first that fits counts."""


def intent(text: str) -> Intent:
    """The intent of a user's message. Only the beginning of a long one is looked at for its form."""
    spoken = words(text)
    if not spoken:
        return Intent.EMPTY
    head = text.strip()[:MAX_FORM_CHARS]
    short = len(spoken) <= 4
    if short and _GREETING.match(head):
        return Intent.GREETING
    if short and _THANKS.match(head) and "?" not in head:
        return Intent.THANKS
    for form, kind in _FORMS:
        if form.search(head):
            return kind
    asks = any(sentence.question for sentence in sentences(text))
    return Intent.STATEMENT if _STATEMENT.match(head) and not asks else Intent.QUESTION
