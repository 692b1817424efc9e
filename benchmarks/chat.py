"""The chat job: requests a second, CPU, latency and time to first token, for rayflow and for peers in the same run.

    python benchmarks/chat.py --bench ../shared/bench --json
    python benchmarks/chat.py --bench ../shared/bench --peers asyncio,rayactors --reps 3

`--bench` is a folder with the fake upstream (upstream.py), the load generator (load.py) and the peers (peer_*.py).
Server, upstream and load generator share the machine: compare ratios within one run, never figures between machines.
Every loop is bounded; everything listens on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
UPSTREAM_PORT, SERVER_PORT = 9300, 8100
SCENARIOS = {
    # name: (first token ms, between tokens ms, extra arguments of the load generator, clients)
    "json": (0, 0, [], (1, 16, 64, 256)),
    "stream": (0, 0, ["--stream"], (1, 16, 64)),
    "fanout": (0, 0, ["--path", "fanout"], (16,)),
    "paced": (50, 5, ["--stream"], (1, 64, 256)),
}
FIGURES = ("rps", "p50", "p99", "cpu_s_per_1k", "ttft50", "ttft99", "tok_s", "cores", "foreign", "hist", "err")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, default=HERE.parent.parent / "shared" / "bench")
    parser.add_argument(
        "--peers", default="", help="comma list of asyncio, rayactors (from --bench) to run beside rayflow"
    )
    parser.add_argument("--only", default="", help="comma list of scenarios: " + ", ".join(SCENARIOS))
    parser.add_argument("--clients", default="", help="comma list of client counts")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--secs", type=float, default=2.0)
    parser.add_argument("--set", action="append", default=[], help="override a key of benchmarks/chat.yaml")
    parser.add_argument("--serve-flag", action="append", default=[], help="a further flag of rayflow serve")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if not (args.bench / "upstream.py").exists():
        sys.exit(f"no upstream.py in {args.bench}: name the folder with --bench")
    result: dict[str, Any] = {"machine": {"cpus": os.cpu_count(), "python": platform.python_version()}, "servers": {}}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(upstreams(args.bench))
        for name in ["rayflow", *filter(None, args.peers.split(","))]:
            result["servers"][name] = measure(name, args, folder, upstream.pid)
    if args.json:
        print(json.dumps(result))
    else:
        print(table(result))


def measure(name: str, args: argparse.Namespace, folder: Path, upstream: int) -> dict[str, Any]:
    """One server through all scenarios."""
    command, env = server(name, args, folder)
    began = time.monotonic()
    with process(command, env) as running:
        first_answer(120)
        found: dict[str, Any] = {
            "cold_start_s": round(time.monotonic() - began, 2),
            "idle": memory(running.pid),
            "runs": {},
        }
        for scenario, (first_ms, between_ms, extra, clients) in SCENARIOS.items():
            if args.only and scenario not in args.only.split(","):
                continue
            fetch(f"http://127.0.0.1:{UPSTREAM_PORT}/cfg?ttft={first_ms}&itl={between_ms}&tokens=64")
            for count in clients:
                if args.clients and str(count) not in args.clients.split(","):
                    continue
                runs = [load(args, count, extra, running.pid, upstream, rep) for rep in range(args.reps)]
                found["runs"][f"{scenario} c={count}"] = summary(runs)
                print(f"{name} {scenario} c={count}: {summary(runs)}", file=sys.stderr)
        found["after_load"] = memory(running.pid)
    return found


@contextmanager
def upstreams(bench: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The fake endpoints of the models."""
    command = [sys.executable, str(bench / "upstream.py"), "--port", str(UPSTREAM_PORT), "--n", "4"]
    with process(command, {}) as running:
        wait_for(f"http://127.0.0.1:{UPSTREAM_PORT}/stats", 20)
        yield running


