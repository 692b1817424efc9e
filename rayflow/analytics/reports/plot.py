"""Plots of a trend as inline SVG, in a fixed coordinate system that the page scales; colours are the page's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 200, 60, 26, 12, 14


class Series(NamedTuple):
    """One value for each step; None where there is none. `colour`: number of the page's colour."""

    name: str
    values: Sequence[float | None]
    colour: int


def bars(title: str, unit: str, series: Sequence[Series], labels: Sequence[str]) -> str:
    """One bar for each step. Later series are drawn over the first: they are parts of it."""
    top = _top(series)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(labels))
    marks = [
        f'<rect class="c{each.colour}" x="{LEFT + n * step + 1:.1f}" y="{_y(value, top):.1f}" width="{step - 2:.1f}"'
        f' height="{HEIGHT - BOTTOM - _y(value, top):.1f}">'
        f"<title>{escape(f'{labels[n]}: {value:,.6g} {each.name}')}</title></rect>"
        for each in series
        for n, value in enumerate(each.values)
        if value
    ]
    return _figure(title, unit, series, labels, top, "".join(marks))


def lines(title: str, unit: str, series: Sequence[Series], labels: Sequence[str]) -> str:
    """One line for each series, with a gap where a step has no value and a dot where it stands alone."""
    top = _top(series)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(labels))
    marks = []
    for each in series:
        for stretch in _stretches(each.values):
            points = [(LEFT + (n + 0.5) * step, _y(value, top)) for n, value in stretch]
            if len(points) == 1:
                marks.append(
                    f'<circle class="c{each.colour}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2.5"/>'
                )
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            marks.append(
                f'<polyline class="l{each.colour}" points="{path}"><title>{escape(each.name)}</title></polyline>'
            )
    return _figure(title, unit, series, labels, top, "".join(marks))


def _figure(title: str, unit: str, series: Sequence[Series], labels: Sequence[str], top: float, marks: str) -> str:
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(tick, top):.1f}" y2="{_y(tick, top):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{_y(tick, top) + 4:.1f}" text-anchor="end">{tick:,.6g}</text>'
        for tick in _ticks(top)
    )
    times = "".join(
        f'<text x="{x}" y="{HEIGHT - 8}" text-anchor="{anchor}">{escape(label)}</text>'
        for x, anchor, label in (
            (LEFT, "start", labels[0]),
            ((LEFT + WIDTH - RIGHT) / 2, "middle", labels[len(labels) // 2]),
            (WIDTH - RIGHT, "end", labels[-1]),
        )
    )
    legend = "".join(f'<span><b class="k{each.colour}"></b>{escape(each.name)}</span>' for each in series)
    return (
        f"<figure><figcaption>{escape(title)} <small>{escape(unit)}</small></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_spoken(title, unit, series))}">'
        f'{grid}{marks}{times}</svg><p class="legend">{legend}</p></figure>'
    )


def _spoken(title: str, unit: str, series: Sequence[Series]) -> str:
    """What there is to see, for those who do not see it."""
    ranges = (
        f"{each.name} from {min(known):,.6g} to {max(known):,.6g} {unit}"
        for each in series
        if (known := [value for value in each.values if value is not None])
    )
    return f"{title}: {'; '.join(ranges) or 'nothing'}"


def _top(series: Sequence[Series]) -> float:
    return max((value for each in series for value in each.values if value), default=1.0)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _ticks(top: float) -> list[float]:
    """Three to six round numbers from 0 to the top."""
    step = 10.0 ** math.floor(math.log10(top / 3))
    step *= next(factor for factor in (1, 2, 5, 10) if top / (step * factor) <= 5)
    return [n * step for n in range(int(top / step + 1e-9) + 1)]


def _stretches(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    stretches: list[list[tuple[int, float]]] = [[]]
    for n, value in enumerate(values):
        if value is None:
            stretches.append([])
        else:
            stretches[-1].append((n, value))
    return [stretch for stretch in stretches if stretch]
