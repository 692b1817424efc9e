"""HTTP over one connection, to the byte: who serves it is known, and it can be given up in any way a client can.

All ingress processes listen on the same port, and the kernel chooses. Who took a connection is read from the table of
its sockets, once it has answered.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import psutil

TRIES = 64
"""Connections that are made, at most, to meet a certain process."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


class Connection:
    """Of one client. Raises `ConnectionError` or `asyncio.IncompleteReadError` where it breaks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.port: int = writer.get_extra_info("sockname")[1]

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(data)}"]
        lines += ["content-type: application/json"] if data else []
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await self._writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer."""
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split(" ")[1]), headers

    async def pieces(self, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The body as it comes."""
        if "content-length" in headers:
            yield await self._reader.readexactly(int(headers["content-length"]))
            return
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)

    async def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The whole answer."""
        await self.send(method, path, body, headers)
        status, answered = await self.head()
        return Answer(status, answered, b"".join([piece async for piece in self.pieces(answered)]))

    def say_goodbye(self) -> None:
        """Nothing more will be asked; what is written still arrives."""
        self._writer.write_eof()

    def hang_up(self) -> None:
        """Nothing more is read either."""
        self._writer.close()

    def reset(self) -> None:
        """As when the client's machine loses power: a reset in place of a farewell."""
        self._writer.transport.abort()

    async def served_by(self, processes: Iterable[int]) -> int:
        """Which of them has the other end; 0: none."""
        for pid in processes:
            with suppress(psutil.NoSuchProcess):
                sockets = await asyncio.to_thread(psutil.Process(pid).net_connections, "tcp")
                if any(each.raddr and each.raddr.port == self.port for each in sockets):
                    return pid
        return 0


async def connection_to(port: int, pid: int) -> Connection:
    """A connection that this process serves. Raises `AssertionError` where it takes none."""
    for _ in range(TRIES):
        # One that was just killed may still hold its listening socket for some milliseconds.
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            found = await Connection.open(port)
            await found.ask("GET", "/healthz")
            if await found.served_by([pid]):
                return found
            found.hang_up()
    raise AssertionError(f"process {pid} took none of {TRIES} connections")


class Events:
    """A stream of server-sent events as it was received: complete ones, comments left out."""

    def __init__(self) -> None:
        self._received = bytearray()

    def add(self, piece: bytes) -> None:
        self._received += piece

    @property
    def raw(self) -> bytes:
        return bytes(self._received)

    @property
    def whole(self) -> list[bytes]:
        *events, _ = bytes(self._received).split(b"\n\n")
        return [event for event in events if not event.startswith(b":")]

    @property
    def last_id(self) -> int:
        """Of the last event that has one; 0: none."""
        return max((int(event[4 : event.index(b"\n")]) for event in self.whole if event.startswith(b"id: ")), default=0)

    @property
    def data(self) -> list[dict[str, Any]]:
        told = (event.split(b"data: ", 1)[1] for event in self.whole)
        return [json.loads(each) for each in told if each != b"[DONE]"]

    @property
    def text(self) -> str:
        """The tokens, joined."""
        return "".join(each["content"] for each in self.data if each["type"] == "token")

    @property
    def complete(self) -> bool:
        return self.whole[-1:] == [b"data: [DONE]"]

    @property
    def error(self) -> dict[str, Any] | None:
        return next((each["error"] for each in self.data if each["type"] == "error"), None)
