"""Stopping and reconfiguring under load: nobody who looks at `/readyz` loses a request, and what is cut is told so."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
from support.served import Served, rayflow, served

from rayflow.api.model_faults import Behaviour
from rayflow.api.model_server import ModelServer, make_server
from rayflow.errors import Exit

RATE = 50
LOOK_S = 0.1
WORKFLOW = """
name: team
agents:
  - name: first
    model: paced
    system_prompt: {prompt}
    replicas: {{min: 2}}
{more}models:
  - name: paced
    provider: openai
    base_url: {url}
    api_key: none
"""
SECOND = "  - name: second\n"


@asynccontextmanager
async def model(**behaviour: float) -> AsyncIterator[str]:
    """A model's endpoint, and its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = make_server(ModelServer(Behaviour(**behaviour)))  # type: ignore[arg-type]
        serving = asyncio.create_task(server._serve([listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server.should_exit = server.force_exit = True
        await serving


def write(folder: Path, url: str, prompt: str = "Be brief.", more: str = "") -> Path:
    file = folder / "team.yaml"
    file.write_text(WORKFLOW.format(url=url, prompt=prompt, more=more))
    return file


class Clients:
    """An open loop of requests, every other one a stream, behind a load balancer that looks at `/readyz`."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http
        self.outcomes: Counter[str] = Counter()
        self.away = asyncio.Event()
        """The load balancer sends no more."""

    async def run(self) -> None:
        sent, looking = [], asyncio.create_task(self._look())
        while not self.away.is_set():
            sent.append(asyncio.create_task(self._one(stream=len(sent) % 2 == 0)))
            await asyncio.sleep(1 / RATE)
        await asyncio.gather(looking, *sent)

    async def _look(self) -> None:
        ready = True
        while ready and not self.away.is_set():
            await asyncio.sleep(LOOK_S)
            async with self._http.get(self._url + "/readyz") as response:
                ready = response.status == 200
        self.away.set()

    async def _one(self, stream: bool) -> None:
        body = {"model": "first", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}
        try:
            async with self._http.post(self._url + "/v1/chat/completions", json=body) as response:
                text = await response.text()
        except aiohttp.ClientError as error:
            self.outcomes[repr(error)] += 1
            return
        whole = text.endswith("data: [DONE]\n\n") if stream else "choices" in text
        self.outcomes["ok" if response.status == 200 and whole else f"{response.status} {text[-200:]}"] += 1


@asynccontextmanager
async def under_load(server: Served) -> AsyncIterator[Clients]:
    """Clients who have begun, until the load balancer sends them away."""
    async with aiohttp.ClientSession() as http:
        clients = Clients(server.url, http)
        running = asyncio.create_task(clients.run())
        await asyncio.sleep(1)
        yield clients
        await running


async def models(server: Served) -> list[str]:
    _, _, raw = await asyncio.to_thread(server.request, "GET", "/v1/models")
    return [model["id"] for model in json.loads(raw)["data"]]


async def test_reloading_and_stopping_under_load_fail_no_request(folder: Path) -> None:
    async with model(ttft_ms=100, tokens_per_s=50, output_tokens=20) as url:
        file = write(folder, url)
        with served(str(file), cwd=folder) as server:
            async with under_load(server) as clients:
                write(folder, url, prompt="Be polite.", more=SECOND)
                reloaded = await asyncio.to_thread(rayflow, "reload", cwd=folder)
                assert reloaded.returncode == Exit.OK, reloaded.stderr
                said = reloaded.stdout.splitlines()
                assert any(line.startswith("replaced") and "agent/first/0" in line for line in said), said
                assert any(line.startswith("added") and "agent/second/0" in line for line in said), said
                assert await models(server) == ["team", "first", "second"]
                clients.away.set()
            assert clients.outcomes.keys() == {"ok"}, clients.outcomes

            async with under_load(server) as clients:
                server.process.send_signal(signal.SIGTERM)
            assert clients.outcomes.keys() == {"ok"}, clients.outcomes
            assert await asyncio.to_thread(server.process.wait, 60) == Exit.OK


async def test_what_cannot_be_reloaded_changes_nothing(folder: Path) -> None:
    nothing = rayflow("reload", cwd=folder)
    assert (nothing.returncode, "nothing runs on the state folder" in nothing.stderr) == (Exit.DEPENDENCY, True)
    async with model() as url:
        file = write(folder, url)
        with served(str(file), cwd=folder) as server:
            for text, said in (
                (file.read_text().replace("name: team", "name: crew"), "name cannot change"),
                (file.read_text().replace("replicas:", "replcas:"), "team.yaml:7:5"),
            ):
                file.write_text(text)
                refused = await asyncio.to_thread(rayflow, "reload", cwd=folder)
                assert refused.returncode == Exit.CONFIG, refused.stderr
                assert said in refused.stderr
                assert await models(server) == ["team", "first"]
                write(folder, url)
            write(folder, url, more=SECOND)
            server.process.send_signal(signal.SIGHUP)
            while "second" not in await models(server):
                await asyncio.sleep(0.1)
            assert server.stop() == 0


async def test_a_stream_that_outlasts_the_drain_budget_ends_with_an_error_event(folder: Path) -> None:
    async with model(tokens_per_s=1, output_tokens=60) as url:
        file = write(folder, url)
        with served(str(file), "--set", "processing.drain_s=1", cwd=folder) as server:
            answer = await _stopped_in_mid_stream(server, signals=1)
            assert answer.endswith("\n\n")
            assert json.loads(answer.strip().rpartition("data: ")[2])["error"]["code"] == "unavailable"
            assert await asyncio.to_thread(server.process.wait, 60) == Exit.PARTIAL


async def test_a_second_signal_waits_for_nothing(folder: Path) -> None:
    async with model(tokens_per_s=1, output_tokens=60) as url:
        file = write(folder, url)
        with served(str(file), "--set", "processing.drain_s=600", cwd=folder) as server:
            family = server.family()
            answer = await _stopped_in_mid_stream(server, signals=2)
            assert json.loads(answer.strip().rpartition("data: ")[2])["error"]["code"] == "unavailable"
            assert await asyncio.to_thread(server.process.wait, 30) == Exit.PARTIAL
            _, left = await asyncio.to_thread(psutil.wait_procs, family, 10)
            assert not left


async def _stopped_in_mid_stream(server: Served, signals: int) -> str:
    """All of the answer to a client whose server is told to stop when the stream has begun."""
    body = {"model": "first", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    async with (
        aiohttp.ClientSession() as http,
        http.post(server.url + "/v1/chat/completions", json=body) as response,
    ):
        head = await response.content.readany()
        for _ in range(signals):
            server.process.send_signal(signal.SIGTERM)
            while await _ready(server, http):
                await asyncio.sleep(0.02)
        return (head + await response.read()).decode()


async def _ready(server: Served, http: aiohttp.ClientSession) -> bool:
    try:
        async with http.get(server.url + "/readyz") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
