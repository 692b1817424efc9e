"""Requests keep coming while processes are killed: only the ones in flight in the dead process may fail, and say so."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
from support.served import Served, served

RATE = 50
SECONDS_AROUND = 2.5


class Load:
    """An open loop of requests; `outcomes` counts status and error code."""

    def __init__(self, server: Served, http: aiohttp.ClientSession, name: str) -> None:
        self._name = name
        self._url = server.url + "/v1/chat/completions"
        self._http = http
        self.outcomes: Counter[str] = Counter()
        self.acknowledged: dict[str, list[str]] = {}

    async def run(self, seconds: float) -> None:
        sent = []
        for i in range(int(seconds * RATE)):
            sent.append(asyncio.create_task(self._one(f"load-{i % 20}", f"{self._name} {i}")))
            await asyncio.sleep(1 / RATE)
        await asyncio.gather(*sent)

    async def _one(self, session: str, text: str) -> None:
        body = {"model": "general", "messages": [{"role": "user", "content": text}]}
        async with self._http.post(self._url, json=body, headers={"x-session-id": session}) as response:
            answer = await response.json()
        if response.status == 200:
            self.outcomes["200"] += 1
            self.acknowledged.setdefault(session, []).append(text)
        else:
            self.outcomes[f"{response.status} {answer['error']['code']}"] += 1


async def test_requests_do_not_notice_the_death_of_an_actor(folder: Path) -> None:
    with served("--set", "agents.0.replicas.min=2", cwd=folder) as server:
        async with aiohttp.ClientSession() as http:
            for role in ("ray::Agent", "ray::SessionStore", "ray::Router", "ray::Aggregator", "ray::EventLog"):
                load = Load(server, http, role)
                running = asyncio.create_task(load.run(SECONDS_AROUND))
                await asyncio.sleep(0.5)
                next(p for p in server.family() if role in " ".join(p.cmdline())).kill()
                await running
                # Offline answers take a millisecond, so no more than a few can be in flight in one process.
                failed = {outcome: n for outcome, n in load.outcomes.items() if outcome != "200"}
                assert failed.keys() <= {"503 peer-lost"}, (role, load.outcomes)
                assert sum(failed.values()) <= 3, (role, load.outcomes)
                for session, texts in load.acknowledged.items():
                    said = [text for who, text in server.history(session) if who == "user"]
                    assert all(said.count(text) == 1 for text in texts), (role, session)
        assert server.stop() == 0
