"""A report for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rayflow.analytics.reports.report import Measure, Report, Table
from rayflow.analytics.reports.wording import HEADINGS, cell, change, headline, is_number, quantity, warning

WIDTH = 80
GAP = "  "
NARROWEST = 8
"""A column of text is not cut to less than this."""


def to_text(report: Report, width: int = WIDTH) -> str:
    """All of it, in lines of at most `width` characters where a table has not too many columns for that."""
    return "\n".join(_lines(report, width)) + "\n"


def _lines(report: Report, width: int) -> Iterator[str]:
    yield from textwrap.wrap(f"Report on {headline(report)}", width)
    if missing := warning(report):
        yield from textwrap.wrap(f"WARNING: {missing}", width)
    for name, measures in report.categories.items():
        yield from ("", HEADINGS[name], "-" * width)
        yield from _measures(measures, report.compared is not None)
    for table in report.tables:
        if table.rows:
            yield from ("", HEADINGS[table.name], "-" * width)
            yield from _table(table, width)
    yield from ("", "Recommendations", "-" * width)
    for number, said in enumerate(report.recommendations, 1):
        yield from textwrap.wrap(f"{number}. {said.title}", width, subsequent_indent="   ")
        yield from _hanging("why", said.evidence, width)
        yield from _hanging("set", ", ".join(said.settings), width)
        yield from _hanging("see", f'rayflow query "{said.sql}"', width)
    if not report.recommendations:
        yield "None: nothing in these figures asks for a change."


def _measures(measures: Sequence[Measure], compared: bool) -> Iterator[str]:
    rows = [[each.name, quantity(each.value, each.unit)] for each in measures]
    if compared:
        for row, each in zip(rows, measures, strict=True):
            row += [f"before {quantity(each.before, each.unit)}", change(each)]
    return _aligned(rows, [False, *(True for _ in rows[0][1:])])


def _table(table: Table, width: int) -> Iterator[str]:
    numbers = [is_number(name, [row[name] for row in table.rows]) for name in table.columns]
    rows = [[cell(name, row[name]) for name in table.columns] for row in table.rows]
    # A long name of a narrow column stands on several lines, a word on each.
    heads = [_stacked(name, max(len(row[n]) for row in rows)) for n, name in enumerate(table.columns)]
    height = max(map(len, heads))
    titles = [["" for _ in range(height - len(head))] + head for head in heads]
    lines = [list(line) for line in zip(*titles, strict=True)] + rows
    return _aligned(_fitted(lines, numbers, width), numbers)


def _stacked(name: str, room: int) -> list[str]:
    lines: list[str] = []
    for word in name.split("_"):
        if lines and len(lines[-1]) + 1 + len(word) <= max(room, NARROWEST):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _fitted(rows: list[list[str]], numbers: Sequence[bool], width: int) -> list[list[str]]:
    """The widest columns of text give way until the table fits; numbers are never cut."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + len(GAP) * (len(widths) - 1) > width:
        room, widest = max(
            (0 if number else size, n) for n, (number, size) in enumerate(zip(numbers, widths, strict=True))
        )
        if room <= NARROWEST:
            break
        widths[widest] -= 1
    return [[_cut(text, size) for text, size in zip(row, widths, strict=True)] for row in rows]


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            text.rjust(size) if to_right else text.ljust(size)
            for text, size, to_right in zip(row, widths, right, strict=True)
        )
        yield GAP.join(cells).rstrip()


def _hanging(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=f"   {label}  ", subsequent_indent=" " * 8, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
