"""The policies on live Ray, against real endpoints: slow replicas, steps, floods, budgets and endpoints that fail.

    python benchmarks/live_policies.py
    python benchmarks/live_policies.py --only slow-replica,step --json

Each scenario serves a workflow of its own over `rayflow model serve` endpoints, sends an open-loop load (latency counts
from the planned arrival), and prints what `docs/policies.md` promises beside what was measured. Server, endpoints and
load share the machine. Every loop is bounded; everything listens on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from chat import process

PORT = 8100
ENDPOINT_PORT = 9400
URL = f"http://127.0.0.1:{PORT}"
Figures = dict[str, Any]


# --- processes ---


def rayflow(*arguments: str) -> AbstractContextManager[Any]:
    """The command as a child that is gone, with all of its own children, when the context ends."""
    return process([sys.executable, "-m", "rayflow", *arguments], {})


@contextmanager
def endpoint(number: int, **options: float) -> Iterator[str]:
    """A model endpoint. `options`: those of `rayflow model serve`."""
    flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with rayflow("model", "serve", "--port", str(ENDPOINT_PORT + number), *flags):
        yield f"http://127.0.0.1:{ENDPOINT_PORT + number}/v1"


@asynccontextmanager
async def served(workflow: dict[str, Any], headers: dict[str, str] | None = None) -> AsyncIterator[Client]:
    """The workflow, served and answering. A workflow file is YAML, and JSON is YAML. `headers`: of the first calls."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "workflow.yaml"
        file.write_text(json.dumps(workflow))
        with rayflow("serve", str(file), "--port", str(PORT), "--state", folder):
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
                client = Client(http, Path(folder))
                await client.until_ready(headers)
                yield client


