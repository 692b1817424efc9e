from __future__ import annotations

from html.parser import HTMLParser

import pytest

from rayflow.simulation.measures import Result, Sample
from rayflow.simulation.plot import page, ticks


def result(name: str = "s", p99_s: float | None = 1.0) -> Result:
    samples = [Sample(float(n), n, n + 1, 3, 0, 10, 0.5, p99_s if n != 5 else None) for n in range(1, 11)]
    return Result(name, 1, {"requests": 100, "p99_s": p99_s}, samples=samples, curve=[0.1, 0.2, 0.9])


class Reader(HTMLParser):
    """Counts what is open, and keeps what could be loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.points: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [value for key in ("src", "href") if (value := values.get(key))]
        if tag == "polyline":
            self.points.append(values["points"] or "")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_complete_in_itself_and_has_both_schemes() -> None:
    text = page("one and other", [[result("one")], [result("other")]])
    read = Reader(text)
    assert (read.open, read.links) == ([], [])
    assert "http" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    assert "difference" in text


def test_curves_stay_within_their_frame_and_have_gaps_where_nothing_was_measured() -> None:
    read = Reader(page("s", [[result()]]))
    places = [tuple(map(float, place.split(","))) for points in read.points for place in points.split()]
    assert all(56 <= x <= 628 and 10 <= y <= 192 for x, y in places)
    assert len(read.points) == 2 + 2 + 1 + (2 + 1) + 1, "the p99 has one sample without a value"


def test_names_cannot_break_the_page() -> None:
    text = page("<script>", [[result('"><b>')]])
    assert "<script>" not in text
    assert '"><b>' not in text


def test_a_run_without_a_single_answer_can_be_drawn() -> None:
    empty = Result("s", 1, {"requests": 0, "p99_s": None})
    assert Reader(page("s", [[empty]])).points == []


@pytest.mark.parametrize(
    ("top", "expected"),
    [(1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (7.0, [0, 1, 2, 3, 4, 5, 6, 7]), (37.0, [0, 5, 10, 15, 20, 25, 30, 35])],
)
def test_ticks_are_round(top: float, expected: list[float]) -> None:
    assert ticks(top) == pytest.approx(expected)
