"""Amounts as a sentence means them.

What is compared is the quantity, not its digits: "24 months" are "two years", "3-5 days" admit 4, "up to 10 users"
admit 8. A number that names something ("step 2", "Windows 11", "version 1.2.3") is part of the name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf, isclose

from rayflow.policies.merging.language import COMMON, CONDITIONS, NEGATORS, TIMING, stem, wordset

OTHER_UNIT = 0.05
"""Quantities written in different units may differ by this share: a month is not exactly 30 days."""
ROUGHLY = 0.1
"""And so may those that were given as approximate."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """An interval, in the base unit of its dimension; `unit` is the one it was written in."""

    dimension: str
    low: float
    high: float
    unit: str = ""

    def agrees(self, other: Quantity) -> bool:
        """Whether both can be true of one thing. Two limits of one kind must be the same limit."""
        slack = OTHER_UNIT if self.unit != other.unit else 1e-9
        if self.low == other.low == -inf:
            return isclose(self.high, other.high, rel_tol=slack)
        if self.high == other.high == inf:
            return isclose(self.low, other.low, rel_tol=slack)
        return self.low <= other.high * (1 + slack) and other.low <= self.high * (1 + slack)


_UNITS: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("s", "sec", "second"), ("duration", 1 / 60)),
    **dict.fromkeys(("min", "minut"), ("duration", 1.0)),
    **dict.fromkeys(("h", "hr", "hour"), ("duration", 60.0)),
    "day": ("duration", 1440.0),
    "week": ("duration", 10_080.0),
    "month": ("duration", 43_200.0),
    "year": ("duration", 525_600.0),
    **{name: ("size", 1000.0**i) for i, name in enumerate(("byte", "kb", "mb", "gb", "tb"))},
    **dict.fromkeys(("%", "percent"), ("percent", 1.0)),
    **dict.fromkeys(("$", "usd", "dollar"), ("$", 1.0)),
    **dict.fromkeys(("€", "eur", "euro"), ("€", 1.0)),
    **dict.fromkeys(("£", "gbp", "pound"), ("£", 1.0)),
    "mm": ("length", 0.001),
    "cm": ("length", 0.01),
    "km": ("length", 1000.0),
    "mg": ("mass", 0.001),
    "kg": ("mass", 1000.0),
}
"""Stem of a unit -> its dimension, and how many base units it is."""
_NAMED = wordset(
    """
    answer appendix article book chapter error figure floor gate item level line no number option page paragraph
    part phase point question release room rule section step table tier type v version volume
    """
)
"""Nouns that a number after them names."""
_SPELLED: dict[str, float] = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60,
    "ninety": 90,
}  # fmt: skip
_MAGNITUDES = {"": 1.0, "k": 1e3, "thousand": 1e3, "million": 1e6, "billion": 1e9}
_LIMITS = {
    "least": ("at least", "no less than", "no fewer than", "more than", "over", "a minimum of", "from"),
    "most": ("at most", "no more than", "less than", "fewer than", "under", "up to", "within", "a maximum of"),
    "roughly": ("about", "around", "approximately", "roughly", "nearly", "almost", "~"),
}
_LIMIT_OF = {phrase: kind for kind, phrases in _LIMITS.items() for phrase in phrases}

_NO_UNITS = COMMON | NEGATORS | TIMING | CONDITIONS

_NUMBER = rf"(?:\d+(?:[.,]\d+)*|\b(?:{'|'.join(_SPELLED)})\b)"
_AMOUNT = re.compile(
    rf"(?:(?<!\w)(?P<limit>{'|'.join(_LIMIT_OF)})\s*)?"
    rf"(?P<symbol>[$€£])?(?<![\w.])(?P<low>{_NUMBER})"
    rf"(?:\s?(?:-|–|\bto\b|\bor\b)\s?[$€£]?(?P<high>{_NUMBER}))?"
    r"(?:\s?(?P<magnitude>thousand|million|billion|k)\b)?"
    r"(?:[\s-](?:business|working|calendar|consecutive|full|additional|extra|more|different|separate)\b)?"
    r"(?:\s?(?P<percent>%)|[\s-]?(?P<unit>[^\W\d_]+)\b)?",
    re.IGNORECASE,
)
_BETWEEN = re.compile(rf"\bbetween\s+([$€£]?{_NUMBER})\s+and\s+(?=[$€£]?{_NUMBER})", re.IGNORECASE)
_LAST_WORD = re.compile(r"([\w#]+)[\s-]*$")


def take_quantities(text: str) -> tuple[list[Quantity], str]:
    """The amounts in a text, and the text without them and their units."""
    found: list[Quantity] = []

    def replace(match: re.Match[str]) -> str:
        before = _LAST_WORD.search(match.string, 0, match.start())
        quantity = None if before and _names(before[1], match) else _quantity(match)
        if quantity is None:
            return match[0]
        found.append(quantity)
        word = match["unit"] or ""
        return " " if _is_unit(word) else f" {word} "

    text = _AMOUNT.sub(replace, _BETWEEN.sub(r"\1 to ", text))
    return found, text


def _names(before: str, match: re.Match[str]) -> bool:
    """Whether the number after this word is a name's: "Windows 11", but "Wait 11 minutes"."""
    if match["symbol"] or match["percent"] or match["limit"] or stem((match["unit"] or "").lower()) in _UNITS:
        return False
    return (before[0].isupper() and before.lower() not in COMMON) or before.lower() in _NAMED or before.endswith("#")


def _quantity(match: re.Match[str]) -> Quantity | None:
    unit = (match["unit"] or "").lower()
    if match["low"].lower() in _SPELLED and not _is_unit(unit):
        return None  # "one of the reasons"
    low, high = _number(match["low"]), _number(match["high"] or match["low"])
    if low is None or high is None:
        return None
    name = match["symbol"] or match["percent"] or (stem(unit) if _is_unit(unit) else "")
    dimension, scale = _UNITS.get(name, (name, 1.0))
    scale *= _MAGNITUDES[(match["magnitude"] or "").lower()]
    low, high = sorted((low * scale, high * scale))
    if not match["high"]:
        match _LIMIT_OF.get((match["limit"] or "").lower()):
            case "least":
                high = inf
            case "most":
                low = -inf
            case "roughly":
                low, high = low * (1 - ROUGHLY), high * (1 + ROUGHLY)
    return Quantity(dimension, low, high, name)


def _is_unit(word: str) -> bool:
    """Whether a word after a number is what was counted."""
    return bool(word) and word.lower() not in _NO_UNITS


def _number(digits: str) -> float | None:
    """None where it is no number: "1.2.3"."""
    if (spelled := _SPELLED.get(digits.lower())) is not None:
        return spelled
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", digits):
        digits = digits.replace(",", "")
    try:
        return float(digits.replace(",", "."))
    except ValueError:
        return None
