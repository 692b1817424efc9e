"""The short set of the trials: sessions that many talk into, requests that are sent often, clients that leave, streams
that break, over real sockets and two ingress processes.

The long set is `python -m tests.faults --fault multitask-enqueue`, and so on.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from faults.registry import TRIALS
from faults.system import running
from faults.trial import run_trial

SIZES = {"idempotency": 8, "disconnect": 12, "resume": 8, "orphans": 1}
CLIENTS = 6


async def test_turns_keep_their_promises_whatever_their_clients_do(tmp_path: Path) -> None:
    broken: dict[str, list[str]] = {}
    say = partial(print, file=sys.stderr)
    async with running(tmp_path, seed=1) as system:
        for name, trial in TRIALS.items():
            verdict = await run_trial(trial, system, times=SIZES.get(name, CLIENTS), seed=1, say=say)
            assert verdict.acknowledged, (name, verdict.reasons)
            if not verdict.passed:
                broken[name] = verdict.reasons
    assert not broken, json.dumps(broken, indent=1)
