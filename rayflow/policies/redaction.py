"""What must not stand in a log, found and replaced before anything is written: addresses, passwords, keys, tokens.

Patterns cannot find all that is sensitive: this is best effort, and no replacement for recording less. They are made
when the first text comes, for most processes never have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rayflow.config.patterns import compiled
from rayflow.config.schema import MonitoringConfig
from rayflow.events import Event

if TYPE_CHECKING:
    import re2

OWN = "own"
"""The kind of what a user's own pattern finds."""

KINDS: tuple[tuple[str, str, str], ...] = (
    ("password", r"(://[^\s/:@]*:)[^\s/@]+@", r"\1[password]@"),
    (
        "password",
        r"(?i)(\b(?:password|passwort|passwd|passphrase|pwd)[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&\[]+",
        r"\1[password]",
    ),
    (
        "password",
        r"(?i)(\b(?:password|passwort|passphrase)\s+(?:is|ist|was|war)\s+)[^\s\"',;]*[0-9!#$%^&*][^\s\"',;]*",
        r"\1[password]",
    ),
    (
        "bearer_token",
        r"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:bearer|basic)\s+)[A-Za-z0-9._~+/-]+=*",
        r"\1[bearer_token]",
    ),
    (
        "bearer_token",
        r"(?i)(\bbearer\s+)(?:[A-Za-z0-9._~+/-]{20,}|[A-Za-z._~+/-]*[0-9][A-Za-z0-9._~+/-]{3,})=*",
        r"\1[bearer_token]",
    ),
    ("bearer_token", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?", "[bearer_token]"),
    (
        "api_key",
        r"\b(?:(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|hf_[A-Za-z0-9]{20,}"
        r"|xox[abeprs]-[A-Za-z0-9-]{10,}|AKIA[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{30,}|glpat-[A-Za-z0-9_-]{16,})",
        "[api_key]",
    ),
    (
        "api_key",
        r"(?i)(\b(?:api[-_ ]?key|access[-_ ]?key|secret[-_ ]?key|client[-_ ]?secret|(?:access|auth|refresh)[-_ ]token)"
        r"[\"']?\s*(?:[:=]|is)\s*[\"']?)[A-Za-z0-9._~+/-]{6,}=*",
        r"\1[api_key]",
    ),
    ("email", r"[\pL\pN._%+-]+@[\pL\pN-]+(?:\.[\pL\pN-]+)+", "[email]"),
)
"""Kind, pattern and what stands in its place; the first that match win."""


class Redacted(NamedTuple):
    """`counts`: how many of each kind were replaced."""

    text: str
    counts: dict[str, int]


class Redactor:
    """`patterns`: a user's own, after the built-in ones."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._patterns = patterns
        self._finders: list[_Finder] = []

    def redact(self, text: str) -> Redacted:
        finders = self._finders or self._compile()
        raw = text.encode(errors="replace")
        counts: dict[str, int] = {}
        for finder in finders:
            if finder.sign.search(raw) is None:
                continue
            for kind, pattern, instead in finder.replacements:
                raw, count = pattern.subn(instead, raw)
                if count:
                    counts[kind] = counts.get(kind, 0) + count
        return Redacted(raw.decode(), counts)

    def event(self, event: Event) -> Event:
        """The event with a clean `error_message`."""
        message, counts = self.redact(event.error_message)
        if not counts:
            return event
        known = event.data.get("redactions", {})
        counts = {kind: known.get(kind, 0) + counts.get(kind, 0) for kind in known | counts}
        return msgspec.structs.replace(event, error_message=message, data={**event.data, "redactions": counts})

    def _compile(self) -> list[_Finder]:
        """The built-in ones are looked for all at once."""
        known = [(kind, compiled(pattern), instead.encode()) for kind, pattern, instead in KINDS]
        anything = compiled("|".join(f"(?:{pattern})" for _, pattern, _ in KINDS))
        own = [compiled(pattern) for pattern in self._patterns]
        self._finders = [_Finder(anything, known), *(_Finder(one, [(OWN, one, b"[redacted]")]) for one in own)]
        return self._finders


class _Finder(NamedTuple):
    """What to do about a text in which `sign` is found."""

    sign: re2._Regexp
    replacements: list[tuple[str, re2._Regexp, bytes]]


BUILT_IN = Redactor()
"""With nobody's own patterns."""


def redactor(config: MonitoringConfig) -> Redactor:
    return Redactor(config.redact_patterns) if config.redact_patterns else BUILT_IN