def workflow(endpoints: Sequence[str], agent: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    return {
        "name": "live",
        "agents": [{"name": "helper", "model": "m", **(agent or {})}],
        "models": [
            {"name": "m", "provider": "openai", "base_url": list(endpoints), "api_key": "none", **sections.pop("m", {})}
        ],
        **sections,
    }


# --- load ---


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: how it ended. `status` 0: no answer. `kind`: what the scenario called it. Seconds."""

    kind: str
    at: float
    status: int
    latency_s: float
    retry_after: str = ""
    slug: str = ""


@dataclass(slots=True)
class Client:
    http: aiohttp.ClientSession
    state: Path
    sent: list[Sent] = field(default_factory=list)

    async def until_ready(self, headers: dict[str, str] | None = None) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                if (await self.ask("warm-up", headers=headers)).status == 200:
                    self.sent.clear()
                    return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
        raise TimeoutError("the workflow did not answer within a minute")

    async def ask(
        self, kind: str = "", due: float | None = None, headers: dict[str, str] | None = None, **body: Any
    ) -> Sent:
        began = time.monotonic()
        due = began if due is None else due
        question = {"model": "auto", "messages": [{"role": "user", "content": "Hello, how are you?"}], **body}
        status, retry_after, slug = 0, "", ""
        try:
            async with self.http.post(f"{URL}/v1/chat/completions", json=question, headers=headers or {}) as answer:
                content = await answer.read()
                status, retry_after = answer.status, answer.headers.get("retry-after", "")
                if status != 200:
                    slug = (json.loads(content).get("error") or {}).get("code") or ""
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            pass
        one = Sent(kind, began, status, time.monotonic() - due, retry_after, slug)
        self.sent.append(one)
        return one

    async def offer(
        self, rate: float, seconds: float, kind: str = "", seed: int = 1, headers: dict[str, str] | None = None,
        **body: Any,
    ) -> list[Sent]:  # fmt: skip
        """Poisson arrivals for so many seconds; all answers."""
        rng, start, due, tasks = random.Random(seed), time.monotonic(), 0.0, []
        while (due := due + rng.expovariate(rate)) < seconds:
            await asyncio.sleep(max(0.0, start + due - time.monotonic()))
            tasks.append(asyncio.create_task(self.ask(kind, start + due, headers, **body)))
        return list(await asyncio.gather(*tasks))

    async def replicas(self, agent: str = "helper") -> int:
        """How many replicas the agent has in the rotation now."""
        status = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rayflow", "status", "--json", "--state", str(self.state),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        out, _ = await status.communicate()
        actors = json.loads(out or b"{}").get("actors", [])
        return sum(one["address"].startswith(f"agent/{agent}/") and one["state"] == "ready" for one in actors)


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


def latencies(sent: Sequence[Sent]) -> Figures:
    good = [one.latency_s for one in sent if one.status == 200]
    return {
        "requests": len(sent),
        "statuses": dict(Counter(str(one.status) for one in sent)),
        "p50_ms": round(1000 * quantile(good, 0.5), 1),
        "p99_ms": round(1000 * quantile(good, 0.99), 1),
    }


def events(client: Client, sql: str) -> list[dict[str, Any]]:
    """The event log, by `rayflow query`."""
    done = subprocess.run(
        [sys.executable, "-m", "rayflow", "query", sql, "--state", str(client.state), "--format", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


# --- scenarios ---


async def slow_replica() -> Figures:
    """One replica of four is 20 times slower: p99 of all requests at most twice the clean run's with
    fastest_response."""
    found: Figures = {}
    four = {"replicas": {"min": 4, "max": 4}}
    for slow in (1, 20):
        with endpoint(0, ttft_ms=50), endpoint(1, ttft_ms=50), endpoint(2, ttft_ms=50), endpoint(3, ttft_ms=50 * slow):
            urls = [f"http://127.0.0.1:{ENDPOINT_PORT + n}/v1" for n in range(4)]
            for strategy in ("least_busy", "power_of_two", "fastest_response", "prequal"):
                async with served(workflow(urls, four, balancing={"strategy": strategy})) as client:
                    sent = await client.offer(60, 20)
                    found[f"{strategy} {'clean' if slow == 1 else 'one slow'}"] = latencies(sent)
    for strategy in ("least_busy", "power_of_two", "fastest_response", "prequal"):
        clean, slowed = found[f"{strategy} clean"]["p99_ms"], found[f"{strategy} one slow"]["p99_ms"]
        found[f"{strategy} p99 ratio"] = round(slowed / clean, 2)
    return found


async def step() -> Figures:
    """Load rises 20 times at once: the first new agent serves within 5 s, a warm spare within 1 s; when the load is
    gone the pool shrinks, and no request is lost."""
    found: Figures = {}
    for spares in (0, 1):
        with endpoint(0, ttft_ms=200) as url:
            agent = {"replicas": {"min": 1, "max": 4, "max_in_flight": 4, "spares": spares}}
            scaling = {"strategy": "target_concurrency", "down_delay_s": 5, "stable_window_s": 10}
            async with served(workflow([url], agent, scaling=scaling)) as client:
                await client.offer(2, 5)
                at = time.time()
                sent = await client.offer(40, 20)
                await asyncio.gather(client.offer(2, 25, seed=2), asyncio.sleep(25))
                lost = sum(one.status != 200 for one in client.sent)
                await asyncio.sleep(2)
                rows = events(
                    client,
                    "SELECT kind, replica, epoch_us(ts)/1e6 AS at, data FROM events WHERE kind IN"
                    " ('pool.scaled', 'agent.started') ORDER BY ts",
                )
                served_by = [(r["at"], r["replica"]) for r in rows if r["kind"] == "agent.started"]
                before = {replica for when, replica in served_by if when < at}
                new = [when for when, replica in served_by if when >= at and replica not in before]
                ordered = [r["at"] for r in rows if r["kind"] == "pool.scaled" and r["at"] >= at]
                found[f"spares {spares}"] = {
                    "ordered_after_s": round(ordered[0] - at, 2) if ordered else None,
                    "first_new_replica_serves_after_s": round(new[0] - at, 2) if new else None,
                    "not_answered": lost,
                    "replicas_at_the_end": await client.replicas(),
                    **latencies(sent),
                }
    return found


async def overload() -> Figures:
    """Three times the capacity: goodput at least 90 % of capacity, accepted p99 within the deadline, rejections within
    50 ms and with Retry-After."""
    with endpoint(0, ttft_ms=200) as url:
        agent = {"replicas": {"min": 2, "max": 2, "max_in_flight": 8}}
        async with served(workflow([url], agent, admission={"max_wait_s": 1.0})) as client:
            full = latencies(await client.offer(64, 5))
            clean = await capacity(client, 32, 8.0)
            begun = time.monotonic()
            sent = await client.offer(3 * clean, 15, headers={"x-timeout-s": "2"})
            took = time.monotonic() - begun
            refused = [one for one in sent if one.status in (429, 503)]
            good = [one for one in sent if one.status == 200]
            return {
                "below_capacity": full,
                "capacity_rps": round(clean, 1),
                "goodput_rps": round(len(good) / took, 1),
                "goodput_of_capacity": round(len(good) / took / clean, 3),
                "accepted_p99_ms": latencies(sent)["p99_ms"],
                "deadline_ms": 2000,
                "rejected": len(refused),
                "rejected_p99_ms": round(1000 * quantile([one.latency_s for one in refused], 0.99), 1),
                "rejected_without_retry_after": sum(not one.retry_after for one in refused),
                "statuses": latencies(sent)["statuses"],
            }


async def capacity(client: Client, clients: int, seconds: float) -> float:
    """Requests a second of a closed loop."""
    until, done = time.monotonic() + seconds, 0

    async def loop() -> None:
        nonlocal done
        while time.monotonic() < until:
            answer = await client.ask("capacity")
            done += answer.status == 200

    await asyncio.gather(*(loop() for _ in range(clients)))
    return done / seconds


async def priority() -> Figures:
    """Batch floods at 12 times the interactive load and beyond capacity: interactive success at least 99 %."""
    with endpoint(0, ttft_ms=200) as url:
        agent = {"replicas": {"min": 2, "max": 2, "max_in_flight": 8}}
        async with served(workflow([url], agent, admission={"max_wait_s": 2.0})) as client:
            interactive, batch = await asyncio.gather(
                client.offer(20, 15, "interactive"),
                client.offer(240, 15, "batch", 2, {"x-rayflow-priority": "batch"}),
            )
            good = sum(one.status == 200 for one in interactive)
            return {
                "interactive_success": round(good / len(interactive), 4),
                "interactive": latencies(interactive),
                "batch": latencies(batch),
            }


async def tenants() -> Figures:
    """Two tenants with 10:1 demand, weights 1:1 and then 1:3: each gets its share of the tokens within 10 %."""
    found: Figures = {}
    for weight in (1, 3):
        with endpoint(0, ttft_ms=200) as url:
            agent = {"replicas": {"min": 2, "max": 2, "max_in_flight": 4}}
            named = [
                {"name": "loud", "api_keys": ["loud-key"], "weight": 1},
                {"name": "quiet", "api_keys": ["quiet-key"], "weight": weight},
            ]
            keys = {name: {"authorization": f"Bearer {name}-key"} for name in ("loud", "quiet")}
            flow = workflow([url], agent, tenants=named, admission={"max_wait_s": 3.0})
            async with served(flow, keys["loud"]) as client:
                loud, quiet = await asyncio.gather(
                    client.offer(600, 12, "loud", 1, keys["loud"]), client.offer(60, 12, "quiet", 2, keys["quiet"])
                )
                a, b = (sum(one.status == 200 for one in sent) for sent in (loud, quiet))
                found[f"weights 1:{weight}"] = {
                    "loud": a,
                    "quiet": b,
                    "quiet_share": round(b / (a + b), 3),
                    "configured": round(weight / (1 + weight), 3),
                }
    return found


async def budget() -> Figures:
    """A thousand requests at once against a budget for a hundred: exactly a hundred are admitted."""
    with endpoint(0, ttft_ms=20) as url:
        flow = workflow([url], {"replicas": {"min": 1, "max": 1, "max_in_flight": 256}},
                        limits={"user": {"max_requests": 100}})  # fmt: skip
        async with served(flow) as client:
            sent = await asyncio.gather(*(client.ask("budget", user="one") for _ in range(1000)))
            return {**latencies(sent), "refusals": dict(Counter(one.slug for one in sent if one.status != 200))}


async def failing() -> Figures:
    """An endpoint that fails 100 % for 60 s sees at most 1.2 times the offered calls; the breaker opens, answers in at
    most 10 ms, lets one probe through, and closes after healing."""
    calls: list[float] = []
    fails = False

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                await reader.readexactly(length)
                calls.append(time.monotonic())
                if fails:
                    body, status = b'{"error":{"message":"injected","type":"server_error"}}', b"500 Error"
                else:
                    status = b"200 OK"
                    body = json.dumps({
                        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
                        "choices": [{"index": 0, "finish_reason": "stop",
                                     "message": {"role": "assistant", "content": "hello"}}],
                        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                    }).encode()  # fmt: skip
                writer.write(
                    b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                    % (status, len(body), body)
                )
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", ENDPOINT_PORT)
    async with server:
        flow = workflow([f"http://127.0.0.1:{ENDPOINT_PORT}/v1"], {"replicas": {"min": 2, "max": 2}},
                        resilience={"breaker": {"open_s": 2, "max_open_s": 5}})  # fmt: skip
        async with served(flow) as client:
            await client.offer(30, 3)
            calls.clear()
            fails = True
            sent = await client.offer(30, 60)
            during = list(calls)
            opened = [one for one in sent if one.slug == "circuit-open"]
            first = min(one.at for one in opened)
            fails = False
            healed_at = time.monotonic()
            after: list[Sent] = []
            while time.monotonic() < healed_at + 20 and sum(one.status == 200 for one in after) < 50:
                after += await client.offer(30, 1, seed=3)
            good = next((one for one in after if one.status == 200), None)
            return {
                "offered": len(sent),
                "upstream_calls": len(during),
                "calls_per_offered": round(len(during) / len(sent), 3),
                "calls_since_it_opened": sum(at > first for at in during),
                "open_answers": len(opened),
                "open_p50_ms": round(1000 * quantile([one.latency_s for one in opened], 0.5), 2),
                "open_p99_ms": round(1000 * quantile([one.latency_s for one in opened], 0.99), 2),
                "closed_after_healing_s": round(good.at - healed_at, 2) if good else None,
            }


SCENARIOS: dict[str, Callable[[], Awaitable[Figures]]] = {
    "slow-replica": slow_replica,
    "step": step,
    "overload": overload,
    "priority": priority,
    "tenants": tenants,
    "budget": budget,
    "failing": failing,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="comma list of scenarios: " + ", ".join(SCENARIOS))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    found: Figures = {}
    for name, scenario in SCENARIOS.items():
        if not args.only or name in args.only.split(","):
            found[name] = asyncio.run(scenario())  # type: ignore[arg-type]
            print(f"{name}: {scenario.__doc__}\n  {json.dumps(found[name])}", file=sys.stderr)
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
