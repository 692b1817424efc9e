"""A conversation of 400 turns with facts that were said once, long ago, among much talk of other things."""

from __future__ import annotations

from itertools import chain

from rayflow.chat import Message
from rayflow.messages import Turn
from rayflow.policies.context import Past

FACTS = {
    7: ("My dog is called Rex and he is a dachshund.", "What is the name of my dog?", "Rex"),
    33: (
        "By the way, the order number of the espresso machine is A-4471.",
        "Which order number did I give you?",
        "4471",
    ),
    61: ("I am allergic to hazelnuts, so no pralines please.", "What am I allergic to?", "hazelnuts"),
    121: ("My sister Ingrid moves to Bergen in October.", "Where does my sister move to?", "Bergen"),
    205: ("Our budget for the kitchen is 8400 euros.", "How much is our kitchen budget?", "8400"),
    289: ("The warranty of the grinder ends on March 3rd.", "When does the warranty of the grinder end?", "March 3rd"),
}
"""By turn: what was said, what asks for it later, and the words that the answer needs."""

_THINGS = ("curtains", "tiles", "lamps", "shelves", "paint", "chairs", "carpets", "windows", "doors", "radiators")
_WORDS = ("colour", "delivery", "material", "pattern", "height", "texture", "supplier", "shade", "finish", "frame")


def said(number: int) -> str:
    """What turn `number` says; odd ones are the user's."""
    thing, word = _THINGS[number // 40 % 10], _WORDS[number * 7 % 10]
    if number % 2 == 0:
        return f"The {word} of the {thing} can be chosen from catalogue page {number}. " + (
            f"Most customers compare the {word} with the rest of the room before they decide, and that works well."
        )
    if number in FACTS:
        return FACTS[number][0]
    return f"I was wondering about the {word} of those {thing}, does catalogue page {number} show more of them?"


def turns(count: int = 400, created_us: int = 0) -> list[Turn]:
    return [
        Turn(n, Message("user" if n % 2 else "assistant", said(n)), created_us=created_us) for n in range(1, count + 1)
    ]


def learnt(history: list[Turn], since: int = 1) -> Past:
    past = Past(since)
    add(past, history)
    return past


def add(past: Past, history: list[Turn]) -> None:
    """Learn and analyse it at once."""
    for _ in chain(past.learn(history), past.analyse()):
        pass
