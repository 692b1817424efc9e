"""A tenant's report is made by the sandboxed analyst, which must know every function that the figures use."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from support import synthetic_log
from support.report_oracle import differences
from support.synthetic_log import NOON

from rayflow.analytics.analyst import Analyst
from rayflow.analytics.kpis import Period
from rayflow.analytics.reports import build
from rayflow.app.asked_log import of_analyst
from rayflow.errors import Unavailable


@pytest.mark.parametrize("tenant", ["", "acme"])
async def test_a_report_by_the_analyst_has_the_numbers_of_the_files(tmp_path: Path, tenant: str) -> None:
    events = synthetic_log.events(runs=60)
    synthetic_log.write_log(tmp_path / "events", events)
    files = synthetic_log.write(tmp_path / "copy", [e for e in events if e.tenant == tenant or not tenant])
    left_out: dict[str, str] = {}
    analyst = Analyst(tmp_path / "events")
    try:
        ask = of_analyst(analyst, tenant, left_out)
        report = await build(ask, Period(NOON, NOON + timedelta(days=1)), unreadable=lambda: left_out)
    except Unavailable as error:
        pytest.skip(error.message)
    finally:
        await analyst.close()
    assert differences(report, files) == [] and report.unreadable == {}
    assert bool(report.table("supervision").rows) == (tenant == "")
