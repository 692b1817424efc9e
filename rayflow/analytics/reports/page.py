"""A report as one HTML page that needs nothing else: no network, no script, light or dark as the reader has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from rayflow.analytics.kpis import STEPS
from rayflow.analytics.reports.plot import Series, bars, lines
from rayflow.analytics.reports.report import Measure, Report
from rayflow.analytics.reports.wording import HEADINGS, cell, change, headline, is_number, quantity, warning

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --line: #d8dde4; --page: #ffffff; --card: #f6f8fa;
  --good: #1a6b32; --bad: #b3261e; --c0: #2563c4; --c1: #c2500f; --c2: #26803c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #a3adbb; --line: #38414e; --page: #14181e;
  --card: #1c222a; --good: #6fce86; --bad: #ff8a80; --c0: #74a9ff; --c1: #ff9d5c; --c2: #6fce86; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 1100px;
  margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2.2rem 0 .4rem; font-size: 1.15rem; }
p, small { color: var(--soft); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 1.2rem; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; } .grid { stroke: var(--line); }
.c0 { fill: var(--c0); } .c1 { fill: var(--c1); } .c2 { fill: var(--c2); }
.l0, .l1, .l2 { fill: none; stroke-width: 1.8; } .l0 { stroke: var(--c0); } .l1 { stroke: var(--c1); }
.l2 { stroke: var(--c2); }
.legend { margin: 0; } .legend span { margin-right: 1.2em; }
.legend b { display: inline-block; width: 1em; height: .6em; margin-right: .4em; }
 .k0 { background: var(--c0); } .k1 { background: var(--c1); } .k2 { background: var(--c2); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .7em; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; } .n { text-align: right; white-space: nowrap; }
.better { color: var(--good); } .worse { color: var(--bad); }
.advice li { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .6em 1em;
  margin: .6em 0; }
code, pre { font: 13px/1.45 ui-monospace, monospace; } pre { white-space: pre-wrap; margin: .4em 0 0; }
[role=alert] { border-left: 4px solid var(--bad); padding-left: .8em; }
"""


def to_html(report: Report) -> str:
    missing = warning(report)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>rayflow report</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<main><h1>Report</h1><p>{escape(headline(report))}</p>"
        + (f'<p role="alert">{escape(missing)}</p>' if missing else "")
        + _advice(report)
        + _plots(report)
        + "".join(_measures(name, measures) for name, measures in report.categories.items())
        + "".join(_tables(report))
        + "</main></body></html>\n"
    )


def _advice(report: Report) -> str:
    if not report.recommendations:
        return "<h2>Recommendations</h2><p>None: nothing in these figures asks for a change.</p>"
    items = "".join(
        f"<li><strong>{escape(said.title)}</strong><br>{escape(said.evidence)}<br>Setting: "
        + ", ".join(f"<code>{escape(key)}</code>" for key in said.settings)
        + f"<details><summary>The query that shows it</summary><pre>{escape(said.sql)}</pre></details></li>"
        for said in report.recommendations
    )
    return f'<h2>Recommendations</h2><ol class="advice">{items}</ol>'


def _plots(report: Report) -> str:
    if not report.trend:
        return ""
    by_step = {row["step"]: row for row in report.trend}
    length = (report.until - report.since) / STEPS
    labels = [f"{report.since + length * n:%m-%d %H:%M}" for n in range(STEPS)]

    def values(column: str) -> list[float | None]:
        return [by_step[n][column] if n in by_step else None for n in range(STEPS)]

    minutes = length.total_seconds() / 60
    step = f"in {minutes:.3g} minutes" if minutes >= 1 else f"in {minutes * 60:.3g} s"
    plots = [
        bars("Runs", step, [Series("ended", values("runs"), 0), Series("with an error", values("errors"), 1)], labels),
        lines(
            "Response time",
            "ms",
            [Series("mean", values("response_time"), 0), Series("95 of 100", values("response_time_p95"), 1)],
            labels,
        ),
    ]
    if any(values("cost")):
        plots.append(bars("Cost", f"USD {step}", [Series("of all models", values("cost"), 2)], labels))
    return f'<h2>Trend</h2><div class="plots">{"".join(plots)}</div>'


def _measures(name: str, measures: Sequence[Measure]) -> str:
    rows = (
        f'<tr><th scope="row">{escape(each.name)}</th><td class="n">{escape(quantity(each.value, each.unit))}</td>'
        f'<td class="n">{escape(quantity(each.before, each.unit))}</td>'
        f'<td class="n {_verdict(each)}">{escape(change(each))}</td><td><small>{escape(each.meaning)}</small></td></tr>'
        for each in measures
    )
    heads = [("figure", False), ("value", True), ("before", True), ("change", True), ("meaning", False)]
    return f"<h2>{escape(HEADINGS[name])}</h2>{_framed(heads, rows)}"


def _verdict(measure: Measure) -> str:
    return "" if measure.good is None else "better" if measure.good else "worse"


def _tables(report: Report) -> Iterator[str]:
    for table in report.tables:
        if not table.rows:
            continue
        numbers = {name: is_number(name, [row[name] for row in table.rows]) for name in table.columns}
        rows = (
            "<tr>"
            + "".join(
                f"<td{' class=n' if numbers[name] else ''}>{escape(cell(name, row[name]))}</td>"
                for name in table.columns
            )
            + "</tr>"
            for row in table.rows
        )
        heads = [(name.replace("_", " "), number) for name, number in numbers.items()]
        about = f"<p>{escape(table.description)}</p>"
        yield f"<h2>{escape(HEADINGS[table.name])}</h2>{about}{_framed(heads, rows)}"


def _framed(heads: Iterable[tuple[str, bool]], rows: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col"{" class=n" if number else ""}>{escape(name)}</th>' for name, number in heads)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
