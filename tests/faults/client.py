"""A client as it should be: it names each request by an idempotency key, and repeats it once, on a new connection, when
the connection broke before the answer was complete. What it is told counts, and nothing is told twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from faults.checker import Turn
from faults.operations import Operation, Outcome

ANSWER_S = 60.0
BACK_OFF_S = 0.1
"""Before the repetition: a process that was just killed may still hold its listening socket for some milliseconds."""
IN_PROGRESS_S = 10.0
"""A repetition that is told "still in progress" (409) asks again for so long."""
PAGE = 1000


class Client:
    """Requests to one server. `url` may change: a restarted server may have another port."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.retried = 0
        """Requests that were repeated because their connection broke."""

    async def __aenter__(self) -> Self:
        limit = aiohttp.ClientTimeout(total=ANSWER_S)
        self._kept = aiohttp.ClientSession(timeout=limit, connector=aiohttp.TCPConnector(limit=0))
        self._fresh = aiohttp.ClientSession(timeout=limit, connector=aiohttp.TCPConnector(limit=0, force_close=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._kept.close()
        await self._fresh.close()

    async def ask(self, operation: Operation) -> None:
        """Send it and write down how it ended. Raises nothing but cancellation."""
        operation.sent_s = time.monotonic()
        await self._attempt(operation, self._kept)
        if operation.outcome in (Outcome.UNKNOWN, Outcome.REFUSED) and operation.code != "client-timeout":
            self.retried += 1
            operation.first_attempt = operation.outcome
            await asyncio.sleep(BACK_OFF_S)
            until = time.monotonic() + IN_PROGRESS_S
            await self._attempt(operation, self._fresh)
            while operation.status == 409 and time.monotonic() < until:
                await asyncio.sleep(0.1)
                await self._attempt(operation, self._fresh)
        operation.ended_s = time.monotonic()

    async def history(self, session: str) -> list[Turn]:
        """All turns; none where the session does not exist. Raises `aiohttp.ClientError`."""
        turns: list[Turn] = []
        after: int | None = 0
        while after is not None:
            url = f"{self.url}/sessions/{quote(session)}/history?after={after}&limit={PAGE}"
            async with self._fresh.get(url) as response:
                if response.status == 404:
                    return []
                response.raise_for_status()
                page = await response.json()
            turns += [Turn(turn["role"], turn["content"] or "", turn["status"]) for turn in page["turns"]]
            after = page["next_after"]
        return turns

    async def ready(self) -> int:
        """Status of /readyz over a new connection. Raises `aiohttp.ClientError`."""
        async with self._fresh.get(f"{self.url}/readyz") as response:
            return response.status

    async def _attempt(self, operation: Operation, http: aiohttp.ClientSession) -> None:
        operation.attempts += 1
        operation.outcome, operation.status, operation.code, operation.answer = Outcome.UNKNOWN, 0, "", ""
        try:
            async with http.post(
                f"{self.url}/v1/chat/completions",
                json={
                    "model": "auto",
                    "stream": operation.streamed,
                    "messages": [{"role": "user", "content": operation.question}],
                },
                headers={"x-session-id": operation.session, "idempotency-key": operation.key},
            ) as response:
                operation.status = response.status
                operation.run_id = response.headers.get("x-request-id", "")
                if response.status != 200:
                    _failed(operation, Outcome.FAIL, await response.json(content_type=None))
                elif operation.streamed:
                    await _read_stream(operation, response)
                else:
                    _read_answer(operation, await response.json())
        except aiohttp.ClientConnectorError:
            operation.outcome, operation.code = Outcome.REFUSED, "connection-refused"
        except TimeoutError:
            operation.outcome, operation.code = Outcome.UNKNOWN, "client-timeout"
        except (aiohttp.ClientError, ConnectionError, ValueError) as error:
            operation.outcome, operation.code = Outcome.UNKNOWN, f"broken-connection ({type(error).__name__})"


def _read_answer(operation: Operation, body: dict[str, Any]) -> None:
    operation.first_byte_s = time.monotonic()
    choice = body["choices"][0]
    operation.answer = choice["message"]["content"]
    if choice["finish_reason"]:
        operation.outcome = Outcome.OK


async def _read_stream(operation: Operation, response: aiohttp.ClientResponse) -> None:
    """A stream that ends without `[DONE]` and without an error stays `unknown`."""
    finished = False
    operation.code = "torn-stream"
    texts: list[str] = []
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        data = line[6:].strip()
        if data == b"[DONE]":
            operation.answer = "".join(texts)
            operation.outcome = Outcome.OK if finished else Outcome.UNKNOWN
            operation.code = "" if finished else "no-finish-reason"
            return
        chunk = json.loads(data)
        if "error" in chunk:
            _failed(operation, Outcome.STREAM_ERROR if texts else Outcome.FAIL, chunk)
            return
        for choice in chunk["choices"]:
            finished = finished or bool(choice["finish_reason"])
            if text := choice["delta"].get("content"):
                if not texts and operation.first_byte_s is None:
                    operation.first_byte_s = time.monotonic()
                texts.append(text)


def _failed(operation: Operation, outcome: Outcome, body: dict[str, Any]) -> None:
    operation.outcome, operation.code = outcome, body["error"]["code"]
