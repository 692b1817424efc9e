"""What a hop costs: round trips and streamed tokens between two Ray actors, over the fabric and over `.remote()`.

    python benchmarks/fabric.py --json
    python benchmarks/fabric.py --reps 5 --secs 2

Two actors in two processes exchange 1 KiB each way. Every figure is the median of `--reps` runs of `--secs` seconds;
the CPU is that of both actor processes (for `.remote()` of the whole Ray tree). Ratios within one run count, absolute
figures depend on the machine.
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
from pathlib import Path
from typing import Any

os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import psutil
import ray

from rayflow.chat import Usage
from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.messages import AgentReply, CancelRun, Endpoint, Ping, Pong, Token

SECRET = b"benchmark"
KIB = "x" * 1000


class Near:
    """Asks, and hosts the client of streams."""

    async def start(self, endpoint: str) -> str:
        self.fabric = SocketFabric(endpoint, SECRET)
        await self.fabric.start()
        self.bind()
        return self.fabric.endpoint

    def bind(self) -> None:
        self.tokens = 0
        self.fabric.bind("near", {Token: self._token})

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

    async def receive(self, streams: int, gap_s: float, secs: float) -> dict[str, float]:
        self.tokens = 0
        cpu, began = time.process_time(), time.perf_counter()
        await self.fabric.ask("far", Pong(f"{streams} {gap_s} {secs}", 0), secs + 30)
        took = time.perf_counter() - began
        return {"per_s": self.tokens / took, "cpu_s": time.process_time() - cpu, "count": self.tokens}

    def _token(self, token: Token) -> None:
        self.tokens += len(token.pieces)

    async def cpu(self) -> float:
        return time.process_time()

    async def echo(self, message: dict[str, str]) -> dict[str, str]:
        return message


class Far(Near):
    """Answers, and sends the streams."""

    def bind(self) -> None:
        reply = AgentReply(KIB, "stop", Usage(), "", 0.0)
        self.fabric.bind("far", {CancelRun: lambda _: reply, Pong: self._stream})

    async def know(self, endpoint: str) -> None:
        self.fabric.directory.put(Endpoint("near", endpoint))

    async def _stream(self, request: Pong) -> Ping:
        streams, gap_s, secs = (float(word) for word in request.address.split())
        await asyncio.gather(*(self._one(f"run-{i}", gap_s, secs) for i in range(int(streams))))
        return Ping()

    async def _one(self, run_id: str, gap_s: float, secs: float) -> None:
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        while True:
            due = min(int((loop.time() - began) / gap_s), int(secs / gap_s))
            while sent < due:
                sent += 1
                self.fabric.tell("near", Token(run_id, sent, "a", [" word"]))
            if sent >= int(secs / gap_s):
                return
            await asyncio.sleep(began + (sent + 1) * gap_s - loop.time())


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
    run = ray.get(near.receive.remote(64, 0.005, secs))
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
        for in_flight in (1, 128):
            found[f"remote x{in_flight}"] = median([remote_calls(far, in_flight, args.secs) for _ in range(args.reps)])
        ray.shutdown()
    found["ratio"] = {
        f"x{n}": round(found[f"unix ask x{n}"]["per_s"] / found[f"remote x{n}"]["per_s"], 1) for n in (1, 128)
    }
    if args.json:
        print(json.dumps(found))
        return
    print("| transport | per s | p50 us | p99 us | CPU us |\n|---|---|---|---|---|")
    for name, row in found.items():
        if name != "ratio":
            cells = [f"{row[key]:,.0f}" if key in row else "-" for key in ("per_s", "p50_us", "p99_us", "cpu_us")]
            print(f"| {name} | {' | '.join(cells)} |")
    print(f"\nround trips of the fabric over those of .remote(): {found['ratio']}")


if __name__ == "__main__":
    main()
