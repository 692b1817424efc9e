"""An HTTP/1.1 client for one endpoint: connections that are kept, and answers that are read when there is time.

General clients spend more on a streamed token than the token costs: a queue entry, a callback and a parser run for
each chunk. Here one read of the socket is one piece of the answer, however many chunks it holds, and while nobody asks
for more the socket is not read at all. llhttp (through httptools) does the parsing. What this does not do (proxies,
redirects, compression, HTTP/2) the SDK lane is for.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import httptools
from aiohappyeyeballs import start_connection

from rayflow.errors import ConfigurationError

READ_BYTES = 1 << 18
"""How much of an answer may wait in memory before the endpoint is slowed down."""
PULL_BYTES = 16 << 10
"""How much is read at once of what came while the socket was not watched."""
HEAD_BYTES = 64 << 10
"""How much may come without any of the body in it: heads, interim answers, trailers."""
NEXT_ADDRESS_S = 0.25
"""How long a host's first address has before the next one is tried beside it (RFC 8305)."""

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(r"[\t\x20-\x7e]*")
FRAMING = frozenset({"content-length", "transfer-encoding"})


class BrokenAnswer(OSError):
    """The connection ended or said something that is not HTTP before the answer was complete."""


class Connection(asyncio.Protocol):
    """One connection, and the answer that comes over it. `plain`: its socket, where nothing stands between that and
    HTTP."""

    def __init__(self, plain: socket.socket | None = None) -> None:
        self.idle_since = 0.0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.done = True
        """Whether the answer is here to its end, or nothing was asked yet."""
        self._plain = plain
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._keep_alive = False
        self._head: asyncio.Future[None] | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._bodiless_bytes = 0
        self._paused = False
        self._reader: asyncio.Future[None] | None = None
        self._error: BrokenAnswer | None = None

    # --- for the client ---

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for the head of its answer. Raises `BrokenAnswer`."""
        if self._error is not None:
            raise self._error
        assert self._transport is not None
        self.status, self.headers, self.done = 0, {}, False
        self._bodiless_bytes = 0
        self._head = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._head

    async def read(self) -> bytes:
        """What has come of the body, at least something; nothing at its end. Raises `BrokenAnswer`."""
        while not self._body:
            if self.done:
                return b""
            if self._error is not None:
                raise self._error
            self._resume()
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._take()

    def ready(self) -> bytes:
        """As `read`, but nothing where it would wait or raise."""
        if not self._body:
            self._pull()
        return self._take() if self._body else b""

    @property
    def reusable(self) -> bool:
        """Whether another request may follow: the answer is here to its end, and the request went out to its own."""
        if not (self.done and self._keep_alive and self.alive):
            return False
        return self._transport is not None and not self._transport.get_write_buffer_size()

    @property
    def alive(self) -> bool:
        return self._error is None and self._transport is not None and not self._transport.is_closing()

    def rest(self, now: float) -> None:
        """Wait for the next request."""
        self._forget()
        self._resume()  # how else would we see that the endpoint closes it
        self.idle_since = now

    def abort(self, why: str = "the client closed the connection") -> None:
        """Whoever waits for the answer is told why."""
        self._break(why)
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.done:  # it must not become the answer to the next request
            self.abort("the endpoint spoke without being asked")
            return
        body_bytes = self._body_bytes
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.abort(f"the endpoint does not speak HTTP as expected: {error}")
            return
        self._bodiless_bytes = self._bodiless_bytes + len(data) if self._body_bytes == body_bytes else 0
        if self._bodiless_bytes > HEAD_BYTES:
            self.abort(f"the head of the answer is larger than {HEAD_BYTES} bytes")
            return
        if self._body or self.done:
            self._wake()
        if self._body_bytes > READ_BYTES:
            self._pause()

    def eof_received(self) -> None:
        """The endpoint says no more. Without a length, that is the end of its answer."""
        if self.status and not self.done and not self.headers.keys() & FRAMING:
            self.done = True
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._break(str(error) if error is not None else "the endpoint closed the connection")

    # --- httptools ---

    def on_message_begin(self) -> None:
        if self.done:
            raise BrokenAnswer("a second answer in the same read")  # to the parser, which ends there

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # a trailer says nothing new
            self.headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

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
        self._keep_alive = self._parser.should_keep_alive()  # a moment later the parser has forgotten

    # --- inside ---

    def _forget(self) -> None:
        self._body.clear()
        self._body_bytes = 0

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _take(self) -> bytes:
        read = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._forget()
        if not self.done:
            self._pause()
        return read

    def _pull(self) -> None:
        """Take what has come while the socket was not watched: to watch it again for one read takes longer than the
        read. An end or an error stays there for the transport to find."""
        if self._plain is None or self.done or not (self._paused and self.alive):
            return
        try:
            data = self._plain.recv(PULL_BYTES)
        except OSError:
            return
        if data:
            self.data_received(data)

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

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
    """An answer whose head is here. `close` it, read or not. Header names are in lower case; the first of several
    headers with one name is the one that counts."""

    def __init__(self, endpoint: Endpoint, connection: Connection) -> None:
        self._endpoint = endpoint
        self._connection = connection
        self._closed = False
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers

    async def read(self) -> bytes:
        """What has come of the body, at least something; nothing at its end. Raises `BrokenAnswer`. While nobody calls
        it, the socket is not read."""
        return await self._connection.read()

    def ready(self) -> bytes:
        """As `read`, but nothing where it would wait or raise."""
        return self._connection.ready()

    async def close(self) -> None:
        if not self._closed:  # the connection may be another answer's by now
            self._closed = True
            self._endpoint.give_back(self._connection)


class Endpoint:
    """`url`: where requests are posted. `headers` go with each. A connection idle for `keep_s` is closed.

    Raises `ConfigurationError` for a host or a header that cannot be sent.
    """

    def __init__(self, url: str, headers: Mapping[str, str], connect_s: float, keep_s: float) -> None:
        parts = urlsplit(url)
        self._host = _host(parts.hostname or "")
        self._tls = _tls() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._connect_s = connect_s
        self._keep_s = keep_s
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        self._head = _head(parts.netloc.rpartition("@")[2], target, headers)
        self._open: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        """The one that was used last is the last."""
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(self, body: bytes, more: bytes = b"") -> Answer:
        """`more`: headers of this request alone, each with its line break. Raises `OSError` where there is no answer,
        `TimeoutError` (which is one) where there is no connection in time."""
        connection = self._kept() or await self._connect()
        try:
            await connection.ask(b"%s%d\r\n%s\r\n%s" % (self._head, len(body), more, body))
            coding = connection.headers.get("content-encoding", "identity")
            if coding != "identity" and connection.status < 300:
                raise BrokenAnswer(f"the answer is compressed ({coding}) unasked; lane: sdk can read it")
        except BaseException:
            self._drop(connection)
            raise
        return Answer(self, connection)

    def give_back(self, connection: Connection) -> None:
        if not connection.reusable:
            self._drop(connection)
            return
        loop = asyncio.get_running_loop()
        connection.rest(loop.time())
        self._idle.append(connection)
        if self._sweep_timer is None:
            self._sweep_timer = loop.call_later(self._keep_s, self._sweep, loop)

    def close(self) -> None:
        """Answers that are still being read break."""
        self._closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for connection in self._open:
            connection.abort()
        self._open.clear()
        self._idle.clear()

    def _kept(self) -> Connection | None:
        """The connection that was used last: the others may grow old and be closed."""
        too_old = asyncio.get_running_loop().time() - self._keep_s
        while self._idle:
            connection = self._idle.pop()
            if connection.alive and connection.idle_since > too_old:
                return connection
            self._drop(connection)
        return None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        too_old = loop.time() - self._keep_s
        while self._idle and self._idle[0].idle_since <= too_old:
            self._drop(self._idle.popleft())
        self._sweep_timer = (
            loop.call_at(self._idle[0].idle_since + self._keep_s, self._sweep, loop) if self._idle else None
        )

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.abort()

    async def _connect(self) -> Connection:
        """The loop's own connect would try the host's addresses one after the other (uvloop cannot do otherwise), and
        one that does not answer would use up the whole time."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_s):
            addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            sock = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S, loop=loop)
            name = self._host if self._tls else None
            try:
                made = partial(Connection, None if self._tls else sock)
                _, connection = await loop.create_connection(made, sock=sock, ssl=self._tls, server_hostname=name)
            except BaseException:
                sock.close()
                raise
        if self._closed:
            connection.abort()
            raise BrokenAnswer("the client is closed")
        self._open.add(connection)
        return connection


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _host(name: str) -> str:
    try:
        name.encode("idna")
    except UnicodeError as error:
        raise ConfigurationError(f"models: {name!r} cannot be looked up as a host: {error}") from None
    return name


def _head(host: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Everything before the length of the body. Raises `ConfigurationError`, which names the header but does not show
    its value."""
    given = {name.lower(): value for name, value in headers.items()}
    sent = {"host": host, "content-type": "application/json", **given, "accept-encoding": "identity"}
    for name, value in sent.items():
        why = (
            "is not a name that HTTP allows"
            if not NAME.fullmatch(name)
            else "has a line break or something else that is not printable ASCII in its value"
            if not VALUE.fullmatch(value)
            else "is set by the HTTP client itself; leave it out"
            if name in FRAMING
            else ""
        )
        if why:
            raise ConfigurationError(f"models: header {name!r} for the endpoint {host} {why}")
    lines = [f"{name}: {value}" for name, value in sent.items()]
    return "\r\n".join([f"POST {target} HTTP/1.1", *lines, "content-length: "]).encode()
