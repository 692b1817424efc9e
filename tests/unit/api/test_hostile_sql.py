"""The corpus of `tests/hostile` over HTTP: no harm, no secret, and limits that hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile.attack import attack
from hostile.corpus import ATTACKS, BOMBS
from hostile.scene import Scene

from rayflow.analytics.analyst.confinement import find_offers

# Every third statement, as each has a process of its own; `python -m tests.hostile` sends all of them.
SHORT = [each for each in ATTACKS if each not in BOMBS][::3]
SHORT_BOMBS = BOMBS[::2]
TIME_S, MEMORY_BYTES = 1.0, 320 << 20
GENEROUS_S, GENEROUS_BYTES = 1.0, 64 << 20
"""`python -m tests.hostile` prints how far over the limits it really goes; a busy machine may take longer to say so."""

pytestmark = [
    pytest.mark.skipif(not find_offers().enough, reason="this kernel has no sandbox to test"),
    pytest.mark.timeout(600),
]


def test_there_are_enough_of_them() -> None:
    assert len({each.sql for each in ATTACKS}) == len(ATTACKS) >= 80
    assert len(SHORT) + len(SHORT_BOMBS) >= 80


async def test_hostile_statements_do_no_harm(tmp_path: Path) -> None:
    scene = Scene(tmp_path, sql_timeout_s=30)
    before = scene.digests()
    async with scene.served() as http:
        outcomes = await attack(scene, http, SHORT)
    assert [str(outcome) for outcome in outcomes if not outcome.expected] == []
    assert [str(outcome) for outcome in outcomes if outcome.leaked] == []
    assert scene.digests() == before


async def test_bombs_meet_the_limits(tmp_path: Path) -> None:
    scene = Scene(tmp_path, sql_timeout_s=TIME_S, sql_memory_bytes=MEMORY_BYTES, sql_max_bytes=1 << 20)
    before = scene.digests()
    async with scene.served() as http:
        outcomes = await attack(scene, http, SHORT_BOMBS)
    assert [str(outcome) for outcome in outcomes if not outcome.expected] == []
    assert [str(outcome) for outcome in outcomes if outcome.seconds > TIME_S + GENEROUS_S] == []
    assert [str(outcome) for outcome in outcomes if outcome.peak_bytes > MEMORY_BYTES + GENEROUS_BYTES] == []
    assert scene.digests() == before
