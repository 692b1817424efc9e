"""Whether a part is an answer at all.

Made to be right when it says no: a refusal and an error message are short and begin as such. A sentence like "I'm sorry
about the delay" is neither.
"""

from __future__ import annotations

import re

from rayflow.messages import Part
from rayflow.policies.text import words

SHORT_WORDS = 60
"""No refusal and no error message has more."""

_SORRY = r"(?:(?:i['’]?m|i am|we['’]re|we are)?\s*(?:very |so |really )?(?:sorry|afraid)\b[^.!?\n]{0,40}?[,.;:]?\s+)?"
_HEDGE = r"(?:but |however,? |unfortunately,? )?(?:as an ai\b[^.!?\n]{0,40}?,\s*)?"
_CANNOT = (
    r"(?:can(?:no|['’])t|can not|could(?:n['’]| no)t|won['’]t be able to|will not be able to"
    r"|(?:am|are) (?:un|not )able to|['’](?:m|re) (?:un|not )able to)"
)
_SERVE = r"(?:\w+ly )?(?:help|assist|answer|provide|comply|discuss|respond|fulfil|do that|share|support)\b"
_IGNORANT = (
    r"(?:do not|don['’]t) (?:know\b|have (?:any |enough |access |information |knowledge ))"
    r"|have no (?:information|knowledge|idea)\b"
)
_REFUSAL = re.compile(rf"^\W*{_SORRY}{_HEDGE}(?:i|we)\s?(?:{_CANNOT}\s+{_SERVE}|{_IGNORANT})", re.IGNORECASE)
_ERROR = re.compile(r"^\W*(?:Traceback \(most recent call last\)|(?:\w*Error|\w*Exception|ERROR|error)\s?:)")
_FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)


def fault(part: Part) -> str:
    """Why a part is no valid answer; "" where it is one."""
    if part.error:
        return part.error
    if not part.text.strip():
        return "empty answer"
    if part.finish_reason == "length":
        return "incomplete: cut at the token limit"
    if part.finish_reason == "content_filter":
        return "incomplete: cut by the content filter"
    if len(_FENCE.findall(part.text)) % 2:
        return "incomplete: a code block does not end"
    if len(words(part.text)) <= SHORT_WORDS:
        if _REFUSAL.match(part.text):
            return "refused to answer"
        if _ERROR.match(part.text):
            return "an error message"
    return ""
