"""What a user said, said back: first person to second."""

from __future__ import annotations

import re

_SECOND = {
    "i am": "you are",
    "am i": "are you",
    "i was": "you were",
    "was i": "were you",
    "i'm": "you're",
    "i've": "you've",
    "i'd": "you'd",
    "i'll": "you'll",
    "i": "you",
    "me": "you",
    "my": "your",
    "mine": "yours",
    "myself": "yourself",
    "we": "you",
    "we're": "you're",
    "we've": "you've",
    "our": "your",
    "ours": "yours",
}
_FIRST = re.compile(rf"(?<![\w'-])(?:{'|'.join(sorted(_SECOND, key=len, reverse=True))})(?![\w'@-])", re.I)


def second_person(text: str) -> str:
    """ "My order is late and I am sorry" becomes "your order is late and you are sorry"."""
    return _FIRST.sub(_turned, text.replace("’", "'"))


def _turned(found: re.Match[str]) -> str:
    # Ignoring case, a pattern also takes look-alikes such as the dotless i, which stay as they are.
    return _SECOND.get(found[0].lower(), found[0])
