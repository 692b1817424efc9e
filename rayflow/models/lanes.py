"""Two ways to carry one request to an endpoint.

The fast lane speaks HTTP through aiohttp itself: one call costs about 0.1 ms of CPU. The SDK lane goes through the
openai package's own transport at several times that, and is there for what only the package can do: other
authentication schemes, query parameters, its environment of variants. Both take the address, keys and headers from
the same `AsyncOpenAI` object, and one contract suite runs over both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream

PATH = "/chat/completions"
MAX_CONNECTIONS = 10_000
"""The agent's own limit (replicas.max_in_flight) is the one that counts; the pool must never be a hidden second one."""
IDLE_CONNECTION_S = 4.0
"""Below the 5 s after which common servers close an idle connection, so that a request does not meet a closing one."""
READ_BYTES = 1 << 18
"""How much of an answer may wait in memory before the endpoint is slowed down."""

BROKEN = (httpx2.HTTPError, aiohttp.ClientError, OSError)
"""What a broken connection raises, on either lane."""


class NoAnswer(Exception):
    """The request got no answer at all; `__cause__` says why."""


class Answer(Protocol):
    """An answer whose head is there and whose body is still to be read."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Lookup ignores case."""
        ...

    def reads(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives. Raises one of `BROKEN`."""
        ...

    async def close(self) -> None:
        """Give the connection back where the body was read to its end, and close it where not."""
        ...


class Lane(Protocol):
    async def send(self, body: bytes) -> Answer:
        """Post a request. Raises `NoAnswer`."""
        ...

    async def close(self) -> None: ...


class SdkLane:
    def __init__(self, sdk: AsyncOpenAI) -> None:
        self._sdk = sdk

    async def send(self, body: bytes) -> Answer:
        try:
            # The SDK hands a raw response on as it is, unread, whatever its types say about streams.
            stream = self._sdk.post(
                PATH, content=body, cast_to=httpx2.Response, stream=True, stream_cls=AsyncStream[object]
            )
            return _SdkAnswer(cast(httpx2.Response, await stream))
        except APIStatusError as error:
            return _SdkAnswer(error.response)
        except (APIConnectionError, *BROKEN) as error:
            raise NoAnswer from error

    async def close(self) -> None:
        await self._sdk.close()


class _SdkAnswer:
    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    async def reads(self) -> AsyncGenerator[bytes, None]:
        if self._response.is_closed:
            yield self._response.content
            return
        async for read in self._response.aiter_bytes():
            yield read

    async def close(self) -> None:
        await self._response.aclose()


class FastLane:
    """`sdk` gives the address and the headers, which do not change; `connect_s` bounds the connect."""

    def __init__(self, sdk: AsyncOpenAI, connect_s: float) -> None:
        self._sdk = sdk
        self._url = str(sdk.base_url).rstrip("/") + PATH
        headers = {**sdk.default_headers, **sdk.auth_headers}
        self._headers = {name: value for name, value in headers.items() if isinstance(value, str)}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, body: bytes) -> Answer:
        session = self._session or self._open()
        try:
            return _FastAnswer(await session.post(self._url, data=body, allow_redirects=False))
        except BROKEN as error:
            raise NoAnswer from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._sdk.close()

    def _open(self) -> aiohttp.ClientSession:
        """Within the loop that uses it. The environment's proxy is looked up once: aiohttp would do it for each
        request, in a thread."""
        connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_CONNECTION_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            timeout=self._timeout,
            read_bufsize=READ_BYTES,
            proxy=_proxy(self._url),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self._session


class _FastAnswer:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def reads(self) -> AsyncGenerator[bytes, None]:
        """While the caller is busy or rests, the socket is not read: what arrives meanwhile comes in one read.

        It is the transport that rests. aiohttp's own pause also stops its parser, which then hands out the first of
        many chunks alone when it goes on (3.14): twice the wake-ups, and twice the wait.
        """
        content, connection = self._response.content, self._response.connection
        protocol = connection.protocol if connection is not None else None
        ended = protocol.closed if protocol is not None else None
        if protocol is None or ended is None:
            while read := await content.readany():
                yield read
            return
        ended.add_done_callback(self._connection_ended)
        try:
            while read := await content.readany():
                transport = protocol.transport
                if transport is None or transport.is_closing() or content.is_eof():
                    yield read
                    continue
                transport.pause_reading()
                yield read
                if not transport.is_closing():
                    transport.resume_reading()
        finally:
            ended.remove_done_callback(self._connection_ended)

    def _connection_ended(self, _: object) -> None:
        """aiohttp forgets to tell the reader when it closed the connection over broken chunks."""
        content = self._response.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the connection ended within the answer"))

    async def close(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


def _proxy(url: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for this address."""
    parts = urlsplit(url)
    proxies = getproxies()
    if parts.hostname and proxy_bypass(parts.hostname):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")
