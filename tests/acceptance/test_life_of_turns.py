"""The short set of the trials: sessions that many talk into, requests that are sent often, clients that leave, streams
that break, over real sockets and two ingress processes.

The long set is `python -m tests.faults --fault multitask-enqueue`, and so on.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pytest
from faults.batches import BatchKills, FedBatchKills
from faults.mixed import Mixed
from faults.queued import Queued
from faults.registry import TRIALS
from faults.system import running
from faults.trial import run_trial

SIZES = {"idempotency": 8, "disconnect": 12, "resume": 8, "orphans": 1}
# These have tests of their own, or take long.
LONG = {Queued.name, BatchKills.name, FedBatchKills.name, Mixed.name}
CLIENTS = 6


@pytest.mark.timeout(300)  # a trial after the other
async def test_turns_keep_their_promises_whatever_their_clients_do(tmp_path: Path) -> None:
    broken: dict[str, list[str]] = {}
    say = partial(print, file=sys.stderr)
    async with running(tmp_path, seed=1) as system:
        for name, trial in TRIALS.items():
            if name in LONG:
                continue
            verdict = await run_trial(trial, system, times=SIZES.get(name, CLIENTS), seed=1, say=say)
            assert verdict.acknowledged, (name, verdict.reasons)
            if not verdict.passed:
                broken[name] = verdict.reasons
    assert not broken, json.dumps(broken, indent=1)


@pytest.mark.timeout(300)  # it starts a system twice
async def test_messages_that_wait_are_answered_though_everything_was_killed(tmp_path: Path) -> None:
    async with running(tmp_path, seed=1) as system:
        verdict = await run_trial(Queued(), system, times=2, seed=1, say=partial(print, file=sys.stderr))
    assert verdict.passed, json.dumps(verdict.reasons, indent=1)
