"""Every number of a report equals what the files say when they are asked by hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from support import synthetic_log
from support.report_oracle import differences
from support.sql import asking
from support.synthetic_log import NOON

from rayflow.analytics.kpis import CATEGORIES, TABLES, Period, kpi
from rayflow.analytics.reports import build

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return synthetic_log.write(tmp_path_factory.mktemp("log"), synthetic_log.events())


@pytest.mark.parametrize(
    "period",
    [
        Period(NOON, NOON + DAY),
        Period(NOON - DAY, NOON),
        Period(NOON - DAY, NOON + DAY),
        Period(NOON + DAY / 7, NOON + DAY / 5),
        Period(NOON + 3 * DAY, NOON + 4 * DAY),
    ],
    ids=["the second day", "the first day", "both", "a part", "nothing happened"],
)
async def test_every_number_is_the_one_that_the_files_say(files: list[Path], period: Period) -> None:
    report = await build(asking(files), period)
    assert differences(report, files) == []


async def test_the_oracle_sees_a_number_that_is_wrong(files: list[Path]) -> None:
    report = await build(asking(files), Period(NOON, NOON + DAY))
    assert differences(report, files[:1])


async def test_a_figure_says_how_it_compares(files: list[Path]) -> None:
    report = await build(asking(files), Period(NOON, NOON + DAY))
    slower = report.measure("response_time")
    assert slower.value and slower.before and slower.change
    assert slower.change == pytest.approx(slower.value / slower.before - 1)
    assert slower.change > 0.5 and slower.good is False  # it is made so: the second day is slower
    assert report.measure("conversation_length").good is None
    assert report.compared == NOON - DAY


async def test_without_comparison_there_is_no_before(files: list[Path]) -> None:
    report = await build(asking(files), Period(NOON, NOON + DAY), compare=False)
    assert report.compared is None
    assert {each.before for name in CATEGORIES for each in report.categories[name]} == {None}
    assert differences(report, files) == []


async def test_an_empty_period_has_figures_without_values_and_nothing_to_say(files: list[Path]) -> None:
    report = await build(asking(files), Period(NOON + 3 * DAY, NOON + 4 * DAY))
    assert report.measure("runs").value == 0 and report.measure("error_rate").value is None
    assert report.trend == [] and report.recommendations == []


async def test_the_steps_of_the_trend_follow_the_hours(files: list[Path]) -> None:
    report = await build(asking(files), Period(NOON, NOON + DAY))
    assert [step["step"] for step in report.trend] == sorted({step["step"] for step in report.trend})
    assert report.trend[0]["step"] >= 0 and report.trend[-1]["step"] <= 47


@pytest.mark.parametrize("name", [*CATEGORIES, *TABLES, "trend", "executions"])
def test_every_file_says_what_it_answers(name: str) -> None:
    found = kpi(name)
    assert found.name == name and len(found.description) > 20
    assert all(figure.better in ("more", "less", "-") and len(figure.meaning) > 20 for figure in found.figures)


async def test_files_that_were_left_out_are_told(files: list[Path]) -> None:
    report = await build(asking(files), Period(NOON, NOON + DAY), unreadable=lambda: {"a.parquet": "torn"})
    assert report.unreadable == {"a.parquet": "torn"}
    assert "damaged" in report.recommendations[0].title
