"""All at once, as on a bad day: people who chat, a batch job, a replica that is killed, an endpoint that is down,
opinions of answers. What happened can be asked for seconds later, somebody is told, and every number of the report is
the one that a query by hand finds in the files.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
from support.report_oracle import differences
from support.served import rayflow

from faults.batches import start_batch, write_rows
from faults.load import Load
from faults.operations import Operation, Outcome
from faults.pacing import Pacer
from faults.recorded import problems_of_log
from faults.system import System
from faults.trial import Ground, Trial
from faults.upstream import Trouble
from faults.wire import Connection
from rayflow.analytics.database import open_log
from rayflow.analytics.reports import Report
from rayflow.analytics.rolling import roll_all
from rayflow.errors import NotFound

RATE = 50.0
ROWS = 1000
OUTAGE_S = 5.0
CALM_S = 3.0
LOOK_S = 0.2
FRESH_S = 2.0
SETTLE_S = 3.0
FINISH_S = 300.0
OPINIONS = 20
ANSWERED = "SELECT run_id FROM events WHERE kind = 'run.finished' AND ts >= $since"
ALERTS = "SELECT data->>'metric' AS metric FROM events WHERE kind = 'alert.raised'"
RUNS = "SELECT status, count(*) AS runs FROM runs WHERE channel <> 'batch' AND started >= $since GROUP BY ALL"


class Mixed(Trial):
    name = "mixed"
    promise = "chat, batch, a dead replica and an outage: in the log in 2 s, every number of the report right"
    measure = "rounds"
    times = 3

    async def run(self, ground: Ground) -> None:
        system, began = ground.system, datetime.now(UTC)
        source = system.folder / "rows.jsonl"
        write_rows(source, ROWS * ground.times)
        load = Load(system.client, self.name, RATE, ground.rng)
        seen = Sightings(system.state / "events", began)
        load.start()
        looking = asyncio.create_task(seen.look())
        job = await start_batch(system, source, system.folder / "job")
        pacer = Pacer(ground.rng)
        for _ in range(ground.times):
            await asyncio.sleep(CALM_S)
            await ground.kill("agent", pacer)
            await asyncio.sleep(CALM_S)
            await self._outage(system)
        async with asyncio.timeout(FINISH_S):
            code = await job.wait()
        ground.expect(code in (0, 5), f"the job ended with {code}; rows that failed in an outage make it 5")
        await load.stop()
        await self._say_opinions(ground, load.operations)
        await asyncio.sleep(SETTLE_S)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        self._check_freshness(ground, seen, load.operations)
        ground.problems += await problems_of_log(system.state / "events", load.operations)
        await self._check_figures(ground, began, load.operations)
        ground.requests = len(load.operations) + ROWS * ground.times
        ground.acknowledged = sum(operation.acknowledged for operation in load.operations)

    async def _outage(self, system: System) -> None:
        system.upstream.share, system.upstream.trouble = 1.0, Trouble.BROKEN
        await asyncio.sleep(OUTAGE_S)
        system.upstream.trouble = None

    async def _say_opinions(self, ground: Ground, operations: list[Operation]) -> None:
        connection = await Connection.open(ground.port)
        answered = [operation for operation in operations if operation.acknowledged]
        for operation in ground.rng.sample(answered, min(OPINIONS, len(answered))):
            said = {"run_id": operation.run_id, "thumb": ground.rng.choice(["up", "down"])}
            answer = await connection.ask("POST", "/feedback", said)
            ground.expect(answer.status == 201, f"an opinion was answered by {answer.status}: {answer.json}")
        connection.hang_up()

    def _check_freshness(self, ground: Ground, seen: Sightings, operations: list[Operation]) -> None:
        ended = {operation.run_id: operation.ended_s for operation in operations if operation.acknowledged}
        unseen = ended.keys() - seen.first.keys()
        ground.expect(not unseen, f"{len(unseen)} acknowledged runs were in no answer: {sorted(unseen)[:3]}")
        waited = sorted(max(0.0, at_s - ended[run_id]) for run_id, at_s in seen.first.items() if run_id in ended)
        if not waited:
            return
        p95 = waited[int(len(waited) * 0.95)]
        ground.notes |= {
            "fresh_p50_s": round(waited[len(waited) // 2], 3),
            "fresh_p95_s": round(p95, 3),
            "fresh_max_s": round(waited[-1], 3),
            "looks": seen.looks,
        }
        promised = f"promised are {FRESH_S} s"
        ground.expect(p95 <= FRESH_S, f"a run is in the log {p95:.2f} s after its end (p95); {promised}")

    async def _check_figures(self, ground: Ground, began: datetime, operations: list[Operation]) -> None:
        system = ground.system
        root = system.state / "events"
        until = datetime.now(UTC) - timedelta(seconds=1)
        report = await _report(system, began, until)
        runs, alerts = await asyncio.to_thread(_asked, root, began)
        told = Counter(str(operation.outcome) for operation in operations)
        ground.expect(sum(runs.values()) == len(operations), f"{runs} runs in the log of {len(operations)} requests")
        ground.expect(runs.get("ok", 0) == told[Outcome.OK], f"{runs} in the log; clients were told {told}")
        ground.expect("error_rate" in alerts, f"nobody was told of the outage: {alerts}")
        deaths = sum(row["deaths"] for row in report.table("supervision").rows)
        ground.expect(deaths >= ground.times, f"{deaths} deaths in the report after {ground.times} kills")
        ground.notes |= {"runs": runs, "alerts": alerts, "deaths": deaths}
        # What a log still has open becomes Parquet, and is then counted without any code of the log.
        ground.expect(await asyncio.to_thread(system.served.stop) == 0, "the system did not stop in good order")
        await asyncio.to_thread(roll_all, root, "eventlog/0")
        files = sorted(root.glob("date=*/*.parquet"))
        wrong = await asyncio.to_thread(differences, report, files)
        ground.problems += [f"the report: {each}" for each in wrong]
        ground.notes["figures"] = sum(len(measures) for measures in report.categories.values())
        ground.notes["rows_of_tables"] = sum(len(table.rows) for table in report.tables)


class Sightings:
    """When each run was first there for who asks: monotonic seconds, by run."""

    def __init__(self, root: Path, since: datetime) -> None:
        self.first: dict[str, float] = {}
        self.looks = 0
        self._root = root
        self._since = since

    async def look(self) -> None:
        while True:
            with suppress(NotFound):  # nothing was written yet
                found = await asyncio.to_thread(self._ended)
                now = time.monotonic()
                for run_id in found:
                    self.first.setdefault(run_id, now)
                self.looks += 1
            await asyncio.sleep(LOOK_S)

    def _ended(self) -> list[str]:
        with open_log(self._root) as log:
            found: list[str] = log.query(ANSWERED, {"since": self._since})["run_id"].to_pylist()
        return found


async def _report(system: System, since: datetime, until: datetime) -> Report:
    """As the command makes it, beside the system that serves."""
    period = ("--since", since.isoformat(), "--until", until.isoformat(), "--compare", "none")
    arguments = ("report", *period, "--format", "json", "--state", str(system.state))
    done = await asyncio.to_thread(partial(rayflow, *arguments, cwd=system.folder))
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout, type=Report)


def _asked(root: Path, since: datetime) -> tuple[dict[str, int], list[str]]:
    with open_log(root) as log:
        runs = {row["status"]: row["runs"] for row in log.query(RUNS, {"since": since}).to_pylist()}
        return runs, sorted(set(log.query(ALERTS)["metric"].to_pylist()))
