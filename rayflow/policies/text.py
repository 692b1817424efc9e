"""The little text analysis that policies share: words, and whether a phrase occurs in a message."""

from __future__ import annotations

import re
from unicodedata import normalize

_WORD = re.compile(r"\w[\w+#]*")


def words(text: str) -> list[str]:
    """Lower-case words. `+` and `#` belong to the word before them: "C++" and "C#" are not "C", but "#billing" is
    "billing". An accented letter is the same however it was typed."""
    return _WORD.findall(normalize("NFC", text).casefold())


def padded(text: str) -> str:
    """All words between single blanks, with a blank at both ends: a phrase occurs as whole words exactly when its own
    padded form is a substring of this."""
    return f" {' '.join(words(text))} "
