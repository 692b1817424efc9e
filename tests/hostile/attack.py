"""Send every statement as a tenant, and see what comes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx2

from hostile.corpus import Attack
from hostile.scene import CANARY, KEYS, Scene

SAMPLE_S = 0.002
PROBLEM = "urn:rayflow:problem:"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`peak_bytes`: most resident memory of the process that worked on it, as far as samples saw it."""

    attack: Attack
    slug: str
    seconds: float
    peak_bytes: int
    leaked: bool

    @property
    def expected(self) -> bool:
        return self.slug in self.attack.expected

    def __str__(self) -> str:
        sql = " ".join(self.attack.sql.split())[:90]
        return f"{self.slug or 'answered':16} {self.seconds:6.2f} s {self.peak_bytes >> 20:5} MiB  {sql}"


async def attack(scene: Scene, http: httpx2.AsyncClient, attacks: Iterable[Attack]) -> list[Outcome]:
    await ask(http, "SELECT 1")  # so that no statement pays for the start
    return [await _one(scene, http, each) for each in attacks]


async def ask(http: httpx2.AsyncClient, sql: str, tenant: str = "acme", **more: object) -> httpx2.Response:
    body = {"sql": sql, **more}
    return await http.post("/analytics/query", json=body, headers={"x-api-key": KEYS[tenant]})


async def _one(scene: Scene, http: httpx2.AsyncClient, attack: Attack) -> Outcome:
    watch = Watch(scene)
    sampling = asyncio.create_task(watch.sample())
    began = time.perf_counter()
    answer = await ask(http, scene.written(attack.sql))
    seconds = time.perf_counter() - began
    sampling.cancel()
    slug = "" if answer.status_code == 200 else answer.json()["type"].removeprefix(PROBLEM)
    # A refusal may quote the statement, which names no secret; an answer of rows must have none of others.
    return Outcome(attack, slug, seconds, watch.peak_bytes, CANARY in answer.text)


class Watch:
    """Samples the processes that the analyst's process forks."""

    def __init__(self, scene: Scene) -> None:
        self._analyst = scene.analyst
        self.peak_bytes = 0

    async def sample(self) -> None:
        while True:
            if (parent := self._analyst.pid) is not None:
                for pid in _children(parent):
                    self.peak_bytes = max(self.peak_bytes, _peak_bytes(pid))
            await asyncio.sleep(SAMPLE_S)


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def _peak_bytes(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)
