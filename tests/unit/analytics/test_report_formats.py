"""A report for the terminal, as Markdown and as a page, and the periods that people ask for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support import synthetic_log
from support.sql import asking
from support.synthetic_log import NOON

from rayflow.analytics.kpis import CATEGORIES, TABLES, Period, kpi, period
from rayflow.analytics.reports import Report, build, markdown, page, text
from rayflow.analytics.reports.recommendations import RULES
from rayflow.analytics.reports.wording import HEADINGS, cell, quantity
from rayflow.errors import ValidationError
from rayflow.events import Event

DOC = (Path(__file__).parents[3] / "docs" / "reports.md").read_text()
NASTY = "<script>alert(1)</script> | `x` \x1b[31m"
VOID = {"meta", "br", "line", "rect", "circle"}


@pytest.fixture(scope="module")
def events() -> list[Event]:
    at = int(NOON.timestamp() * 1e6) + 60_000_000
    failed = Event("run.finished", at, run_id="run_x", status="error", error="odd", error_message=NASTY, workflow=NASTY)
    return [*synthetic_log.events(), failed]


@pytest.fixture
async def report(tmp_path: Path, events: list[Event]) -> Report:
    return await build(asking(synthetic_log.write(tmp_path, events)), Period(NOON, NOON + timedelta(days=1)))


@pytest.fixture
async def empty(tmp_path: Path, events: list[Event]) -> Report:
    day = timedelta(days=1)
    return await build(asking(synthetic_log.write(tmp_path, events)), Period(NOON + 5 * day, NOON + 6 * day))


async def test_text_fits_a_terminal_and_steers_none(report: Report) -> None:
    written = text.to_text(report)
    assert max(map(len, written.splitlines())) <= 80
    assert all(line.isprintable() for line in written.splitlines())
    assert all(heading in written for heading in HEADINGS.values())


async def test_a_long_message_gives_way_and_numbers_do_not(report: Report) -> None:
    rows = report.table("errors").rows
    rows[0]["message"] = "x" * 300
    written = text.to_text(report)
    assert max(map(len, written.splitlines())) <= 80 and "…" in written
    assert f" {rows[0]['runs']}  " in written


async def test_all_formats_say_the_same_numbers(report: Report) -> None:
    written = (text.to_text(report), markdown.to_markdown(report).replace("\\", ""), page.to_html(report))
    for measures in report.categories.values():
        for each in measures:
            for form in written:
                assert each.name in form and quantity(each.value, each.unit) in form
    for said in report.recommendations:
        assert all(key in form for key in said.settings for form in written)


async def test_an_empty_period_has_a_report_in_all_formats(empty: Report) -> None:
    for written in (text.to_text(empty), markdown.to_markdown(empty), page.to_html(empty)):
        assert "nothing in these figures asks for a change" in written


async def test_missing_files_are_the_first_thing_that_is_said(tmp_path: Path, events: list[Event]) -> None:
    ask = asking(synthetic_log.write(tmp_path, events))
    report = await build(ask, Period(NOON, NOON + timedelta(days=1)), unreadable=lambda: {"a.parquet": "torn"})
    for written in (text.to_text(report), markdown.to_markdown(report), page.to_html(report)):
        assert written.index("a.parquet") < written.index("response")


async def test_markdown_tables_have_as_many_cells_in_every_row(report: Report) -> None:
    width = 0
    for line in markdown.to_markdown(report).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert cells == width or width == 0 or cells == 0, line
        width = cells
    assert "<script>" not in markdown.to_markdown(report)


class Tags(HTMLParser):
    """Whether the page is one well-formed whole, and what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        given = dict(attrs)
        self.loads += [f"{tag} {name}" for name in given if name in ("src", "href", "xlink:href", "data", "action")]
        if tag == "svg":
            self.images.append(given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


async def test_the_page_is_whole_and_loads_nothing(report: Report) -> None:
    written = page.to_html(report)
    tags = Tags()
    tags.feed(written)
    assert tags.open == [] and tags.loads == []
    assert not tags.seen & {"script", "link", "iframe", "img", "object"}
    assert "url(" not in written and "@import" not in written and "http" not in written.replace("http-equiv", "")
    assert "&lt;script&gt;" in written
    assert "prefers-color-scheme: dark" in written and '<html lang="en">' in written


async def test_plots_are_told_in_words_too(report: Report) -> None:
    tags = Tags()
    tags.feed(page.to_html(report))
    assert len(tags.images) == 3
    assert all(image["role"] == "img" and re.search(r"from .* to ", image["aria-label"] or "") for image in tags.images)


def test_the_documentation_lists_every_figure_as_the_code_defines_it() -> None:
    about = DOC.partition("## Figures")[2].partition("## Tables")[0]
    written = re.findall(r"^\| `(\w+)` \| (\S+) \| (.+?) \|$", about, re.MULTILINE)
    defined = [(each.name, each.unit, each.meaning) for name in CATEGORIES for each in kpi(name).figures]
    assert written == defined


def test_the_documentation_lists_every_table() -> None:
    about = DOC.partition("## Tables")[2].partition("## Recommendations")[0]
    written = re.findall(r"^\| `(\w+)` \| (.+) \|$", about, re.MULTILINE)
    assert written == [(name, kpi(name).description) for name in TABLES]


def test_the_documentation_lists_every_rule() -> None:
    about = DOC.partition("## Recommendations")[2].partition("## Alerts")[0]
    assert re.findall(r"^\| `(\w+)` \|", about, re.MULTILINE) == [rule.__name__ for rule in RULES]


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("1d", None, (NOON - timedelta(days=1), NOON)),
        ("90m", "30m", (NOON - timedelta(minutes=90), NOON - timedelta(minutes=30))),
        ("1.5h", None, (NOON - timedelta(minutes=90), NOON)),
        ("2w", "2026-11-20T08:00", (NOON - timedelta(weeks=2), datetime(2026, 11, 20, 8, tzinfo=UTC))),
        (
            "2026-11-19",
            "2026-11-20T00:00+02:00",
            (datetime(2026, 11, 19, tzinfo=UTC), datetime(2026, 11, 19, 22, tzinfo=UTC)),
        ),
    ],
)
def test_periods_are_spans_or_times(since: str, until: str | None, expected: tuple[datetime, datetime]) -> None:
    assert period(since, until, NOON) == expected


