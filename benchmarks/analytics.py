"""What the event log costs and what it answers: ingest, logging on against off, queries.

    python benchmarks/analytics.py --json
    python benchmarks/analytics.py --only ingest --events 1000000
    python benchmarks/analytics.py --only logging --bench ../shared/bench --reps 20

*ingest*: typed events to Parquet on one core, stage by stage, with the code that a running system uses: an outbox
encodes them, the event log appends them to the open segment, the upkeep reads it, makes columns of it and writes
Parquet. CPU of every stage, of this one process; DuckDB and Arrow are held to one thread.

*logging*: requests/s of `benchmarks/chat.py` with `monitoring.event_log` on and off: two servers, by turns.

*queries*: a report and named queries over `--rows` events against the same SQL by hand (`_analytics_queries.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import chat  # noqa: E402

from rayflow.events import Event, encode_lines  # noqa: E402

T = TypeVar("T")
BATCH = 64
"""Events that a busy process collects in a moment."""
PARTS = ("ingest", "logging", "queries")
PORTS = {True: 8100, False: 8101}
WARM_S = 0.7
"""Of a turn, before requests are counted."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="comma list of " + ", ".join(PARTS))
    parser.add_argument("--events", type=int, default=500_000, help="ingest: how many")
    parser.add_argument("--rounds", type=int, default=3, help="ingest: the best round counts")
    parser.add_argument("--rows", type=int, default=10_000_000, help="queries: rows of the log")
    parser.add_argument(
        "--bench", type=Path, default=HERE.parent.parent / "shared" / "bench", help="logging: as chat.py"
    )
    parser.add_argument("--reps", type=int, default=20, help="logging: pairs of turns")
    parser.add_argument("--secs", type=float, default=2.0, help="logging: seconds of a turn")
    parser.add_argument("--clients", default="64", help="logging: number of clients")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    chosen = args.only.split(",") if args.only else PARTS
    result: dict[str, Any] = {"machine": {"cpus": os.cpu_count(), "python": platform.python_version()}}
    if "ingest" in chosen:
        result["ingest"] = ingest(args.events, args.rounds)
    if "logging" in chosen:
        result["logging"] = logging_cost(args)
    if "queries" in chosen:
        from _analytics_queries import run

        result["queries"] = run(args.rows)
    print(json.dumps(result) if args.json else json.dumps(result, indent=2))


# --- ingest ---


def events_of_runs(count: int) -> Callable[[], list[Event]]:
    """Makes the events of plain runs as routers and stores record them: seven each, of a dozen set fields."""
    rng = random.Random(6)
    times = [rng.random() for _ in range(count)]
    began_us = time.time_ns() // 1000 - count * 60

    def make() -> list[Event]:
        return [_event(number, began_us + number * 60, times[number]) for number in range(count)]

    return make


def _event(number: int, ts_us: int, chance: float) -> Event:
    run, step = divmod(number, 7)
    common: dict[str, Any] = {
        "source": "router/0",
        "run_id": f"run_{run:026d}",
        "seq": step + 1,
        "workflow": "support",
        "tenant": f"tenant-{run % 20}",
        "user_id": f"user-{run % 5000}",
        "session_id": f"ses_{run // 6:026d}",
        "channel": "chat",
        "priority": "interactive",
    }
    match step:
        case 0:
            return Event("run.started", ts_us, data={"messages": 3}, **common)
        case 1:
            facts = {"agents": ["technical"], "reason": "keywords: error, crash", "scores": {"technical": 0.93}}
            return Event("run.routed", ts_us, strategy="keyword", confidence=chance, data=facts, **common)
        case 2:
            replica = f"agent/technical/{run % 3}"
            facts = {"loads": {replica: run % 4}}
            return Event(
                "agent.started", ts_us, agent="technical", replica=replica, queue_ms=chance, data=facts, **common
            )
        case 3:
            return Event(
                "agent.finished",
                ts_us,
                agent="technical",
                replica=f"agent/technical/{run % 3}",
                provider="openai",
                model="small",
                status="ok",
                finish_reason="stop",
                duration_ms=chance * 800,
                ttft_ms=chance * 200,
                prompt_tokens=300,
                completion_tokens=80,
                cost_usd=chance / 100,
                attempt=1,
                **common,
            )
        case 6:
            return Event(
                "run.finished",
                ts_us,
                status="ok",
                duration_ms=chance * 900,
                prompt_tokens=300,
                completion_tokens=80,
                cost_usd=chance / 100,
                strategy="keyword",
                **common,
            )
        case _:
            return Event("turn.committed", ts_us, data={"role": "user", "turn": step, "chars": 200}, **common)


