"""Results as one HTML page that needs nothing else: no network, no library, light or dark as the reader has it.

Curves are inline SVG in a fixed coordinate system that the page scales. Colours are the browser's own variables, set
once for each scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from rayflow.simulation.comparison import number, rows
from rayflow.simulation.measures import Result, Sample

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 220, 56, 28, 10, 12
STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #6b7685; --line: #d8dde4; --page: #ffffff;
  --c0: #2563c4; --c1: #c2500f; --c2: #26803c; --c3: #8a3fb0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b4; --line: #38414e; --page: #14181e;
  --c0: #74a9ff; --c1: #ff9d5c; --c2: #6fce86; --c3: #cf97ee; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 1360px;
  margin: 2rem auto; padding: 0 1rem; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 12px; }
.grid { stroke: var(--line); } .curve { fill: none; stroke-width: 1.8; }
.legend span { margin-right: 1.2em; white-space: nowrap; } .legend b { display: inline-block; width: 1.4em;
  height: 3px; vertical-align: middle; margin-right: .4em; }
table { border-collapse: collapse; margin-top: 1.5rem; font-variant-numeric: tabular-nums; }
td, th { padding: .2em .9em; border-bottom: 1px solid var(--line); text-align: right; }
td:first-child, th:first-child { text-align: left; }
"""

Points = list[tuple[float, float | None]]
Curve = tuple[str, str, Points]
"""Name, style and points; where a point has no value, the curve has a gap."""


def page(title: str, runs: Sequence[Sequence[Result]]) -> str:
    """The page of one or two scenarios, each with its runs; curves are those of the first seed."""
    firsts = [results[0] for results in runs]
    names = [result.scenario for result in firsts]
    figures = [
        _over_time("Replicas", firsts, {"in rotation": lambda s: s.replicas, "all processes": lambda s: s.processes}),
        _over_time("Calls", firsts, {"worked on": lambda s: s.in_flight, "waiting": lambda s: s.waiting}),
        _over_time("Requests per sample", firsts, {"arrived": lambda s: s.arrived}),
        _over_time("Response time, s", firsts, {"p99": lambda s: s.p99_s, "median": lambda s: s.p50_s}),
        _distribution(firsts),
    ]
    legend = "".join(
        f'<span><b style="background:var(--c{n})"></b>{escape(name)}</span>' for n, name in enumerate(names)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f'<h1>{escape(title)}</h1><p class="legend">{legend}</p><main>{"".join(figures)}</main>'
        f"{_table(runs)}</body></html>\n"
    )


def _over_time(title: str, results: Sequence[Result], values: dict[str, Callable[[Sample], float | None]]) -> str:
    """Of several values of one run, the first is drawn solid, the others dashed."""
    curves: list[Curve] = []
    for n, result in enumerate(results):
        for k, (name, value) in enumerate(values.items()):
            style = f"stroke:var(--c{n})" + (";stroke-dasharray:4 4" if k else "")
            curves.append((name, style, [(sample.at_s, value(sample)) for sample in result.samples]))
    labels = " (solid), ".join(values) + (" (dashed)" if len(values) > 1 else "")
    return _figure(title, f"{labels}; time in s", curves)


def _distribution(results: Sequence[Result]) -> str:
    curves: list[Curve] = []
    for n, result in enumerate(results):
        last = max(len(result.curve) - 1, 1)
        points: Points = [(seconds, k / last) for k, seconds in enumerate(result.curve)]
        curves.append((result.scenario, f"stroke:var(--c{n})", points))
    return _figure("Distribution of the response time", "share of requests that took at most so many s", curves)


def _figure(title: str, note: str, curves: Sequence[Curve]) -> str:
    xs = [x for _, _, points in curves for x, y in points if y is not None]
    ys = [y for _, _, points in curves for _, y in points if y is not None]
    right, top = max(xs, default=1.0) or 1.0, max(ys, default=1.0) or 1.0
    plot_w, plot_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> str:
        return f"{LEFT + x / right * plot_w:.1f},{TOP + plot_h - y / top * plot_h:.1f}"

    parts = []
    for tick in ticks(top):
        y = TOP + plot_h - tick / top * plot_h
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in ticks(right):
        x = LEFT + tick / right * plot_w
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{number(tick)}</text>')
    for name, style, points in curves:
        for stretch in _stretches(points):
            path = " ".join(place(x, y) for x, y in stretch)
            hover = f"<title>{escape(name)}</title>"
            parts.append(f'<polyline class="curve" style="{style}" points="{path}">{hover}</polyline>')
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f"<small>{escape(note)}</small></figure>"
    )


def ticks(top: float) -> list[float]:
    """Four to eight round numbers from 0 to the top."""
    step = 10.0 ** math.floor(math.log10(top / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if top / (step * factor) <= 8)
    return [n * step for n in range(int(top / step + 1e-9) + 1)]


def _stretches(points: Points) -> list[list[tuple[float, float]]]:
    stretches: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            stretches.append([])
        else:
            stretches[-1].append((x, y))
    return [stretch for stretch in stretches if stretch]


def _table(runs: Sequence[Sequence[Result]]) -> str:
    head, *figures = rows(runs)
    cells = [f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>"]
    cells += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in figures]
    return f"<table>{''.join(cells)}</table>"
