"""The short set of the fault harness: one system under load, and every kind of process killed once, one frozen.

The long set is `python -m tests.faults`.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from faults.registry import FAULTS
from faults.run import run_fault
from faults.system import running

RATE = 50.0
WARM_UP_S = 0.5
SHORT = ("agent", "router", "aggregator", "store", "coordinator", "ingress", "eventlog", "freeze-agent")


async def test_no_single_death_costs_a_user_anything_that_was_acknowledged(tmp_path: Path) -> None:
    broken: dict[str, list[str]] = {}
    say = partial(print, file=sys.stderr)
    async with running(tmp_path, seed=1) as system:
        for name in SHORT:
            report = await run_fault(FAULTS[name], system, times=1, rate=RATE, seed=1, warm_up_s=WARM_UP_S, say=say)
            assert report.acknowledged > RATE
            if not report.passed:
                broken[name] = report.reasons
    assert not broken, json.dumps(broken, indent=1)