@pytest.mark.parametrize(
    ("since", "until", "param"),
    [
        ("yesterday", None, "since"),
        ("1d", "soon", "until"),
        ("1h", "2h", "since"),
        ("9999999w", None, "since"),
        ("", None, "since"),
        ("0001-01-02", None, "since"),
    ],
)
def test_what_is_no_period_is_refused_by_name(since: str, until: str | None, param: str) -> None:
    with pytest.raises(ValidationError) as refused:
        period(since, until, NOON)
    assert refused.value.details["param"] == param


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (None, "ms", "-"), (1234.5, "ms", "1,234 ms"), (3.25, "ms", "3.2 ms"), (0.051, "share", "5.1 %"),
        (0.00123, "USD", "0.0012 USD"), (1234.567, "USD", "1,234.57 USD"), (0.01234, "runs/s", "0.0123 /s"),
        (12345.0, "runs", "12,345"), (2.25, "turns", "2.2"),
    ],
)  # fmt: skip
def test_quantities_have_their_units(value: float | None, unit: str, expected: str) -> None:
    assert quantity(value, unit) == expected


def test_cells_are_on_one_line() -> None:
    assert cell("message", "a\nb\x1b[0m") == "a b [0m"
    assert (cell("calls", 1234), cell("agents", ["a", "b"]), cell("error", None)) == ("1,234", "a, b", "-")
    assert cell("last", "2026-11-20T08:15:59.123Z") == "2026-11-20 08:15"
