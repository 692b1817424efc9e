"""Phrases that are looked for in messages, and how sure it makes that some were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayflow.policies.text import padded

MISS = 0.2
"""Chance that one found phrase misleads."""


def confidence(hits: int) -> float:
    """1 - 0.2^h for h distinct phrases found: 0.8 for one, 0.96 for two."""
    return 1.0 - MISS**hits


@dataclass(frozen=True, slots=True)
class Phrases:
    """Phrases in padded form, ready to be looked up in a padded message."""

    forms: tuple[str, ...]

    @classmethod
    def of(cls, phrases: Sequence[str]) -> Phrases:
        return cls(tuple(dict.fromkeys(form for phrase in phrases if (form := padded(phrase)).strip())))

    def found(self, message: str) -> list[str]:
        return [form.strip() for form in self.forms if form in message]
