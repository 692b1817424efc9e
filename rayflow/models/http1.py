"""An HTTP/1.1 client for one endpoint: connections that are kept, and answers that are read when there is time.

General clients spend more on a streamed token than the token costs: a queue entry, a callback and a parser run for
each chunk. Here one read of the socket is one piece of the answer, however many chunks it holds, and while nobody asks
for more the socket is not read at all. llhttp (through httptools) does the parsing. What this does not do (proxies,
redirects, compression, HTTP/2) the SDK lane is for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from time import monotonic
from typing import cast
from urllib.parse import urlsplit

import httptools

READ_BYTES = 1 << 18
"""How much of an answer may wait in memory before the endpoint is slowed down."""
HEAD_BYTES = 64 << 10


class BrokenAnswer(OSError):
    """The connection ended or said something that is not HTTP before the answer was complete."""


class Connection(asyncio.Protocol):
    """One connection, and the answer that comes over it."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.done = False
        """Whether the answer is here to its end."""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._head: asyncio.Future[None] | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._paused = False
        self._reader: asyncio.Future[None] | None = None
        self._error: BrokenAnswer | None = None

    # --- for the client ---

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for the head of its answer. Raises `BrokenAnswer`."""
        assert self._transport is not None
        self.status, self.headers, self.done = 0, {}, False
        self._head_bytes = 0
        self._head = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        if self._error is not None:
            raise self._error
        await self._head

    async def read(self) -> bytes:
        """What has come of the body, at least something; nothing at its end. Raises `BrokenAnswer`."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        while not self._body:
            if self.done:
                return b""
            if self._error is not None:
                raise self._error
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        read = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._body_bytes = 0
        if not self.done:
            self._pause()
        return read

    @property
    def reusable(self) -> bool:
        """Whether another request may follow this answer."""
        return self.done and self.alive and self._parser.should_keep_alive()

    @property
    def alive(self) -> bool:
        return self._error is None and self._transport is not None and not self._transport.is_closing()

    def rest(self) -> None:
        """The answer was read; wait for the next request."""
        self._body.clear()
        self._parser = httptools.HttpResponseParser(self)
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()  # how else would we see that the endpoint closes it
        self.idle_since = monotonic()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, BrokenAnswer) as error:
            self._break(f"the endpoint does not speak HTTP: {error}")
            self.abort()
            return
        if self._body or self.done:
            self._wake()
        if self._body_bytes > READ_BYTES:
            self._pause()

    def eof_received(self) -> None:
        """The endpoint says no more. Without a length, that is the end of its answer."""
        if self.status and not self.done and not self.headers.keys() & {"content-length", "transfer-encoding"}:
            self.done = True
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._break(str(error) if error is not None else "the endpoint closed the connection")

    # --- httptools ---

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES:
            raise BrokenAnswer(f"the head of the answer is larger than {HEAD_BYTES} bytes")
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()  # an interim answer; the real one follows
            return
        self.status = status
        if self._head is not None and not self._head.done():
            self._head.set_result(None)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        self.done = self.status >= 200

    # --- inside ---

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _break(self, why: str) -> None:
        if self._error is None:
            self._error = BrokenAnswer(why)
        if self._head is not None and not self._head.done():
            self._head.set_exception(self._error)
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Answer:
    """An answer whose head is here. `close` it, read or not."""

    def __init__(self, endpoint: Endpoint, connection: Connection) -> None:
        self._endpoint = endpoint
        self._connection = connection
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers

    async def reads(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. While the caller is busy or rests, the socket is not read."""
        while read := await self._connection.read():
            yield read

    async def close(self) -> None:
        self._endpoint.give_back(self._connection)


class Endpoint:
    """`url`: where requests are posted. `headers` go with each. A connection idle for `keep_s` is not used again."""

    def __init__(self, url: str, headers: Mapping[str, str], connect_s: float, keep_s: float) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._connect_s = connect_s
        self._keep_s = keep_s
        self._head = _head(
            parts.netloc.rpartition("@")[2], parts.path + (f"?{parts.query}" * bool(parts.query)), headers
        )
        self._idle: list[Connection] = []

    async def post(self, body: bytes) -> Answer:
        """Raises `OSError` where there is no answer, `TimeoutError` (which is one) where there is no connection in
        time."""
        connection = self._kept() or await self._connect()
        try:
            await connection.ask(b"%s%d\r\n\r\n%s" % (self._head, len(body), body))
        except BaseException:
            connection.abort()
            raise
        return Answer(self, connection)

    def give_back(self, connection: Connection) -> None:
        if connection.reusable:
            connection.rest()
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _kept(self) -> Connection | None:
        """The connection that was used last: the others may grow old and be closed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.alive and monotonic() - connection.idle_since < self._keep_s:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_s):
            _, connection = await loop.create_connection(Connection, self._host, self._port, ssl=self._tls)
        return connection


def _head(host: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Everything before the length of the body. Raises ValueError for a header that would end another one."""
    ours = {"host": host, "content-type": "application/json", "accept-encoding": "identity"}
    given = {name.lower(): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in {**given, **ours}.items() if name != "content-length"]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header of a model endpoint has a line break in it")
    return ("\r\n".join([f"POST {target} HTTP/1.1", *lines, "content-length: "])).encode("latin-1")
