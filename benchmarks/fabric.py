"""What a hop costs: round trips and streamed tokens between two Ray actors, over the fabric and over `.remote()`.

    python benchmarks/fabric.py --json
    python benchmarks/fabric.py --reps 5 --secs 2

Two actors in two processes exchange 1 KiB each way. Every figure is the median of `--reps` runs of `--secs` seconds;
the CPU is that of both actor processes (for `.remote()` of the whole Ray tree). Ratios within one run count, absolute
figures depend on the machine. The last row is a reader of 64 streams that stands still while its writer goes on trying:
how many items it could send, how much memory they took in the writer, and how far that grew from then on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import psutil
import ray

from rayflow.chat import Usage
from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.messages import AgentReply, CancelRun, Endpoint, FlushEvents, Ping, Pong, Token, TokenStream
from rayflow.runtime.ports import Inlet

SECRET = b"benchmark"
KIB = "x" * 1000
STREAMS, GAP_S = 64, 0.005


class Near:
    """Asks, and hosts the client of streams."""

    async def start(self, endpoint: str) -> str:
        self.fabric = SocketFabric(endpoint, SECRET)
        await self.fabric.start()
        self.bind()
        return self.fabric.endpoint

    def bind(self) -> None:
        self.tokens = 0
        self.stopped: list[Inlet] = []
        self.fabric.bind("near", {}, {TokenStream: self._opened})

    async def meet(self, endpoint: str) -> None:
        self.fabric.directory.put(Endpoint("far", endpoint))
        await self.fabric.ask("far", CancelRun(KIB), 5)

    async def ask(self, in_flight: int, secs: float) -> dict[str, float]:
        """Closed loop of `in_flight` askers."""
        latencies: list[float] = []
        message = CancelRun(KIB)
        end = time.perf_counter() + secs

        async def asker() -> None:
            now = time.perf_counter()
            while now < end:
                await self.fabric.ask("far", message, 5.0)
                then, now = now, time.perf_counter()
                latencies.append(now - then)

        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(asker() for _ in range(in_flight)))
        took = time.perf_counter() - began
        latencies.sort()
        return {
            "per_s": len(latencies) / took,
            "p50_us": latencies[len(latencies) // 2] * 1e6,
            "p99_us": latencies[int(len(latencies) * 0.99)] * 1e6,
            "cpu_s": time.process_time() - cpu,
            "count": len(latencies),
        }

    async def receive(self, secs: float) -> dict[str, float]:
        """Streams of tokens, paced by the writer."""
        self.tokens = 0
        cpu, began = time.process_time(), time.perf_counter()
        await self.fabric.ask("far", Pong(str(secs), 0), secs + 30)
        took = time.perf_counter() - began
        return {"per_s": self.tokens / took, "cpu_s": time.process_time() - cpu, "count": self.tokens}

    async def stand_still(self, secs: float) -> dict[str, float]:
        """Streams that nobody reads."""
        report: Pong = await self.fabric.ask("far", FlushEvents(), secs + 30)
        for inlet in self.stopped:
            inlet.close()
        self.stopped.clear()
        return report.stats

    def _opened(self, opening: TokenStream, inlet: Inlet) -> None:
        if opening.agent == "stopped":
            self.stopped.append(inlet)
        else:
            inlet.on_readable(lambda: self._take(inlet))

    def _take(self, inlet: Inlet) -> None:
        self.tokens += len(inlet.take())

    async def cpu(self) -> float:
        return time.process_time()

    async def echo(self, message: dict[str, str]) -> dict[str, str]:
        return message


class Far(Near):
    """Answers, and sends the streams."""

    def bind(self) -> None:
        reply = AgentReply(KIB, "stop", Usage(), "", 0.0)
        self.fabric.bind("far", {CancelRun: lambda _: reply, Pong: self._stream, FlushEvents: self._flood})

    async def know(self, endpoint: str) -> None:
        self.fabric.directory.put(Endpoint("near", endpoint))

    async def _stream(self, request: Pong) -> Ping:
        secs = float(request.address)
        await asyncio.gather(*(self._one(f"run-{i}", secs) for i in range(STREAMS)))
        return Ping()

    async def _one(self, run_id: str, secs: float) -> None:
        loop = asyncio.get_running_loop()
        outlet = self.fabric.stream("near", TokenStream(run_id, "a"))
        began, sent, total = loop.time(), 0, int(secs / GAP_S)
        while sent < total:
            due = min(int((loop.time() - began) / GAP_S), total)
            while sent < due:
                sent += 1
                token = Token(run_id, sent, "a", [" word"])
                if not outlet.offer(token):
                    await outlet.send(token)
            await asyncio.sleep(began + (sent + 1) * GAP_S - loop.time())
        outlet.close()

    async def _flood(self, _: FlushEvents) -> Pong:
        """Offer 1 KiB items to readers that stand still, a thousand times as many as they could hold."""
        process = psutil.Process()
        outlets = [self.fabric.stream("near", TokenStream(f"run-{i}", "stopped")) for i in range(STREAMS)]
        item, accepted, rss = Token("run", 1, "a", [KIB]), 0, [process.memory_info().rss]
        for turns in (50, 1000):  # first the window fills, then nothing may happen any more
            for _turn in range(turns):
                for outlet in outlets:
                    accepted += sum(outlet.offer(item) for _ in range(256))
                await asyncio.sleep(0)
            rss.append(process.memory_info().rss)
        for outlet in outlets:
            outlet.close()
        mib = [round((after - before) / 2**20, 1) for before, after in pairwise(rss)]
        return Pong("far", 0, stats={"accepted": accepted, "window_mib": mib[0], "grown_mib": mib[1]})


def pair(kind: str, folder: Path) -> tuple[Any, Any]:
    """Two Ray actors that know each other."""
    options = {"num_cpus": 0, "max_concurrency": 1000}
    near, far = ray.remote(Near).options(**options).remote(), ray.remote(Far).options(**options).remote()
    where = [f"unix:{folder}/{kind}-near", f"unix:{folder}/{kind}-far"] if kind == "unix" else ["tcp:127.0.0.1:0"] * 2
    found = ray.get([near.start.remote(where[0]), far.start.remote(where[1])])
    ray.get([near.meet.remote(found[1]), far.know.remote(found[0])])
    return near, far


def round_trips(near: Any, far: Any, in_flight: int, secs: float) -> dict[str, float]:
    before = ray.get(far.cpu.remote())
    run = ray.get(near.ask.remote(in_flight, secs))
    return _per(run, ray.get(far.cpu.remote()) - before)


def streams(near: Any, far: Any, secs: float) -> dict[str, float]:
    before = ray.get(far.cpu.remote())
    run = ray.get(near.receive.remote(secs))
    return _per(run, ray.get(far.cpu.remote()) - before)


def _per(run: dict[str, float], far_cpu_s: float) -> dict[str, float]:
    found = {name: round(run[name], 1) for name in ("per_s", "p50_us", "p99_us") if name in run}
    return {**found, "cpu_us": round((run["cpu_s"] + far_cpu_s) / run["count"] * 1e6, 1)}


def remote_calls(far: Any, in_flight: int, secs: float) -> dict[str, float]:
    """The same over `.remote()`, from this driver."""
    tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
    message = {"text": KIB}

    async def loop() -> dict[str, float]:
        latencies: list[float] = []
        end = time.perf_counter() + secs

        async def caller() -> None:
            while time.perf_counter() < end:
                began = time.perf_counter()
                await far.echo.remote(message)
                latencies.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(in_flight)))
        latencies.sort()
        return {
            "per_s": len(latencies) / (time.perf_counter() - began),
            "p50_us": latencies[len(latencies) // 2] * 1e6,
            "p99_us": latencies[int(len(latencies) * 0.99)] * 1e6,
            "cpu_s": 0.0,
            "count": len(latencies),
        }

    before = sum(sum(p.cpu_times()[:2]) for p in tree)
    run = asyncio.run(loop())
    return _per(run, sum(sum(p.cpu_times()[:2]) for p in tree) - before)


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--secs", type=float, default=1.5)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args()
    here = str(Path(__file__).resolve().parent)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        ray.init(
            address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            object_store_memory=100 << 20, runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([here, *sys.path])}},
        )  # fmt: skip
        for kind in ("unix", "tcp"):
            near, far = pair(kind, Path(folder))
            for in_flight in (1, 16, 128):
                runs = [round_trips(near, far, in_flight, args.secs) for _ in range(args.reps)]
                found[f"{kind} ask x{in_flight}"] = median(runs)
            found[f"{kind} 64 streams at 5 ms"] = median([streams(near, far, args.secs * 2) for _ in range(args.reps)])
            stopped = median([ray.get(near.stand_still.remote(args.secs)) for _ in range(args.reps)])
            found[f"{kind} stopped reader"] = stopped
        for in_flight in (1, 128):
            found[f"remote x{in_flight}"] = median([remote_calls(far, in_flight, args.secs) for _ in range(args.reps)])
        ray.shutdown()
    found["ratio"] = {
        f"{kind} x{n}": round(found[f"{kind} ask x{n}"]["per_s"] / found[f"remote x{n}"]["per_s"], 1)
        for kind in ("unix", "tcp")
        for n in (1, 128)
    }
    if args.json:
        print(json.dumps(found))
        return
    print("| transport | per s | p50 us | p99 us | CPU us |\n|---|---|---|---|---|")
    for name, row in found.items():
        if "per_s" in row:
            cells = [f"{row[key]:,.0f}" if key in row else "-" for key in ("per_s", "p50_us", "p99_us", "cpu_us")]
            print(f"| {name} | {' | '.join(cells)} |")
    for kind in ("unix", "tcp"):
        print(f"\n{kind}, a reader that stands still: {found[f'{kind} stopped reader']}")
    print(f"\nround trips of the fabric over those of .remote(): {found['ratio']}")


if __name__ == "__main__":
    main()