class Stages:
    """CPU seconds of this process by stage; of several rounds the least."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        began = time.process_time()
        result = work()
        took = time.process_time() - began
        self.cpu_s[name] = min(took, self.cpu_s.get(name, took))
        return result


def ingest(count: int, rounds: int) -> dict[str, Any]:
    import pyarrow as pa

    from rayflow.analytics.database import open_log

    pa.set_cpu_count(1)
    make, stages, size = events_of_runs(count), Stages(), {}
    for _ in range(rounds):
        events = stages("construct", make)
        root = Path(tempfile.mkdtemp(prefix="rayflow-ingest-"))
        try:
            size = _ingest(root / "events", events, stages)
            with open_log(root / "events") as log:
                stored = log.query("SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM events").to_pylist()
            assert stored == [{"n": count, "ids": count}], stored
        finally:
            shutil.rmtree(root)
    stages.cpu_s.pop("construct")  # whoever has typed events has paid for that
    whole_s = sum(stages.cpu_s.values())
    return {
        "events": count,
        "events_per_s": round(count / whole_s),
        "us_per_event": {name: round(s / count * 1e6, 3) for name, s in stages.cpu_s.items()},
        "us_per_event_in_all": round(whole_s / count * 1e6, 3),
        "bytes_per_event": {name: round(total / count, 1) for name, total in size.items()},
    }


def _ingest(root: Path, events: Sequence[Event], stages: Stages) -> dict[str, int]:
    from rayflow.analytics.convert import to_pieces
    from rayflow.analytics.files import OPEN
    from rayflow.analytics.log import SegmentLog
    from rayflow.analytics.manifest import changing
    from rayflow.analytics.opened import read_open
    from rayflow.analytics.segments import settle, stage_pieces
    from rayflow.messages import EventBatch

    starts = range(0, len(events), BATCH)
    lines = stages("encode", lambda: [encode_lines(events[start : start + BATCH]) for start in starts])
    batches = [
        EventBatch("benchmark", start, min(BATCH, len(events) - start), text)
        for start, text in zip(starts, lines, strict=True)
    ]
    log = SegmentLog(root, "eventlog/0", 1 << 26, 3600)

    def append() -> None:
        for start in range(0, len(batches), 16):
            log.append(batches[start : start + 16])
            log.seal()
        log.close()

    stages("append", append)
    paths = list((root / OPEN).iterdir())
    read = stages("read", lambda: [read_open(path) for path in paths])
    rows = stages("columns", lambda: [list(to_pieces(contents.batches, threads=1)) for contents in read])
    stored = stages("parquet", lambda: [stage_pieces(root, "eventlog/0", pieces, ()) for pieces in rows])

    def commit() -> None:
        listed = [segment for segments in stored for segment in segments]
        with changing(root) as manifest:
            manifest.opened.clear()
            manifest.segments.update({segment.name: segment for segment in listed})
        settle(root, listed)

    stages("manifest", commit)
    return {
        "open": sum(path.stat().st_size for path in paths),
        "parquet": sum(segment.size for segments in stored for segment in segments),
    }


# --- logging on against off ---


def logging_cost(args: argparse.Namespace) -> dict[str, Any]:
    """Two servers, one with the log, are asked by turns, a few seconds each, so that both see the same moods of the
    machine; which comes first alternates.

    What a log puts off (fsync, rolling, merging) may fall into the turn of the other. So CPU is that of all processes
    of a server over all turns; what is open at the end is not waited for."""
    args.set, args.serve_flag = [], []
    rates: dict[bool, list[float]] = {True: [], False: []}
    served: dict[bool, float] = {True: 0.0, False: 0.0}
    with ExitStack() as stack:
        upstream = stack.enter_context(chat.upstreams(args.bench))
        running = {on: _server(args, on, stack) for on in (True, False)}
        before = {on: _cpu_s(process.pid) for on, process in running.items()}
        for pair in range(args.reps):
            for on in (True, False) if pair % 2 else (False, True):
                run = chat.load(args, int(args.clients), [], running[on].pid, upstream.pid, pair, PORTS[on])
                assert run["err"] == 0, run
                rates[on].append(run["rps"])
                served[on] += run["rps"] * (args.secs + WARM_S)
            print(f"event log on, off: {rates[True][-1]:.0f}, {rates[False][-1]:.0f} requests/s", file=sys.stderr)
        cpu = {on: _cpu_s(process.pid) - before[on] for on, process in running.items()}
    ratios = [on / off for on, off in zip(rates[True], rates[False], strict=True)]
    cpu_ms = {on: cpu[on] / served[on] * 1000 for on in (True, False)}
    return {
        "rps_on": statistics.median(rates[True]),
        "rps_off": statistics.median(rates[False]),
        "on_over_off": round(statistics.median(ratios), 4),
        "on_over_off_quartiles": [round(ratio, 4) for ratio in statistics.quantiles(ratios, n=4)],
        "cpu_ms_per_request_on": round(cpu_ms[True], 4),
        "cpu_ms_per_request_off": round(cpu_ms[False], 4),
        "cpu_on_over_off": round(cpu_ms[True] / cpu_ms[False], 4),
    }


def _server(args: argparse.Namespace, on: bool, stack: ExitStack) -> subprocess.Popen[bytes]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    args.set = [f"monitoring.event_log={'true' if on else 'false'}"]
    running = stack.enter_context(chat.process(*chat.server("rayflow", args, folder, PORTS[on])))
    chat.first_answer(120, PORTS[on])
    return running


def _cpu_s(pid: int) -> float:
    """Of all processes of a server, those included that are over."""
    times = [process.cpu_times() for process in chat.tree(pid)]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


if __name__ == "__main__":
    main()
