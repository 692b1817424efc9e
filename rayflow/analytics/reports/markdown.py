"""A report as Markdown with tables (GitHub's dialect)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rayflow.analytics.reports.report import Report
from rayflow.analytics.reports.wording import HEADINGS, cell, change, headline, is_number, quantity, warning

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")


def to_markdown(report: Report) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield "# Report"
    yield from ("", _escaped(headline(report)) + ".")
    if missing := warning(report):
        yield from ("", f"> **Warning:** {_escaped(missing)}")
    for name, measures in report.categories.items():
        yield from ("", f"## {HEADINGS[name]}", "")
        yield from _table(
            ["figure", "value", "before", "change", "meaning"],
            [False, True, True, True, False],
            (
                [
                    each.name,
                    quantity(each.value, each.unit),
                    quantity(each.before, each.unit),
                    change(each),
                    each.meaning,
                ]
                for each in measures
            ),
        )
    for table in report.tables:
        if table.rows:
            yield from ("", f"## {HEADINGS[table.name]}", "", _escaped(table.description), "")
            yield from _table(
                table.columns,
                [is_number(name, [row[name] for row in table.rows]) for name in table.columns],
                ([cell(name, row[name]) for name in table.columns] for row in table.rows),
            )
    yield from ("", "## Recommendations", "")
    for number, said in enumerate(report.recommendations, 1):
        settings = ", ".join(f"`{key}`" for key in said.settings)
        yield f"{number}. **{_escaped(said.title)}**: {_escaped(said.evidence)}. Setting: {settings}."
        yield from ("", "   ```sql", f"   {said.sql}", "   ```", "")
    if not report.recommendations:
        yield "None: nothing in these figures asks for a change."


def _table(columns: Sequence[str], right: Sequence[bool], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(map(_escaped, columns)) + " |"
    yield "|" + "|".join("---:" if to_right else "---" for to_right in right) + "|"
    for row in rows:
        yield "| " + " | ".join(map(_escaped, row)) + " |"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
