"""A model endpoint that breaks the rules: a raw socket server whose scripts write exactly the bytes they want.

The first segment of the path names the script: `http://127.0.0.1:PORT/cut/v1` runs `cut`. After its script it waits
for the next request on the connection, or for the client to go away, and says so with `client_left`. It is an HTTP
proxy for every host, too: what it is asked is then a whole URL.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Literal
from urllib.parse import urlsplit

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]

SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def piece(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(delta: dict[str, object] | None = None, finish: str | None = None, **more: object) -> bytes:
    """One server-sent event with a chat completion chunk."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": choices, **more}).encode() + b"\n\n"


def response(body: bytes, status: str = "200 OK", kind: str = "application/json", extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def stream(*events: bytes, end: bytes = END) -> bytes:
    return SSE_HEAD + b"".join(piece(data) for data in events) + end


def error(status: str, message: str, extra: str = "") -> bytes:
    return response(
        json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode(), status, extra=extra
    )


class FaultServer:
    def __init__(self, scripts: dict[str, bytes | Script]) -> None:
        self.lane: Literal["fast", "sdk"] = "fast"
        """The lane of the clients that tests make for this server."""
        self._scripts = scripts
        self._connections: set[asyncio.Task[None]] = set()
        self.requests: list[tuple[str, dict[str, object]]] = []
        """(header block, body) of each request."""
        self.connections = 0
        self.asked = asyncio.Event()
        self.client_left = asyncio.Event()

    async def __aenter__(self) -> FaultServer:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def url(self, script: str) -> str:
        return f"http://127.0.0.1:{self.port}/{script}/v1"

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:")
                )
                self.requests.append((head, json.loads(await reader.readexactly(length))))
                self.asked.set()
                script = self._scripts[urlsplit(head.split()[1]).path.split("/")[1]]
                if callable(script):
                    await script(writer)
                else:
                    writer.write(script)
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            self.client_left.set()
            writer.close()
