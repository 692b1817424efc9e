"""Dates and times of day as a sentence means them: "3 May 2024" is "2024-05-03", and does not contradict "May 2024"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rayflow.policies.merging.quantities import Quantity

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG = ("uary", "ruary", "ch", "il", "", "e", "y", "ust", "(?:t(?:ember)?)?", "ober", "ember", "ember")
_MONTH = rf"(?P<month>{'|'.join(f'{short}(?:{rest})?' for short, rest in zip(_MONTHS, _LONG, strict=True))})\b\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?\b"
_YEAR = r"(?P<year>\d{4})\b"
_DATES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})\b",
        rf"\b{_MONTH}\s+{_DAY}(?:,?\s+{_YEAR})?",
        rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+{_YEAR})?",
        rf"\b{_MONTH}\s+{_YEAR}",
    )
]
_TIME = re.compile(
    r"\b(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?\s?(?P<half>[ap])\.?m\b\.?|\b(?P<h>\d{1,2}):(?P<m>\d{2})\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Date:
    """0 where it does not say."""

    year: int
    month: int
    day: int

    def agrees(self, other: Date) -> bool:
        """Whether both may be the same day."""
        mine, theirs = (self.year, self.month, self.day), (other.year, other.month, other.day)
        return all(a == b or not (a and b) for a, b in zip(mine, theirs, strict=True))


def take_dates(text: str) -> tuple[list[Date], str]:
    """The dates in a text, and the text without them."""
    found: list[Date] = []
    for pattern in _DATES:
        for match in pattern.finditer(text):
            given = match.groupdict()
            month = given["month"].lower()
            number = int(month) if month.isdigit() else _MONTHS.index(month[:3]) + 1
            found.append(Date(int(given.get("year") or 0), number, int(given.get("day") or 0)))
        text = pattern.sub(" ", text)
    return found, text


def take_times(text: str) -> tuple[list[Quantity], str]:
    """The times of day in a text, as minutes, and the text without them."""
    return [_time(match) for match in _TIME.finditer(text)], _TIME.sub(" ", text)


def _time(match: re.Match[str]) -> Quantity:
    if match["h"]:
        minutes = int(match["h"]) * 60 + int(match["m"])
    else:
        hour = int(match["hour"]) % 12 + (12 if match["half"].lower() == "p" else 0)
        minutes = hour * 60 + int(match["minute"] or 0)
    return Quantity("time", minutes, minutes)
