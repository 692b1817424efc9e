"""A batch job whose processes die: whoever drives it, its feeders, its routers and its replicas. At the end each row of
the input has exactly one row of the results, with the answer that a quiet run would have, and next to no call was made
twice.

What a kill may cost is what was in flight: the runs of a driver that dies are asked for again by the next one, those of
a feeder by another one, those of a router by whoever asked it, those of a replica by their router.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import Process
from collections import Counter
from hashlib import sha256
from pathlib import Path

from faults.answers import pieces
from faults.pacing import Pacer
from faults.system import System
from faults.trial import Ground, Trial
from rayflow.batch.directory import JobDirectory
from rayflow.batch.export import rows_of

CONCURRENCY = 32
VICTIMS = ("driver", "router", "agent")
FEEDERS = 2
FINISH_S = 1800.0
AGENT, EDITION = "alpha", 1


class BatchKills(Trial):
    """`rows` of the input for each kill. The driver runs them itself."""

    name = "batch"
    promise = "kill -9 of driver, routers and replicas: one row for each row of the input, next to no call made twice"
    measure = "kills"
    times = 20
    victims: tuple[str, ...] = VICTIMS
    feeders = 1

    def __init__(self, rows: int = 5000) -> None:
        self._rows = rows

    async def run(self, ground: Ground) -> None:
        rows = self._rows * ground.times
        folder = ground.system.folder / self.name
        folder.mkdir()
        source, directory = folder / "rows.jsonl", JobDirectory(folder / "job")
        write_rows(source, rows)
        calls = ground.system.upstream.calls
        calls.clear()
        pacer, began = Pacer(ground.rng), time.monotonic()
        driver = await start_batch(ground.system, source, directory.path, self.feeders)
        killed: Counter[str] = Counter()
        for kill in range(ground.times):
            # Somewhere in this kill's share of the rows.
            least = (kill + ground.rng.random()) * self._rows
            while driver.returncode is None and len(calls) < least:
                await asyncio.sleep(0.02)
            role = self.victims[kill % len(self.victims)]
            if driver.returncode is not None:
                ground.problems.append(f"the job was over ({driver.returncode}) before kill {kill + 1}")
                break
            killed[role] += 1
            if role == "driver":
                driver.kill()
                await driver.wait()
                driver = await start_batch(ground.system, source, directory.path, self.feeders)
            else:
                await ground.kill(role, pacer)
        async with asyncio.timeout(FINISH_S):
            code = await driver.wait()
        ground.expect(code == 0, f"the last driver ended with {code}")
        self._check(ground, directory, rows)
        repeated = sum(calls.values()) - len(calls)
        in_flight = ground.times * CONCURRENCY
        ground.expect(repeated <= in_flight, f"{repeated} calls were repeated; at most {in_flight} were in flight")
        ground.requests, ground.acknowledged = rows, rows
        ground.notes = {
            "rows": rows,
            "killed": dict(killed),
            "repeated": repeated,
            "repeated_share": round(repeated / rows, 5),
            "starts": directory.status().starts,
            "took_s": round(time.monotonic() - began, 1),
        }

    def _check(self, ground: Ground, directory: JobDirectory, rows: int) -> None:
        quiet, found, count, failed = sha256(), sha256(), 0, Counter[str]()
        for n in range(rows):
            answer = "".join(pieces(AGENT, EDITION, _question(n)))
            quiet.update(json.dumps([n + 1, f"r{n}", [answer]]).encode())
        for row in rows_of(directory):
            found.update(json.dumps([row.ordinal, row.id, row.answers]).encode())
            count += 1
            failed[row.error or ""] += 1
        del failed[""]
        ground.expect(count == rows, f"{count} rows of the results for {rows} of the input")
        ground.expect(not failed, f"rows failed: {dict(failed)}")
        ground.expect(found.digest() == quiet.digest(), "the results are not those of a quiet run")
        ground.expect(not directory.journals(), f"{len(directory.journals())} journals were left")


class FedBatchKills(BatchKills):
    """Feeders run the rows."""

    name = "fed_batch"
    promise = "kill -9 of driver, feeders, routers and replicas: one row for each row, next to no call made twice"
    victims = (*VICTIMS, "feeder")
    feeders = FEEDERS


def write_rows(file: Path, count: int) -> None:
    """An input of so many rows."""
    file.write_text("".join(json.dumps({"id": f"r{n}", "prompt": _question(n)}) + "\n" for n in range(count)))


async def start_batch(system: System, source: Path, out: Path, feeders: int = 1) -> Process:
    """A process that runs the job in the folder `out`, also where one has begun it before."""
    options = ["--state", str(system.state), "--concurrency", str(CONCURRENCY), "--feeders", str(feeders)]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rayflow", "batch", "run", str(source), "--out", str(out)),
        *("--config", str(system.workflow)),
        *options,
        cwd=system.folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


def _question(n: int) -> str:
    return f"turn 1 of row-{n} for {AGENT}"
