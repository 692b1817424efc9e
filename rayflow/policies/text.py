"""The little text analysis that policies share: words, and whether a phrase occurs in a message."""

from __future__ import annotations

import re

_WORD = re.compile(r"[\w+#]+")


def words(text: str) -> list[str]:
    """Lower-case words; `+` and `#` belong to a word, so that "C++" and "C#" are not "C"."""
    return _WORD.findall(text.casefold())


def padded(text: str) -> str:
    """All words between single blanks, with a blank at both ends: a phrase occurs as whole words exactly when its own
    padded form is a substring of this."""
    return f" {' '.join(words(text))} "