def server(
    name: str, args: argparse.Namespace, folder: Path, port: int = SERVER_PORT
) -> tuple[list[str], dict[str, str]]:
    if name != "rayflow":
        script = args.bench / f"peer_{name}.py"
        return [sys.executable, str(script)], {
            "PORT": str(port),
            "UPSTREAM": f"http://127.0.0.1:{UPSTREAM_PORT}",
        }
    env = {f"UPSTREAM_{i}": f"http://127.0.0.1:{UPSTREAM_PORT + i}/v1" for i in range(4)}
    overrides = [word for override in args.set for word in ("--set", override)]
    serve = ["serve", str(HERE / "chat.yaml"), "--port", str(port), "--state", str(folder / "state")]
    return [sys.executable, "-m", "rayflow", *serve, *overrides, *args.serve_flag], env


def load(
    args: argparse.Namespace,
    clients: int,
    extra: list[str],
    server: int,
    upstream: int,
    rep: int,
    port: int = SERVER_PORT,
) -> dict[str, Any]:
    """One bounded run of the load generator."""
    command = [
        *(sys.executable, str(args.bench / "load.py"), f"http://127.0.0.1:{port}"),
        *("--c", str(clients), "--secs", str(args.secs), "--warm", "0.7"),
        *("--pids", str(server), "--also", str(upstream), "--seed", str(rep + 1)),
        *extra,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the repetitions; errors are added up, and the spread of requests/s is kept."""
    found: dict[str, Any] = {}
    for figure in FIGURES:
        values = [run[figure] for run in runs if run.get(figure) is not None]
        if values:
            found[figure] = sum(values) if figure == "err" else statistics.median(values)
    found["rps_range"] = [min(run["rps"] for run in runs), max(run["rps"] for run in runs)]
    return found


@contextmanager
def process(command: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is gone, with all of its own children, when the context ends."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **env}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        family = tree(child.pid)
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for straggler in psutil.wait_procs(family, timeout=5)[1]:
            straggler.kill()


def tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def memory(pid: int) -> dict[str, int]:
    pss = 0
    processes = tree(pid)
    for member in processes:
        try:
            pss += member.memory_full_info().pss
        except psutil.Error:
            continue
    return {"processes": len(processes), "pss_mb": round(pss / 1e6)}


def first_answer(limit_s: float, port: int = SERVER_PORT) -> None:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "code: hi"}]}).encode()
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    wait_for(request, limit_s)


def wait_for(target: str | urllib.request.Request, limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while True:
        try:
            fetch(target)
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def fetch(target: str | urllib.request.Request) -> bytes:
    with urllib.request.urlopen(target, timeout=20) as response:
        body: bytes = response.read()
        return body


def table(result: dict[str, Any]) -> str:
    lines = []
    for scenario in dict.fromkeys(run for found in result["servers"].values() for run in found["runs"]):
        lines.append(
            f"\n**{scenario}**\n\n| server | requests/s | p50 / p99 ms | first token p50 / p99 ms | tokens/s | CPU ms |"
        )
        lines.append("|---|---|---|---|---|---|")
        for name, found in result["servers"].items():
            run = found["runs"].get(scenario, {})
            cells = [
                f"{run.get('rps', 0):,.0f} [{run['rps_range'][0]:,.0f}-{run['rps_range'][1]:,.0f}]",
                f"{run.get('p50', 0):.1f} / {run.get('p99', 0):.1f}",
                f"{run['ttft50']:.1f} / {run['ttft99']:.1f}" if "ttft50" in run else "-",
                f"{run['tok_s']:,.0f}" if "tok_s" in run else "-",
                f"{run.get('cpu_s_per_1k', 0):.2f}",
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("\n| server | cold start s | processes | PSS MB idle | after load |\n|---|---|---|---|---|")
    for name, found in result["servers"].items():
        idle, after = found["idle"], found["after_load"]
        lines.append(
            f"| {name} | {found['cold_start_s']} | {idle['processes']} | {idle['pss_mb']} | {after['pss_mb']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
