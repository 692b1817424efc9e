"""Two days of a busy, imperfect system: every kind of event that a report looks at, with seeded chance."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from rayflow.analytics.convert import to_rows
from rayflow.analytics.log import SegmentLog
from rayflow.analytics.opened import Batch
from rayflow.analytics.rolling import roll_all
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
HOUR_US = 3_600_000_000
AGENTS = ("billing", "technical", "chitchat")
MODELS = {"billing": "small", "technical": "large", "chitchat": "small"}


def events(seed: int = 7, runs: int = 600) -> list[Event]:
    """From a day before `NOON` to a day after it; the second day is slower and fails more often."""
    chance = random.Random(seed)
    return [*_system(chance), *(event for n in range(runs) for event in _run(n, chance))]


def write(folder: Path, given: list[Event]) -> list[Path]:
    """As two Parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    halves = given[: len(given) // 2], given[len(given) // 2 :]
    files = [folder / f"part-{n}.parquet" for n in range(len(halves))]
    for file, half in zip(files, halves, strict=True):
        pq.write_table(to_rows([Batch("here", 0, len(half), encode_lines(half))]), file)
    return files


def write_log(root: Path, given: list[Event]) -> list[Path]:
    """As a log, half of it in Parquet and half in an open segment. Returns the Parquet files."""
    root.mkdir(parents=True, exist_ok=True)
    half = len(given) // 2
    for part, rolled in ((given[:half], True), (given[half:], False)):
        log = SegmentLog(root, "eventlog/0", 1 << 30, 3600.0)
        log.append([EventBatch("here" if rolled else "there", 0, len(part), encode_lines(part))])
        log.close()
        if rolled:
            roll_all(root, "eventlog/0")
    return sorted(root.glob("date=*/*.parquet"))


def _run(n: int, chance: random.Random) -> Iterator[Event]:
    second_day = n % 2
    at = NOON_US + (second_day - 1) * 24 * HOUR_US + chance.randrange(24 * HOUR_US - 60_000_000)
    tenant, user = chance.choice(("", "acme", "globex")), f"user-{n % 17}"
    run_id = f"run_{n:05d}"
    job = "job-1" if n % 11 == 0 else ""
    about = {
        "run_id": run_id, "tenant": tenant, "user_id": user, "session_id": f"sess-{n % 50}", "workflow": "support",
        "channel": "batch" if job else "chat", "job_id": job,
    }  # fmt: skip
    agent = chance.choice(AGENTS)
    strategy = chance.choice(("keyword", "default", "delegation"))
    took = chance.lognormvariate(6 + second_day, 0.8)
    status = "cancelled" if chance.random() < 0.05 else "error" if chance.random() < 0.05 + 0.1 * second_day else "ok"
    error = chance.choice(("model-timeout", "overloaded")) if status == "error" else ""
    yield Event("run.started", at, **about)
    facts = {"agents": [agent], "reason": "by the rules"}
    yield Event("run.routed", at + 1, strategy=strategy, confidence=chance.random(), data=facts, **about)
    end = at + round(took * 1000)
    if chance.random() < 0.1:
        yield Event("agent.fallback", at + 2, agent=agent, data={"degraded": True}, **about)
    use = {"prompt_tokens": chance.randrange(1, 900), "completion_tokens": chance.randrange(1, 300)}
    cost = use["prompt_tokens"] * 1e-6 if MODELS[agent] == "large" else None
    model = "" if error == "overloaded" else MODELS[agent]
    yield Event(
        "agent.finished", end, agent=agent, model=model, status=status, error=error, queue_ms=chance.expovariate(0.01),
        duration_ms=took, ttft_ms=took / 5, cost_usd=cost if model else None, **(use if model else {}), **about,
    )  # fmt: skip
    if chance.random() < 0.2:
        judge = {"model": "judge", "cost_usd": 0.002, "prompt_tokens": 5, "completion_tokens": 1}
        yield Event("model.finished", end, status="ok", duration_ms=50.0, **judge, **about)
    ttft = took / 5 if n % 3 else None
    message = "no answer in 60 s | <late>" if error else ""
    yield Event(
        "run.finished", end + 1, status=status, error=error, error_message=message, duration_ms=took + 3, ttft_ms=ttft,
        **use, **about,
    )  # fmt: skip
    for k in range(chance.choice((0, 0, 1, 2))):  # the second opinion takes the first one back
        score = chance.choice((-1.0, 1.0, 0.5))
        yield Event("feedback.given", end + (k + 1) * 1_000_000, score=score, **about)
    if n % 40 == 0:
        session = {**about, "run_id": ""}
        yield Event("feedback.given", end + 5_000_000, score=0.25, data={"comment": "fine"}, **session)


def _system(chance: random.Random) -> Iterator[Event]:
    for hour in range(-24, 24):
        at = NOON_US + hour * HOUR_US
        facts = {"cpu_usage": chance.random(), "memory_usage": 0.3 + 0.6 * chance.random()}
        yield Event("system.sampled", at, "coordinator", data=facts)
        before = chance.randrange(1, 5)
        after = before + chance.choice((-1, 1))
        agent = chance.choice(AGENTS)
        facts = {"from": before, "to": after, "reason": "calls wait"}
        yield Event("pool.scaled", at + 1, "coordinator", agent=agent, strategy="queue_depth", data=facts)
    for n in range(5):
        at = NOON_US + n * HOUR_US
        yield Event("actor.lost", at, "router/0", epoch=n, error_message="connection lost")
        yield Event("actor.restarted", at + 1, "router/0", epoch=n + 1, data={"attempt": n})
    yield Event("actor.parked", NOON_US + 6 * HOUR_US, "agent/billing/1", error_message="exit code 137")
    for hour, kind, score in ((1, "alert.raised", 0.2), (2, "alert.cleared", 0.01), (3, "alert.raised", 0.4)):
        facts = {"metric": "error_rate", "direction": "above", "threshold": 0.05, "window_s": 60}
        yield Event(kind, NOON_US + hour * HOUR_US, "eventlog/0", score=score, data=facts)
    for status in ("ok", "ok", "error", "cancelled"):
        yield Event("workflow.tracked", NOON_US + 5, "client/1", workflow="nightly", status=status, duration_ms=500.0)
    yield Event("batch.started", NOON_US + 1, "batch/1", job_id="job-1", data={"input": "a.jsonl", "items": 60})
    facts = {"ok": 50, "failed": 10}
    yield Event("batch.finished", NOON_US + 2 * HOUR_US, "batch/1", job_id="job-1", status="ok", data=facts)
