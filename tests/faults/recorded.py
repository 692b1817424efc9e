"""Does the event log hold what happened? A comparison of what clients were told with the rows of the log.

Of every run that was acknowledged, the log must have the start and the end, once, and no event of any run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from faults.operations import Operation
from rayflow.analytics.database import open_log
from rayflow.errors import NotFound

FRESH_S = 5.0
"""Events are asked for again for so long: the last ones are on their way."""

_TWICE = "SELECT event_id AS event FROM events GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL"
_ENDED = """
SELECT run_id, count(*) FILTER (kind = 'run.started') AS started, count(*) FILTER (kind = 'run.finished') AS finished
FROM events WHERE run_id IS NOT NULL GROUP BY ALL
"""


async def problems_of_log(root: Path, operations: Iterable[Operation]) -> list[str]:
    """Broken promises, in words; empty where there are none."""
    acknowledged = {operation.run_id for operation in operations if operation.acknowledged and operation.run_id}
    until = asyncio.get_running_loop().time() + FRESH_S
    while True:
        found = await asyncio.to_thread(_compare, root, acknowledged)
        if not found or asyncio.get_running_loop().time() > until:
            return found
        await asyncio.sleep(0.5)


def _compare(root: Path, acknowledged: set[str]) -> list[str]:
    try:
        with open_log(root, verify=True) as log:
            ended, twice, unreadable = log.query(_ENDED), log.query(_TWICE)["event"].to_pylist(), log.unreadable
    except NotFound:
        return ["there is no event log"]
    problems = [f"{path.name} of the event log: {reason}" for path, reason in unreadable.items()]
    if twice:
        problems.append(f"{len(twice)} events are in the log twice, as {twice[0]!r}")
    if lost := sorted(acknowledged - _whole(ended)):
        problems.append(f"of {len(lost)} acknowledged runs the start or the end is not in the log, as {lost[0]!r}")
    return problems


def _whole(ended: pa.Table) -> set[str]:
    """Runs whose end is there, and whose start is."""
    return {row["run_id"] for row in ended.to_pylist() if row["started"] and row["finished"] == 1}
