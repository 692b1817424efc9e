"""A job that dies at any point and is started again: one row per input, no finished item paid for twice."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from conftest import Bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayflow.batch.journal import Journal
from rayflow.batch.row import Row
from rayflow.messages import RunRequest

ITEMS = 24


def finished(bench: Bench) -> set[str]:
    """Prompts whose row is in the journal."""
    if not bench.folder.journal.exists():
        return set()
    with Journal(bench.folder.journal) as journal:
        return {msgspec.json.decode(line, type=Row).turns[0] for line in journal.lines()}


async def crash_after(bench: Bench, calls: int, concurrency: int, rng: random.Random) -> None:
    """Run the job until so many calls were made, then drop it as it stands."""
    crashed = asyncio.Event()

    async def a_while() -> None:
        if len(bench.client.calls) >= calls:
            crashed.set()
            await asyncio.Event().wait()
        for _ in range(rng.randrange(6)):
            await asyncio.sleep(0)

    bench.client.calls.clear()
    bench.client.gate = lambda request: asyncio.ensure_future(a_while())
    job = asyncio.create_task(bench.job(concurrency=concurrency).run())
    crash = asyncio.create_task(crashed.wait())
    await asyncio.wait([job, crash], return_when=asyncio.FIRST_COMPLETED)
    job.cancel()
    crash.cancel()
    await asyncio.gather(job, crash, return_exceptions=True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    crashes=st.lists(st.tuples(st.integers(1, ITEMS), st.integers(0, 60)), min_size=1, max_size=4),
    concurrency=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
async def test_a_job_that_crashes_anywhere_pays_for_no_finished_item_twice(
    tmp_path_factory: pytest.TempPathFactory, crashes: list[tuple[int, int]], concurrency: int, seed: int
) -> None:
    bench = Bench(tmp_path_factory.mktemp("crash"))
    bench.prompts(ITEMS)
    rng = random.Random(seed)
    for calls, torn in crashes:
        before = finished(bench)
        await crash_after(bench, calls, concurrency, rng)
        assert not before & set(bench.client.asked())
        with bench.folder.journal.open("ab") as journal:
            journal.write(msgspec.json.encode(Row(ITEMS, "torn", "ok", turns=["torn"]))[:torn])
    before = finished(bench)
    bench.client.calls.clear()
    bench.client.gate = lambda request: None
    summary = await bench.job(concurrency=concurrency).run()
    assert sorted(bench.client.asked()) == sorted({f"prompt {n}" for n in range(1, ITEMS + 1)} - before)
    assert (summary.state, summary.ok) == ("finished", ITEMS)
    assert [(row.ordinal, row.answers) for row in bench.rows()] == [
        (n, [f"echo: prompt {n}"]) for n in range(1, ITEMS + 1)
    ]


async def test_an_interrupted_item_begins_anew_in_a_session_of_its_own(bench: Bench) -> None:
    bench.write({"turns": ["one", "two"]})
    held = asyncio.Event()

    def gate(request: RunRequest) -> asyncio.Future[None] | None:
        if request.messages[0].text == "one":
            return None
        held.set()
        return asyncio.get_running_loop().create_future()

    bench.client.gate = gate
    job = asyncio.create_task(bench.job().run())
    await held.wait()
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    bench.client.gate = lambda request: None
    await bench.job().run()
    sessions = Counter(call.session_id for call in bench.client.calls)
    assert list(sessions.values()) == [2, 2]
    assert bench.rows()[0].answers == ["echo: one", "echo: two"]


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import Bench

bench = Bench(Path(sys.argv[2]))
answer = bench.client.run

async def run(request, timeout_s=None):
    if len(bench.client.calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return await answer(request)

bench.client.run = run
asyncio.run(bench.job(concurrency=3).run())
"""


def test_a_killed_process_loses_no_finished_row(bench: Bench, tmp_path: Path) -> None:
    bench.prompts(ITEMS)
    here = str(Path(__file__).parent)
    process = subprocess.run([sys.executable, "-c", KILLED, here, str(tmp_path), "13"], check=False)
    assert process.returncode == -signal.SIGKILL
    before = finished(bench)
    assert 13 - 3 <= len(before) <= 13
    summary = asyncio.run(bench.job().run())
    assert summary.ok == ITEMS
    assert sorted(bench.client.asked()) == sorted({f"prompt {n}" for n in range(1, ITEMS + 1)} - before)
