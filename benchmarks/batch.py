"""The batch job: rows a second beside a bare script, interactive latency beside a batch, memory of a million rows.

    python benchmarks/batch.py --bench ../shared/bench --json
    python benchmarks/batch.py --only memory --rows 10000,100000,1000000

`--bench` is the folder with the fake upstream (upstream.py) and the load generator (load.py).

*throughput*: the same prompts at the same concurrency to the same upstream, which answers with `--first-ms` and
`--between-ms` of delay; by a bare script (asyncio and aiohttp, one connection per request in flight, answers to a file)
and as a batch job on a served system. Both take turns, round by round; figures are medians. *interactive*: requests
that come at a steady rate to the served system alone, and while a batch job saturates it: `room`, where replicas take
more than the batch has in flight, and `tight`, where it has four times as much in flight as they take. *memory*: peak
resident memory of a job whose client answers at once, in a process of its own.

Everything shares the machine: compare ratios within one run. Every loop is bounded; everything listens on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import chat

HERE = Path(__file__).resolve().parent
PARTS = ("throughput", "interactive", "memory")
TIGHT_IN_FLIGHT = 8
UPSTREAMS = {f"UPSTREAM_{i}": f"http://127.0.0.1:{chat.UPSTREAM_PORT + i}/v1" for i in range(4)}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, default=HERE.parent.parent / "shared" / "bench")
    parser.add_argument("--only", default=",".join(PARTS), help="comma list of " + ", ".join(PARTS))
    parser.add_argument("--concurrency", default="64,256", help="comma list, of throughput")
    parser.add_argument("--secs", type=float, default=10.0, help="about so long a round takes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first-ms", type=float, default=300.0)
    parser.add_argument("--between-ms", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=10.0, help="interactive requests a second")
    parser.add_argument("--rows", default="10000,100000,1000000", help="comma list, of memory")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--as", dest="role", default="", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    roles = {"bare": bare, "job": job, "stub": stub}
    if args.role:
        asyncio.run(roles[args.role](*args.rest))
        return
    result: dict[str, Any] = {"machine": {"cpus": os.cpu_count(), "python": platform.python_version()}}
    wanted = args.only.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "throughput" in wanted or "interactive" in wanted:
            with ExitStack() as stack:
                upstream(args, stack)
                if "throughput" in wanted:
                    result["throughput"] = throughput(args, folder)
                if "interactive" in wanted:
                    result["interactive"] = {
                        "room": interactive(args, folder, "room", 64, []),
                        "tight": interactive(args, folder, "tight", 8 * TIGHT_IN_FLIGHT, tight()),
                    }
        if "memory" in wanted:
            result["memory"] = [memory(int(rows), folder) for rows in args.rows.split(",")]
    print(json.dumps(result) if args.json else table(result))


def upstream(args: argparse.Namespace, stack: ExitStack) -> None:
    if not (args.bench / "upstream.py").exists():
        sys.exit(f"no upstream.py in {args.bench}: name the folder with --bench")
    command = [sys.executable, str(args.bench / "upstream.py"), "--port", str(chat.UPSTREAM_PORT), "--n", "4"]
    delays = ["--ttft-ms", str(args.first_ms), "--itl-ms", str(args.between_ms)]
    stack.enter_context(chat.process([*command, *delays], {}))
    chat.wait_for(f"http://127.0.0.1:{chat.UPSTREAM_PORT}/stats", 20)


def tight() -> list[str]:
    """Replicas that take a quarter of what the batch has in flight: two agents, of which the batch uses one."""
    agents = [("agent-a", "upstream-a"), ("agent-b", "upstream-b")]
    replicas = f"{{min: 2, max: 2, max_in_flight: {TIGHT_IN_FLIGHT}}}"
    listed = ", ".join(f"{{name: {name}, model: {model}, replicas: {replicas}}}" for name, model in agents)
    return [f"agents=[{listed}]"]


def serving(args: argparse.Namespace, state: Path, overrides: list[str], stack: ExitStack) -> int:
    """A served system on `state`; its process id."""
    changes = [word for override in overrides for word in ("--set", override)]
    serve = ["serve", str(HERE / "chat.yaml"), "--port", str(chat.SERVER_PORT), "--state", str(state)]
    running = stack.enter_context(chat.process([sys.executable, "-m", "rayflow", *serve, *changes], UPSTREAMS))
    chat.first_answer(120)
    return running.pid


# --- throughput ---


def throughput(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    answer_s = (args.first_ms + 64 * args.between_ms) / 1e3
    with ExitStack() as stack:
        serving(args, folder / "state", [], stack)
        for concurrency in map(int, args.concurrency.split(",")):
            prompts = dataset(folder / f"{concurrency}.jsonl", int(args.secs / answer_s * concurrency))
            rates: dict[str, list[float]] = {"bare": [], "job": []}
            for number in range(args.rounds):
                out = folder / f"{concurrency}-{number}"
                for role, words in (("bare", [str(out) + ".out"]), ("job", [str(out), str(folder / "state")])):
                    rates[role].append(child(role, str(prompts), str(concurrency), *words)["rows_per_s"])
            medians = {role: statistics.median(values) for role, values in rates.items()}
            found[f"c={concurrency}"] = {
                **{role: round(value, 1) for role, value in medians.items()},
                "ratio": round(medians["job"] / medians["bare"], 3),
                "rounds": rates,
            }
            print(f"throughput c={concurrency}: {found[f'c={concurrency}']}", file=sys.stderr)
    return found


def dataset(path: Path, rows: int) -> Path:
    with path.open("w") as file:
        for n in range(rows):
            file.write(json.dumps({"id": f"q{n}", "prompt": f"code: question {n} " + "about a refund " * 8}) + "\n")
    return path


def child(role: str, *words: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__)), "--as", role, *words]
    env = {**os.environ, **UPSTREAMS}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=3600, check=True, env=env)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


async def bare(prompts: str, concurrency: str, out: str) -> None:
    """What somebody writes who needs it once: a queue, workers, aiohttp, a line for each answer."""
    import aiohttp

    urls = [f"http://127.0.0.1:{chat.UPSTREAM_PORT + i}/v1/chat/completions" for i in range(2)]
    rows = [json.loads(line) for line in Path(prompts).read_text().splitlines()]
    left = iter(enumerate(rows))
    began = time.perf_counter()
    connector = aiohttp.TCPConnector(limit=0)
    with Path(out).open("w") as file:
        async with aiohttp.ClientSession(connector=connector) as session:

            async def work() -> None:
                for number, row in left:
                    body = {"model": "fake", "messages": [{"role": "user", "content": row["prompt"]}]}
                    async with session.post(urls[number % 2], json=body) as response:
                        answer = await response.json()
                    text = answer["choices"][0]["message"]["content"]
                    file.write(json.dumps({"id": row["id"], "answer": text}) + "\n")

            await asyncio.gather(*(work() for _ in range(int(concurrency))))
    print(json.dumps({"rows_per_s": len(rows) / (time.perf_counter() - began)}))


async def job(prompts: str, concurrency: str, out: str, state: str) -> None:
    """The same as a job on the served system."""
    from rayflow.app.attach import open_client
    from rayflow.batch.directory import JobDirectory
    from rayflow.batch.inputs.source import Source
    from rayflow.batch.run import run_job
    from rayflow.batch.spec import Inputs, JobSpec, Limits

    spec = JobSpec(Inputs([prompts]), limits=Limits(concurrency=int(concurrency)))
    directory = JobDirectory(Path(out))
    async with open_client(HERE / "chat.yaml", state=Path(state)) as client:
        status = await run_job(client, directory, directory.plan(spec, client.now_us()), Source(spec.inputs))
    assert not status.totals.failed, status
    print(json.dumps({"rows_per_s": status.totals.rows / status.elapsed_s}))


# --- interactive ---


def interactive(
    args: argparse.Namespace, folder: Path, name: str, concurrency: int, overrides: list[str]
) -> dict[str, Any]:
    """Latency of requests that come at a steady rate, without and with a batch beside them."""
    state = folder / f"state-{name}"
    prompts = dataset(folder / f"{name}.jsonl", 1_000_000 // 50)
    rounds: dict[str, list[dict[str, Any]]] = {"idle": [], "batch": []}
    with ExitStack() as stack:
        serving(args, state, overrides, stack)
        for number in range(args.rounds):
            rounds["idle"].append(load(args, number))
            words = [str(prompts), str(concurrency), str(folder / f"{name}-{number}"), str(state)]
            with chat.process([sys.executable, str(Path(__file__)), "--as", "job", *words], UPSTREAMS):
                time.sleep(4.0)  # until it is in full swing
                rounds["batch"].append(load(args, number))
    found: dict[str, Any] = {}
    for kind, runs in rounds.items():
        found[kind] = {figure: statistics.median(run[figure] for run in runs) for figure in ("p50", "p99")}
        found[kind]["errors"] = sum(run["err"] for run in runs)
    found["p99_ratio"] = round(found["batch"]["p99"] / found["idle"]["p99"], 3)
    print(f"interactive {name}: {found}", file=sys.stderr)
    return found


def load(args: argparse.Namespace, number: int) -> dict[str, Any]:
    command = [
        *(sys.executable, str(args.bench / "load.py"), f"http://127.0.0.1:{chat.SERVER_PORT}"),
        *("--rate", str(args.rate), "--secs", str(args.secs), "--warm", "1", "--seed", str(number + 1)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


# --- memory ---


def memory(rows: int, folder: Path) -> dict[str, Any]:
    prompts = dataset(folder / f"{rows}.jsonl", rows)
    found = {"rows": rows, **child("stub", str(prompts), str(folder / f"memory-{rows}"))}
    prompts.unlink()
    print(f"memory: {found}", file=sys.stderr)
    return found


async def stub(prompts: str, out: str) -> None:
    """A job whose client answers at once: what is left is the engine."""
    from rayflow.batch.directory import JobDirectory
    from rayflow.batch.inputs.source import Source
    from rayflow.batch.run import run_job
    from rayflow.batch.spec import Inputs, JobSpec
    from rayflow.chat import Usage
    from rayflow.config.load import load_or_example
    from rayflow.events import Event
    from rayflow.messages import RunRequest, RunResult

    class Stub:
        config = load_or_example(None, ())

        async def run(self, request: RunRequest, timeout_s: float | None = None) -> RunResult:
            await asyncio.sleep(0)
            text = f"an answer to {request.messages[0].text}"
            return RunResult(request.run_id, request.session_id, text, "stop", Usage(30, 60), "stub", ["one"])

        def emit(self, event: Event) -> None:
            pass

        def now_us(self) -> int:
            return time.time_ns() // 1000

    spec, directory, client = JobSpec(Inputs([prompts])), JobDirectory(Path(out)), Stub()
    status = await run_job(client, directory, directory.plan(spec, client.now_us()), Source(spec.inputs))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mb": round(peak_mb, 1), "rows_per_s": round(status.totals.rows / status.elapsed_s)}))


def table(result: dict[str, Any]) -> str:
    return "\n".join(lines(result))


def lines(result: dict[str, Any]) -> Iterator[str]:
    if throughputs := result.get("throughput"):
        yield "\n| rows/s | bare script | batch job | ratio |\n|---|---|---|---|"
        for name, found in throughputs.items():
            yield f"| {name} | {found['bare']:,.1f} | {found['job']:,.1f} | {found['ratio']:.2f} |"
    if interactives := result.get("interactive"):
        yield "\n| interactive p50 / p99 ms | alone | beside a batch | ratio of p99 |\n|---|---|---|---|"
        for name, found in interactives.items():
            idle, batch = found["idle"], found["batch"]
            cells = f"{idle['p50']:.0f} / {idle['p99']:.0f} | {batch['p50']:.0f} / {batch['p99']:.0f}"
            yield f"| {name} | {cells} | {found['p99_ratio']:.2f} |"
    if memories := result.get("memory"):
        yield "\n| rows | peak MB | rows/s |\n|---|---|---|"
        for found in memories:
            yield f"| {found['rows']:,} | {found['peak_mb']:.0f} | {found['rows_per_s']:,} |"


if __name__ == "__main__":
    main()
