"""A job that dies at any point and is started again: one row per input, no finished row paid for twice."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from conftest import Bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayflow.batch import parts, ranges
from rayflow.batch.export import rows_of
from rayflow.batch.row import Row
from rayflow.messages import RunRequest

ROWS = 24


def finished(bench: Bench) -> set[str]:
    """Prompts that have a row, merged or not."""
    found = {row.turns[0] for row in rows_of(bench.directory)}
    for journal in bench.directory.journals():
        lines = journal.read_bytes().split(b"\n")[:-1]
        found |= {msgspec.json.decode(line, type=Row).turns[0] for line in lines}
    return found


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
    crashes=st.lists(st.tuples(st.integers(1, ROWS), st.integers(0, 60)), min_size=1, max_size=4),
    concurrency=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
async def test_a_job_that_crashes_anywhere_pays_for_no_finished_row_twice(
    tmp_path_factory: pytest.TempPathFactory, crashes: list[tuple[int, int]], concurrency: int, seed: int
) -> None:
    bench = Bench(tmp_path_factory.mktemp("crash"))
    bench.prompts(ROWS)
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "ROWS", 5)
        for calls, torn in crashes:
            before = finished(bench)
            await crash_after(bench, calls, concurrency, rng)
            assert not before & set(bench.client.asked())
            with bench.directory.journal_of(4).open("ab") as journal:
                journal.write(msgspec.json.encode(Row(ROWS, "torn", "ok", turns=["torn"]))[:torn])
        before = finished(bench)
        bench.client.calls.clear()
        bench.client.gate = lambda request: None
        status = await bench.job(concurrency=concurrency).run()
    assert sorted(bench.client.asked()) == sorted({f"prompt {n}" for n in range(1, ROWS + 1)} - before)
    assert (status.state, status.totals.ok) == ("finished", ROWS)
    assert [(row.ordinal, row.answers) for row in bench.rows()] == [
        (n, [f"echo: prompt {n}"]) for n in range(1, ROWS + 1)
    ]


async def test_an_interrupted_row_begins_anew_in_a_session_of_its_own(bench: Bench) -> None:
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
    bench.prompts(ROWS)
    here = str(Path(__file__).parent)
    process = subprocess.run([sys.executable, "-c", KILLED, here, str(tmp_path), "13"], check=False)
    assert process.returncode == -signal.SIGKILL
    assert bench.directory.status().state == "interrupted"
    before = finished(bench)
    assert 13 - 3 <= len(before) <= 13
    status = asyncio.run(bench.job().run())
    assert status.totals.ok == ROWS
    assert sorted(bench.client.asked()) == sorted({f"prompt {n}" for n in range(1, ROWS + 1)} - before)


@pytest.mark.parametrize("dies_at", ["replace", "unlink"])
async def test_a_death_while_a_range_is_merged_neither_loses_nor_doubles_a_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    class Death(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Death

    bench.prompts(8)
    await bench.job(limits={"limit": 3}).run()
    job = bench.directory.plan(bench.spec(), 0)
    with bench.directory.started(job):
        part = ranges.Range(bench.directory, 0)
        for n in (4, 5):
            part.append(Row(n, f"q{n}", "ok", f"q{n}", turns=[f"prompt {n}"], answers=["x"]))
        monkeypatch.setattr(Path, dies_at, die)
        with pytest.raises(Death):
            part.merge()
        monkeypatch.undo()
    merged = [row.ordinal for row in bench.rows()]
    assert merged == ([1, 2, 3] if dies_at == "replace" else [1, 2, 3, 4, 5])
    bench.client.calls.clear()
    status = await bench.job().run()
    assert (status.totals.rows, len(bench.client.calls)) == (8, 3)
    assert [row.ordinal for row in bench.rows()] == [*range(1, 9)]


async def test_a_damaged_part_is_named_and_nothing_is_run(bench: Bench) -> None:
    bench.prompts(8)
    await bench.job().run()
    (part,) = bench.directory.parts()
    data = bytearray(part.read_bytes())
    with pq.ParquetFile(part) as file:
        column = file.metadata.row_group(0).column(file.schema_arrow.names.index("key"))
    begin = column.dictionary_page_offset or column.data_page_offset
    data[begin + column.total_compressed_size - 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(parts.StorageError, match="part-00000"):
        await bench.job().run()
    assert len(bench.client.calls) == 8
