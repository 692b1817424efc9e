"""The little English that merging knows.

Which words carry no content, which only link, which turn a sentence round, and which exclude each other. Answers in
other languages are compared by their words and numbers as they are.
"""

from __future__ import annotations


def wordset(text: str) -> frozenset[str]:
    return frozenset(text.split())


COMMON = wordset(
    """
    a about all also am an and any are as at be because been being but by ca can could did do does doing each else
    for from had has have having he her here his how however i if in into is it its just me my of on or our out
    own per please shall she should so some such than that the their them then there these they this those to too
    up us very via was we were what when where which who whom whose why will with wo would you your
    """
)
"""Words without content. `ca` and `wo` are what is left of "can't" and "won't"."""

NEGATORS = wordset("not no never none nothing neither nor cannot hardly")
CONDITIONS = wordset("if unless when whenever while without except otherwise only")
"""What follows holds under a condition: sentences with different ones do not speak of the same case."""
TIMING = wordset("before after during until till since within once")
"""The same, for whether something is so at all; two lengths of time may well differ by them."""

_OPPOSITES = """
safe secure | unsafe insecure dangerous
free | paid
required mandatory compulsory | optional
possible | impossible
enabled | disabled
supported | unsupported
available | unavailable
legal | illegal
true correct right | false incorrect wrong
public | private
valid | invalid
increases increase increased rises | decreases decrease decreased falls
refundable | non_refundable
reversible | irreversible
included | excluded
allowed permitted | forbidden prohibited
encrypted | unencrypted
"""
POLES: dict[str, tuple[str, int]] = {
    word: (sides[0].split()[0], side)
    for line in _OPPOSITES.strip().splitlines()
    for sides in [line.split("|")]
    for side, words in enumerate(sides)
    for word in words.split()
}
"""Word -> (its pair, side of it): the sides of a pair exclude each other when said of one thing. Only words that state
something: "start" and "stop" are steps, not opinions."""


def stem(word: str) -> str:
    """The word without its commonest English endings, so that "refunds" is "refund" and "charged" is "charging"."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    if len(word) > 5 and word.endswith("ing"):
        word = _single(word[:-3])
    elif len(word) > 5 and word.endswith("ed"):
        word = _single(word[:-2])
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def _single(word: str) -> str:
    """Of "stopp", "stop"; "call" stays."""
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz" else word


LIGHT = frozenset(
    stem(word)
    for word in wordset(
        """
        accept allow always apply approximately around become begin call come cost current currently exactly expect
        follow generally get give go keep last let make mean may might must need normally note now offer only provide
        receive require run set simply still take typically use used usually want yes
        """
    )
)
"""Verbs and adverbs that link the subject of a sentence to what is said of it: they do not tell its subject. Stems."""
