"""What of a replay shall fail a build: `answers,routing,errors,latency>1.2x,cost>1.1x`."""

from __future__ import annotations

import re
from typing import NamedTuple

from rayflow.errors import ValidationError
from rayflow.replay.report import Figures

COUNTS = {"answers": "answers", "routing": "routing", "errors": "new_errors", "unrecorded": "unrecorded"}
"""Any of it fails: what is written, and the figure that it is about."""
RATIOS = ("latency", "tokens", "cost")

_RATIO = re.compile(rf"({'|'.join(RATIOS)})>(\d+(?:\.\d+)?)x")


class Condition(NamedTuple):
    """`limit`: of a ratio of after to before; None: nothing of it may change."""

    name: str
    limit: float | None = None


def conditions(text: str) -> list[Condition]:
    """Raises `ValidationError` for what is none. An empty text is no condition."""
    return [_condition(part.strip()) for part in text.split(",") if part.strip()]


def broken(figures: Figures, conditions: list[Condition]) -> list[str]:
    """In words, each condition that a replay does not meet. A ratio that is not known breaks nothing."""
    return [said for condition in conditions if (said := _broken(figures, condition))]


def _condition(text: str) -> Condition:
    if text in COUNTS:
        return Condition(text)
    if found := _RATIO.fullmatch(text.replace(" ", "")):
        return Condition(found[1], float(found[2]))
    raise ValidationError(
        f"fail-on: expected {', '.join(COUNTS)}, or a limit such as {' or '.join(f'{name}>1.2x' for name in RATIOS)},"
        f" got {text[:60]!r}",
        param="fail_on",
    )


def _broken(figures: Figures, condition: Condition) -> str:
    name, limit = condition
    if limit is None:
        count = getattr(figures, COUNTS[name])
        return f"{name}: {count} of {figures.replayed} runs" if count else ""
    ratio = figures.ratio(name)
    return f"{name}: {ratio:.3g}x, more than {limit:g}x" if ratio is not None and ratio > limit else ""
