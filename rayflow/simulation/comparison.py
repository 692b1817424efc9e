"""Several runs side by side: what differs, by how much, and whether it does so in every one of them.

Two scenarios are compared seed by seed. With the same arrivals, and requests that are alike down to the last token,
most of what chance does is in both, and a small difference shows with a few seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rayflow.simulation.measures import Result

HIGHER_IS_BETTER = ("answered", "answered_share", "fairness")
NEITHER = ("requests", ".share")


def flat(result: Result) -> dict[str, float]:
    """All that was measured in a run, by name: of the whole, and of classes, tenants and faults where there are any."""
    figures: dict[str, float | None] = dict(result.figures)
    if len(result.classes) > 1:
        figures |= {f"{kind}.{name}": value for kind, each in result.classes.items() for name, value in each.items()}
    figures |= {f"{tenant}.share": share for tenant, share in result.tenants.items()}
    for number, diversion in enumerate(result.diversions):
        figures[f"fault_{number}.share"] = diversion.share
        figures[f"fault_{number}.divert_s"] = diversion.divert_s
        figures[f"fault_{number}.return_s"] = diversion.return_s
    return {name: value for name, value in figures.items() if value is not None}


def summary(results: Sequence[Result]) -> list[list[str]]:
    """A row for each figure: its median, and with several seeds the least and the most."""
    shown = []
    for name, values in _by_name(results).items():
        found = [value for value in values if value is not None]
        row = [name, number(statistics.median(found))]
        shown.append(row + ([number(min(found)), number(max(found))] if len(results) > 1 else []))
    return shown


def differences(one: Sequence[Result], other: Sequence[Result]) -> list[list[str]]:
    """A row for each figure: the median of both, the difference, and in how many seeds the other one is better."""
    shown = []
    sides = _by_name(one), _by_name(other)
    for name in sides[0]:
        both = zip(sides[0][name], sides[1].get(name, [None] * len(other)), strict=True)
        pairs = [(a, b) for a, b in both if a is not None and b is not None]
        if not pairs:
            continue
        before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
        change = f"{(after / before - 1) * 100:+.1f} %" if before else ("" if after == before else "new")
        sign = 1 if name.endswith(HIGHER_IS_BETTER) else -1
        wins = sum((b - a) * sign > 0 for a, b in pairs)
        judged = not name.endswith(NEITHER)
        shown.append([name, number(before), number(after), change, f"{wins} of {len(pairs)}" if judged else ""])
    return shown


def _by_name(results: Sequence[Result]) -> dict[str, list[float | None]]:
    """Each figure that at least one run has, seed by seed."""
    runs = [flat(result) for result in results]
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: [run.get(name) for run in runs] for name in names}


def rows(runs: Sequence[Sequence[Result]]) -> list[list[str]]:
    """What is shown of the runs of one scenario, or of two: a head, and a row for each figure."""
    if len(runs) == 2:
        head = ["figure", *(results[0].scenario for results in runs), "difference", "better in"]
        return [head, *differences(runs[0], runs[1])]
    head = ["figure", "median", "least", "most"] if len(runs[0]) > 1 else ["figure", "value"]
    return [head, *summary(runs[0])]


def table(runs: Sequence[Sequence[Result]]) -> str:
    """The same as aligned columns of text."""
    shown = rows(runs)
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = (
        "  ".join(cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in shown)
    )
    return "\n".join(line.rstrip() for line in lines) + "\n"


def number(value: float) -> str:
    """For the eye: whole numbers whole, others with four digits that count."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value)}"
    return f"{value:.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def plain(result: Result) -> Mapping[str, Any]:
    """A result as plain data, for JSON."""
    return asdict(result)
