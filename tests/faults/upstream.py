"""A model endpoint for the load: OpenAI's chat completions with a seeded latency, which can be told to fail.

It knows what it was asked: calls per question show repeated work, open calls at the end show leaked permits, and a
message of another session in a context shows mixed up histories.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from faults.answers import identity, pieces

LATENCY_S = (0.15, 0.25)
FIRST_TOKEN = 0.4
"""Share of the latency until the first token."""
STALL_S = 60.0


class Trouble(StrEnum):
    """Ways to fail. `truncated`: the stream ends in good order, but without a finish reason."""

    RATE_LIMITED = "429"
    BROKEN = "500"
    STALL = "stall"
    TRUNCATED = "truncated"
    RESET = "reset"


@dataclass(slots=True)
class Call:
    """One request as it was understood. `id` identifies it for the seeded choices."""

    question: str
    text: list[str]
    streamed: bool
    id: str


class Upstream:
    """`trouble` with probability `share` for each call; None: healthy. An async context manager."""

    def __init__(self, seed: int) -> None:
        self.trouble: Trouble | None = None
        self.share = 1.0
        self.calls: Counter[str] = Counter()
        """By question and agent."""
        self.open = 0
        self.under_way: Counter[str] = Counter()
        """Open calls, by question and agent."""
        self._closed = asyncio.Event()
        self.foreign: list[str] = []
        """Questions whose context held messages of another session."""
        self._seed = seed
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=1.0, handler_cancellation=True)

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        return app

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port: int = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def idle(self, patience_s: float) -> int:
        """Wait until no call is open; returns how many still are after `patience_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self.open:
                    self._closed.clear()
                    await self._closed.wait()
        return self.open

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        call = self._understand(await request.json())
        self.open += 1
        name = call.id.rsplit(" ", 1)[0]
        self.under_way[name] += 1
        try:
            return await self._answer(request, call)
        finally:
            self.open -= 1
            self.under_way -= Counter([name])
            self._closed.set()

    def _understand(self, body: dict[str, Any]) -> Call:
        said = body["messages"]
        agent, edition = identity(said[0]["content"])
        questions = [message["content"] for message in said if message["role"] == "user"]
        question = questions[-1]
        session = question.split(" ")[3]
        if any(f" of {session} " not in earlier for earlier in questions):
            self.foreign.append(question)
        name = f"{agent} {question}"
        self.calls[name] += 1
        return Call(question, pieces(agent, edition, question), bool(body.get("stream")), f"{name} {self.calls[name]}")

    async def _answer(self, request: web.Request, call: Call) -> web.StreamResponse:
        rng = random.Random(f"{self._seed} {call.id}")
        trouble = self.trouble if rng.random() < self.share else None
        latency_s = rng.uniform(*LATENCY_S)
        if trouble in (Trouble.RATE_LIMITED, Trouble.BROKEN):
            status = int(trouble)
            return web.json_response(
                {"error": {"message": "injected", "type": "injected", "code": None}}, status=status
            )
        if call.streamed:
            return await self._stream(request, call, latency_s, trouble)
        await asyncio.sleep(STALL_S if trouble is Trouble.STALL else latency_s)
        if trouble is Trouble.RESET:
            return _reset(request)
        finish = None if trouble is Trouble.TRUNCATED else "stop"
        message = {"role": "assistant", "content": "".join(call.text)}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return web.json_response({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE})

    async def _stream(
        self, request: web.Request, call: Call, latency_s: float, trouble: Trouble | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await asyncio.sleep(latency_s * FIRST_TOKEN)
        await response.prepare(request)
        pause_s = latency_s * (1 - FIRST_TOKEN) / len(call.text)
        for i, text in enumerate(call.text):
            if trouble is not None and i == len(call.text) // 2:
                if trouble is Trouble.STALL:
                    await asyncio.sleep(STALL_S)
                return _reset(request) if trouble is Trouble.RESET else response
            await response.write(_chunk({"content": text}, None))
            await asyncio.sleep(pause_s)
        await response.write(_chunk({}, "stop") + b"data: [DONE]\n\n")
        return response


_HEAD = {"id": "chatcmpl-0", "created": 1_700_000_000, "model": "fake"}
_USAGE = {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70}


def _chunk(delta: dict[str, str], finish: str | None) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({**_HEAD, "object": "chat.completion.chunk", "choices": choices}).encode() + b"\n\n"


def _reset(request: web.Request) -> web.StreamResponse:
    """Break the connection now. The response is for aiohttp, which has nobody left to send it to."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
